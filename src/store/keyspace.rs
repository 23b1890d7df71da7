//! The keys of one shard and the one door through which they change.
//!
//! `apply` joins one stamped effect into one key. A local write mints its stamp while the key is in hand and goes
//! through the same door as a write that arrived from a peer.

pub mod hot;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::counts::{Counts, Tally};
use crate::base::ids::{Db, SLOTS_PER_PARTITION, Slot};
use crate::base::rng::Rng;
use crate::base::slot::slot_of;
use crate::base::time::DeadlineMs;
use crate::mem::entry::{Entry, NO_DEADLINE_MS, View};
use crate::mem::table::ScanTable;
use crate::merge::key::{Deadline, KeyState};
use crate::merge::op::{Op, SetDeadline};
use crate::merge::realm::Realm;
use crate::merge::stamp::Stamp;

/// A key with what finding it needs, computed once per command.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    /// The key.
    pub bytes: &'a [u8],
    /// Its hash under the realm's seed.
    pub hash: u64,
    /// Its slot.
    pub slot: Slot,
}

impl<'a> KeyRef<'a> {
    /// Hashes a key both ways.
    #[inline]
    pub fn new(realm: &Realm, bytes: &'a [u8]) -> Self {
        Self { bytes, hash: realm.hash(bytes), slot: slot_of(bytes) }
    }
}

/// A packed key.
pub type Packed = Entry<KeyState>;

type Table = ScanTable<Packed>;

/// See the file's head.
pub struct Keyspace {
    realm: Arc<Realm>,
    first_partition: usize,
    slots: usize,
    dbs: Vec<Option<Box<[Table]>>>,
    counts: Counts,
    /// Deadlines in the future, and the keys they belong to. May name keys that are gone; checked when they fall due.
    due: BTreeSet<Due>,
    /// Deadlines that have passed of keys that are still kept because a late write could revive them.
    past: BTreeSet<Due>,
    /// Per partition, keys that hold something to forget once it is stable.
    garbage: Vec<VecDeque<Garbage>>,
    /// Per database and partition, the last flush: older writes are void, late ones too.
    floors: Vec<Stamp>,
    /// Per partition, the latest stamp ever forgotten: local writes are minted above it.
    forgotten: Vec<Stamp>,
    /// Tables cut off by a flush, freed in slices.
    trash: Vec<Table>,
    databases: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Due {
    at: DeadlineMs,
    hash: u64,
    slot: Slot,
    db: Db,
}

#[derive(Clone, Copy, Debug)]
struct Garbage {
    hash: u64,
    slot: Slot,
    db: Db,
}

impl Keyspace {
    /// An empty keyspace of `databases` databases for partitions `first..end`.
    pub fn new(realm: Arc<Realm>, first: usize, end: usize, databases: usize) -> Self {
        let width = end - first;
        Self {
            realm,
            first_partition: first,
            slots: width * SLOTS_PER_PARTITION,
            dbs: (0..databases).map(|_| None).collect(),
            counts: Counts::new(databases, width),
            due: BTreeSet::new(),
            past: BTreeSet::new(),
            garbage: (0..width).map(|_| VecDeque::new()).collect(),
            floors: vec![Stamp::ZERO; databases * width],
            forgotten: vec![Stamp::ZERO; width],
            trash: Vec::new(),
            databases,
        }
    }

    /// The realm all cores of this node share.
    pub fn realm(&self) -> &Arc<Realm> {
        &self.realm
    }

    /// How many databases there are.
    pub fn databases(&self) -> usize {
        self.databases
    }

    /// The partitions kept here: first, and one past the last.
    pub fn partitions(&self) -> (usize, usize) {
        (self.first_partition, self.first_partition + self.garbage.len())
    }

    /// The packed key, deleted and expired ones included.
    #[inline]
    pub fn find(&self, db: Db, key: &KeyRef<'_>) -> Option<&Packed> {
        let tables = self.dbs[usize::from(db.0)].as_ref()?;
        tables[self.table_index(key.slot)].find(key.hash, |entry| entry.key() == key.bytes)
    }

    /// The latest stamp a new write of this key must be above.
    pub fn floor(&self, db: Db, key: &KeyRef<'_>) -> Stamp {
        let base = self.base_floor(db, key.slot);
        self.find(db, key).map_or(base, |entry| self.realm.origins.later(base, self.newest_of(entry)))
    }

    /// The latest stamp anything in a partition's database is known to be below: flushes and what was forgotten.
    pub fn base_floor(&self, db: Db, slot: Slot) -> Stamp {
        let local = self.local(slot);
        let forgotten = self.forgotten[local];
        let floor = self.floors[usize::from(db.0) * self.forgotten.len() + local];
        self.realm.origins.later(forgotten, floor)
    }

    /// The one door: joins an effect into a key. `mint` is given the floor of the key and returns the stamp (a merged
    /// write returns the stamp it came with). Returns the stamp and whether anything changed.
    ///
    /// The key is looked up once, unless nothing of it is left to keep.
    pub fn apply(&mut self, db: Db, key: &KeyRef<'_>, op: &Op<'_>, mint: impl FnOnce(Stamp) -> Stamp) -> (Stamp, bool) {
        let base = self.base_floor(db, key.slot);
        let flush = self.flush_floor(db, key.slot);
        let index = self.table_index(key.slot);
        // Split borrows instead of a clone of the realm: its count of owners is shared by all cores.
        let Self { realm, dbs, slots, .. } = self;
        let realm: &Realm = realm;
        let table = &mut tables_of(dbs, *slots, db)[index];
        let Some(entry) = table.find_mut(key.hash, |entry| entry.key() == key.bytes) else {
            let stamp = mint(base);
            let Some(entry) = realm.origins.newer(stamp, flush).then(|| made(realm, key.bytes, stamp, op)).flatten()
            else {
                return (stamp, false);
            };
            let after = tally_of(realm, &entry);
            table.insert_unique(key.hash, entry, |entry| realm.hash(entry.key()));
            self.count(db, key, Tally::default(), after);
            return (stamp, true);
        };
        let stamp = mint(realm.origins.later(base, newest_of(realm, entry)));
        if !realm.origins.newer(stamp, flush) {
            return (stamp, false);
        }
        let before = tally_of(realm, entry);
        let change = if apply_to_plain(realm, entry, stamp, op) {
            Change { changed: true, kept: true }
        } else {
            change_entry(realm, entry, |state| state.apply(realm, stamp, op))
        };
        let after = if change.kept { tally_of(realm, entry) } else { Tally::default() };
        if !change.kept {
            table.remove(key.hash, |entry| entry.key() == key.bytes, |entry| realm.hash(entry.key()));
        }
        if before != after {
            self.count(db, key, before, after);
        }
        (stamp, change.changed)
    }

    /// Joins a whole key as full merges and snapshots bring it. Returns whether anything changed.
    pub fn join(&mut self, db: Db, key: &KeyRef<'_>, mut other: KeyState) -> bool {
        let realm = Arc::clone(&self.realm);
        let flush = self.flush_floor(db, key.slot);
        if !flush.is_zero() {
            other.flush(&realm, flush);
        }
        if other.is_void() {
            return false;
        }
        self.update(db, key, |state| state.join(&realm, &other))
    }

    /// Changes a key's whole state; `change` says whether it did. For full merges and for collecting what is stable;
    /// single effects go through `apply`.
    pub fn update(&mut self, db: Db, key: &KeyRef<'_>, change: impl FnOnce(&mut KeyState) -> bool) -> bool {
        let index = self.table_index(key.slot);
        let Self { realm, dbs, slots, .. } = self;
        let realm: &Realm = realm;
        let table = &mut tables_of(dbs, *slots, db)[index];
        let Some(entry) = table.find_mut(key.hash, |entry| entry.key() == key.bytes) else {
            let mut state = KeyState::default();
            if !change(&mut state) {
                return false;
            }
            if !state.is_void() {
                let entry = pack(key.bytes, state);
                let after = tally_of(realm, &entry);
                table.insert_unique(key.hash, entry, |entry| realm.hash(entry.key()));
                self.count(db, key, Tally::default(), after);
            }
            return true;
        };
        let before = tally_of(realm, entry);
        let change = change_entry(realm, entry, change);
        let after = if change.kept { tally_of(realm, entry) } else { Tally::default() };
        if !change.kept {
            table.remove(key.hash, |entry| entry.key() == key.bytes, |entry| realm.hash(entry.key()));
        }
        if before != after {
            self.count(db, key, before, after);
        }
        change.changed
    }

    /// Everything at or before `stamp` in one partition's database is gone, late arrivals too. `newest` is the latest
    /// stamp applied in the partition: when the flush is above it, whole tables are cut off at once.
    pub fn flush(&mut self, db: Db, partition: usize, stamp: Stamp, newest: Stamp) {
        let realm = Arc::clone(&self.realm);
        let local = partition - self.first_partition;
        let width = self.forgotten.len();
        let floor = &mut self.floors[usize::from(db.0) * width + local];
        if !realm.origins.newer(stamp, *floor) {
            return;
        }
        *floor = stamp;
        let Some(tables) = self.dbs[usize::from(db.0)].as_mut() else { return };
        let range = local * SLOTS_PER_PARTITION..(local + 1) * SLOTS_PER_PARTITION;
        if realm.origins.newer(stamp, newest) {
            for table in &mut tables[range] {
                if !table.is_empty() {
                    self.trash.push(std::mem::replace(table, Table::new()));
                }
            }
            self.counts.reset(db, local);
            return;
        }
        let keys: Vec<Box<[u8]>> =
            tables[range].iter().flat_map(|table| table.iter().map(|entry| Box::from(entry.key()))).collect();
        for key in keys {
            let key = KeyRef::new(&realm, &key);
            self.update(db, &key, |state| {
                state.flush(&realm, stamp);
                true
            });
        }
    }

    /// The last flush of a partition's database.
    pub fn flushed(&self, db: Db, partition: usize) -> Stamp {
        self.floors[usize::from(db.0) * self.forgotten.len() + partition - self.first_partition]
    }

    /// The latest stamp ever forgotten in a partition.
    pub fn forgotten(&self, partition: usize) -> Stamp {
        self.forgotten[partition - self.first_partition]
    }

    /// Raises what [`Keyspace::forgotten`] answers (a full merge or snapshot brings the sender's).
    pub fn raise_forgotten(&mut self, partition: usize, stamp: Stamp) {
        let known = &mut self.forgotten[partition - self.first_partition];
        *known = self.realm.origins.later(*known, stamp);
    }

    /// Keys a reader sees in a database (expired ones not).
    pub fn len(&self, db: Db) -> usize {
        self.counts.live(db)
    }

    /// Keys of a database that have a deadline.
    pub fn deadlines(&self, db: Db) -> usize {
        self.counts.deadlines(db)
    }

    /// Keys kept only as memories of deletes, over all databases.
    pub fn tombstones(&self) -> usize {
        self.counts.tombstones()
    }

    /// Calls `each` for the packed keys of one slot, deleted and expired ones included.
    pub fn each_in_slot(&self, db: Db, slot: Slot, each: impl FnMut(&Packed)) {
        if let Some(tables) = &self.dbs[usize::from(db.0)] {
            tables[self.table_index(slot)].iter().for_each(each);
        }
    }

    /// One step of a scan over a slot's packed keys; see [`ScanTable::scan`].
    pub fn scan_slot(&self, db: Db, slot: Slot, cursor: u64, count: usize, each: impl FnMut(&Packed)) -> u64 {
        let Some(tables) = &self.dbs[usize::from(db.0)] else { return 0 };
        tables[self.table_index(slot)].scan(cursor, count, |entry| self.realm.hash(entry.key()), each)
    }

    /// How many packed keys a slot holds.
    pub fn slot_len(&self, db: Db, slot: Slot) -> usize {
        self.dbs[usize::from(db.0)].as_ref().map_or(0, |tables| tables[self.table_index(slot)].len())
    }

    /// A packed key picked by chance, possibly a deleted or expired one; slots are tried from a random one on.
    pub fn sample(&self, db: Db, rng: &mut Rng) -> Option<&Packed> {
        let tables = self.dbs[usize::from(db.0)].as_ref()?;
        let start = rng.below(self.slots as u64) as usize;
        (0..self.slots).map(|at| &tables[(start + at) % self.slots]).find(|table| !table.is_empty())?.sample(rng)
    }

    /// The first packed key that `wanted` accepts, slots being tried from a random one on. Unbounded.
    pub fn find_from(&self, db: Db, rng: &mut Rng, wanted: impl Fn(&Packed) -> bool) -> Option<&Packed> {
        let tables = self.dbs[usize::from(db.0)].as_ref()?;
        let start = rng.below(self.slots as u64) as usize;
        (0..self.slots).flat_map(|at| tables[(start + at) % self.slots].iter()).find(|entry| wanted(entry))
    }

    /// Whether a database ever held a key here.
    pub fn has_held(&self, db: Db) -> bool {
        self.dbs[usize::from(db.0)].is_some()
    }

    /// Moves keys whose deadline has passed out of the counts, and drops those that no late write can revive:
    /// everything in them stable and every member's clock (`horizon_ms`) past the deadline. Looks at no more than
    /// `budget` keys; returns how many expired and whether more are due.
    pub fn expire(
        &mut self,
        time_ms: u64,
        horizon_ms: u64,
        stable: &impl Fn(Slot, Stamp) -> bool,
        budget: usize,
    ) -> (usize, bool) {
        let mut expired = 0;
        for _ in 0..budget {
            let Some(due) = self.due.first().copied().filter(|due| due.at <= time_ms) else { break };
            self.due.pop_first();
            if self.owner_of(&due).is_none() {
                continue;
            }
            expired += 1;
            self.counts.expire(due.db, self.local(due.slot));
            self.past.insert(due);
        }
        let mut looked = 0;
        let mut from = None;
        while looked < budget {
            let next = match from {
                None => self.past.first().copied(),
                Some(last) => {
                    self.past.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded)).next().copied()
                }
            };
            let Some(due) = next.filter(|due| due.at < horizon_ms) else { break };
            from = Some(due);
            looked += 1;
            self.drop_expired(due, stable);
        }
        (expired, self.due.first().is_some_and(|due| due.at <= time_ms))
    }

    /// When the next deadline falls due, Unix milliseconds.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|due| due.at)
    }

    /// Forgets what every member has heard of, looking at no more than `budget` keys of a partition. Stops at the
    /// first that is not stable yet. Returns whether more could be done now.
    pub fn collect(&mut self, partition: usize, stable: &impl Fn(Stamp) -> bool, budget: usize) -> bool {
        let local = partition - self.first_partition;
        for _ in 0..budget.min(self.garbage[local].len()) {
            let Some(garbage) = self.garbage[local].front().copied() else { return false };
            let Some(bytes) = self.garbage_key(&garbage) else {
                self.garbage[local].pop_front();
                continue;
            };
            let realm = Arc::clone(&self.realm);
            let key = KeyRef { bytes: &bytes, hash: garbage.hash, slot: garbage.slot };
            let newest = self.find(garbage.db, &key).map_or(Stamp::ZERO, |entry| self.newest_of(entry));
            let mut waiting = false;
            self.update(garbage.db, &key, |state| {
                waiting = state.collect(&realm, stable, budget);
                true
            });
            self.garbage[local].pop_front();
            self.raise_forgotten(partition, newest);
            if waiting {
                self.garbage[local].push_front(garbage);
                return false;
            }
        }
        !self.garbage[local].is_empty()
    }

    /// How many keys wait for stability.
    pub fn garbage_len(&self) -> usize {
        self.garbage.iter().map(VecDeque::len).sum()
    }

    /// Frees tables cut off by a flush, about `budget` entries of them. Returns whether any are left.
    pub fn free_trash(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while freed < budget {
            let Some(table) = self.trash.pop() else { return false };
            freed += table.len().max(1);
        }
        !self.trash.is_empty()
    }

    fn count(&mut self, db: Db, key: &KeyRef<'_>, before: Tally, after: Tally) {
        let local = self.local(key.slot);
        let mut was_past = false;
        if before.deadline != after.deadline {
            if let Some(at) = before.deadline {
                let due = Due { at, hash: key.hash, slot: key.slot, db };
                was_past = self.past.remove(&due);
                if !was_past {
                    self.due.remove(&due);
                }
            }
            if let Some(at) = after.deadline {
                let due = Due { at, hash: key.hash, slot: key.slot, db };
                // What a flush left of an earlier key of that name must not be taken for this one.
                self.past.remove(&due);
                self.due.insert(due);
            }
        } else if let Some(at) = before.deadline.filter(|_| !self.past.is_empty())
            && self.past.contains(&Due { at, hash: key.hash, slot: key.slot, db })
        {
            // Still past its deadline: it stays out of the counts.
            return;
        }
        self.counts.change(db, local, before, after, was_past);
        if after.garbage && !before.garbage {
            self.garbage[local].push_back(Garbage { hash: key.hash, slot: key.slot, db });
        }
    }

    fn drop_expired(&mut self, due: Due, stable: &impl Fn(Slot, Stamp) -> bool) {
        let Some(bytes) = self.owner_of(&due) else {
            self.past.remove(&due);
            return;
        };
        let key = KeyRef { bytes: &bytes, hash: due.hash, slot: due.slot };
        let newest = self.find(due.db, &key).map_or(Stamp::ZERO, |entry| self.newest_of(entry));
        let all_stable = self.find(due.db, &key).is_some_and(|entry| match entry.view() {
            View::Rich(state) => every_stamp(state, &|stamp| stable(due.slot, stamp)),
            View::Plain { stamp, deadline, .. } => {
                stable(due.slot, Stamp::from_raw(stamp))
                    && deadline.is_none_or(|(stamp, _)| stable(due.slot, Stamp::from_raw(stamp)))
            }
            View::Tombstone { .. } => false,
        });
        if all_stable {
            self.update(due.db, &key, |state| {
                *state = KeyState::default();
                true
            });
            self.raise_forgotten(usize::from(due.slot.partition().0), newest);
        }
    }

    // The key a deadline belongs to, if it still has that deadline.
    fn owner_of(&self, due: &Due) -> Option<Box<[u8]>> {
        let tables = self.dbs[usize::from(due.db.0)].as_ref()?;
        tables[self.table_index(due.slot)]
            .find(due.hash, |entry| deadline_of(entry).is_some_and(|deadline| deadline.at == Some(due.at)))
            .map(|entry| Box::from(entry.key()))
    }

    fn garbage_key(&self, garbage: &Garbage) -> Option<Box<[u8]>> {
        let tables = self.dbs[usize::from(garbage.db.0)].as_ref()?;
        tables[self.table_index(garbage.slot)]
            .find(garbage.hash, |entry| tally_of(&self.realm, entry).garbage)
            .map(|entry| Box::from(entry.key()))
    }

    fn newest_of(&self, entry: &Packed) -> Stamp {
        newest_of(&self.realm, entry)
    }

    fn flush_floor(&self, db: Db, slot: Slot) -> Stamp {
        self.floors[usize::from(db.0) * self.forgotten.len() + self.local(slot)]
    }

    #[inline]
    fn local(&self, slot: Slot) -> usize {
        usize::from(slot.partition().0) - self.first_partition
    }

    #[inline]
    fn table_index(&self, slot: Slot) -> usize {
        usize::from(slot.0) - self.first_partition * SLOTS_PER_PARTITION
    }
}

#[inline]
fn tables_of(dbs: &mut [Option<Box<[Table]>>], slots: usize, db: Db) -> &mut [Table] {
    dbs[usize::from(db.0)].get_or_insert_with(|| (0..slots).map(|_| Table::new()).collect())
}

struct Change {
    changed: bool,
    /// Something is left to keep.
    kept: bool,
}

// A key that was unknown, after its first write; `None` when the write changes nothing.
fn made(realm: &Realm, key: &[u8], stamp: Stamp, op: &Op<'_>) -> Option<Packed> {
    if let Op::Set { value, deadline, observed } = op
        && observed.is_empty()
        && *deadline != SetDeadline::Keep
    {
        let deadline = match deadline {
            SetDeadline::At(at) => Some((stamp.raw(), *at)),
            _ => None,
        };
        return Some(Entry::plain(key, value, stamp.raw(), deadline));
    }
    let mut state = KeyState::default();
    (state.apply(realm, stamp, op) && !state.is_void()).then(|| pack(key, state))
}

// The most common writes on the most common keys, without unpacking: SET, DEL and EXPIRE of a lone register that are
// newer than everything in it. False: nothing was done, take the long way.
#[inline]
fn apply_to_plain(realm: &Realm, entry: &mut Packed, stamp: Stamp, op: &Op<'_>) -> bool {
    let (known, register) = match entry.view() {
        View::Plain { stamp, deadline, .. } => (stamp, deadline),
        View::Tombstone { stamp } => (stamp, None),
        View::Rich(_) => return false,
    };
    let over = |other: u64| realm.origins.newer(stamp, Stamp::from_raw(other));
    if !over(known) || !register.is_none_or(|(written, _)| over(written)) {
        return false;
    }
    match op {
        Op::Set { value, deadline, observed } if observed.is_empty() => {
            let register = match deadline {
                SetDeadline::Clear => None,
                SetDeadline::At(at) => Some((stamp.raw(), *at)),
                // The register keeps its own, older stamp.
                SetDeadline::Keep => Some(register.unwrap_or((known, NO_DEADLINE_MS))),
            };
            entry.set_plain(value, stamp.raw(), register);
        }
        Op::Clear { observed, fields } if observed.is_empty() && fields.is_empty() => entry.set_tombstone(stamp.raw()),
        Op::Deadline { at } if !entry.is_tombstone() => {
            entry.set_deadline(Some((stamp.raw(), at.unwrap_or(NO_DEADLINE_MS))));
        }
        _ => return false,
    }
    true
}

// Changes a key of any packing and packs it again.
fn change_entry(realm: &Realm, entry: &mut Packed, change: impl FnOnce(&mut KeyState) -> bool) -> Change {
    if let Some(state) = entry.rich_mut() {
        let changed = change(state);
        let kept = if is_packable(state) {
            let state = std::mem::take(state);
            pack_into(entry, state)
        } else {
            true
        };
        return Change { changed, kept };
    }
    let mut state = unpack(realm, entry);
    let changed = change(&mut state);
    Change { changed, kept: !changed || pack_into(entry, state) }
}

fn tally_of(realm: &Realm, entry: &Packed) -> Tally {
    match entry.view() {
        View::Plain { deadline, .. } => Tally {
            live: true,
            tombstone: false,
            deadline: deadline.and_then(|(_, at)| (at != NO_DEADLINE_MS).then_some(at)),
            garbage: false,
        },
        View::Tombstone { .. } => Tally { live: false, tombstone: true, deadline: None, garbage: true },
        View::Rich(state) => {
            let live = state.visible_type(realm).is_some();
            let counts = |cell: &crate::merge::cell::Cell| !cell.observed.is_empty();
            let garbage = !live || counts(&state.string) || state.hash.as_ref().is_some_and(|hash| hash.has_garbage());
            Tally { live, tombstone: !live, deadline: state.deadline_at().filter(|_| live), garbage }
        }
    }
}

/// A key's whole state, whatever its packing.
pub fn unpack(realm: &Realm, entry: &Packed) -> KeyState {
    match entry.view() {
        View::Plain { stamp, value, deadline } => {
            let stamp = Stamp::from_raw(stamp);
            let mut state = KeyState { clear: stamp, ..KeyState::default() };
            state.string.stamp = stamp;
            state.string.value = Some(Box::from(value));
            state.deadline = deadline.map(unpack_deadline);
            state
        }
        View::Tombstone { stamp } => KeyState { clear: Stamp::from_raw(stamp), ..KeyState::default() },
        View::Rich(state) => state.copy(realm),
    }
}

/// The deadline register of a packed key, if it was written apart from the value.
pub fn deadline_of(entry: &Packed) -> Option<Deadline> {
    match entry.view() {
        View::Plain { deadline, .. } => deadline.map(unpack_deadline),
        View::Tombstone { .. } => None,
        View::Rich(state) => state.deadline,
    }
}

fn unpack_deadline((stamp, at): (u64, u64)) -> Deadline {
    Deadline { stamp: Stamp::from_raw(stamp), at: (at != u64::MAX).then_some(at) }
}

fn newest_of(realm: &Realm, entry: &Packed) -> Stamp {
    match entry.view() {
        View::Plain { stamp, deadline: None, .. } | View::Tombstone { stamp } => Stamp::from_raw(stamp),
        View::Plain { stamp, deadline: Some((other, _)), .. } => {
            realm.origins.later(Stamp::from_raw(stamp), Stamp::from_raw(other))
        }
        View::Rich(state) => state.newest(realm),
    }
}

// A lone register whose stamp is the clear stamp, or a lone memory of a delete.
fn is_packable(state: &KeyState) -> bool {
    state.hash.is_none()
        && state.string.is_register()
        && match &state.string.value {
            Some(value) => state.string.stamp == state.clear && value.len() <= u32::MAX as usize,
            None => state.deadline.is_none() && state.string.stamp.is_zero(),
        }
}

fn packed_deadline(state: &KeyState) -> Option<(u64, u64)> {
    state.deadline.map(|deadline| (deadline.stamp.raw(), deadline.at.unwrap_or(u64::MAX)))
}

fn pack(key: &[u8], state: KeyState) -> Packed {
    match &state.string.value {
        _ if !is_packable(&state) => Entry::rich(key, Box::new(state)),
        Some(value) => Entry::plain(key, value, state.string.stamp.raw(), packed_deadline(&state)),
        None => Entry::tombstone(key, state.clear.raw()),
    }
}

// Returns whether anything is left to keep.
fn pack_into(entry: &mut Packed, state: KeyState) -> bool {
    if state.is_void() {
        return false;
    }
    match &state.string.value {
        _ if !is_packable(&state) => entry.set_rich(Box::new(state)),
        Some(value) => entry.set_plain(value, state.string.stamp.raw(), packed_deadline(&state)),
        None => entry.set_tombstone(state.clear.raw()),
    }
    true
}

fn every_stamp(state: &KeyState, stable: &impl Fn(Stamp) -> bool) -> bool {
    let cell_is = |cell: &crate::merge::cell::Cell| {
        stable(cell.stamp)
            && cell.slots.iter().all(|slot| stable(slot.dot()))
            && cell.observed.iter().all(|seen| stable(seen.by) && stable(seen.slot.dot()))
    };
    stable(state.clear)
        && state.deadline.is_none_or(|deadline| stable(deadline.stamp))
        && cell_is(&state.string)
        && state.hash.as_ref().is_none_or(|hash| hash.iter().all(|field| cell_is(&crate::merge::hash::unpack(field))))
}
