//! The keys of one shard and the one door through which they change.
//!
//! `apply` joins one stamped effect into one key. A local write mints its stamp while the key is in hand and goes
//! through the same door as a write that arrived from a peer.

pub mod ahead;
pub mod hot;
pub mod weigh;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::counts::{Counts, Tally};
use super::digests::Digests;
use super::late::Late;
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
    digests: Digests,
    /// The last deadline that counts as over in the digests.
    passed: Option<Due>,
    /// Deadlines in the future, and the keys they belong to. May name keys that are gone; checked when they fall due.
    due: BTreeSet<Due>,
    /// Deadlines that have passed of keys that are still kept because a late write could revive them.
    past: BTreeSet<Due>,
    /// Of these, the ones that were before `final_ms` when they passed and are not known to be final yet: written by
    /// slow clocks. Nearly always none.
    undecided: BTreeSet<Due>,
    /// Deadlines before this Unix millisecond are final here; see [`Keyspace::final_ms`].
    final_ms: u64,
    /// Per partition, keys that hold something to forget once it is stable. May name keys twice, or such as hold
    /// nothing any more.
    garbage: Vec<VecDeque<Garbage>>,
    /// Per database and partition, the last flush: older writes are void, late ones too.
    floors: Vec<Stamp>,
    /// Per partition, the latest stamp ever forgotten: local writes are minted above it.
    forgotten: Vec<Stamp>,
    /// Per partition, the latest stamp that came with a whole key: the version vector may not cover it yet.
    joined: Vec<Stamp>,
    /// Tables cut off by a flush, freed in slices.
    trash: Vec<Table>,
    /// Deadlines of keys that were all flushed, freed in slices.
    trash_due: Vec<BTreeSet<Due>>,
    databases: usize,
    /// While a snapshot is being written: what changes behind its scan.
    late: Option<Box<Late>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Due {
    at: DeadlineMs,
    hash: u64,
    slot: Slot,
    db: Db,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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
            digests: Digests::new(databases, width * SLOTS_PER_PARTITION),
            passed: None,
            due: BTreeSet::new(),
            past: BTreeSet::new(),
            undecided: BTreeSet::new(),
            final_ms: 0,
            garbage: (0..width).map(|_| VecDeque::new()).collect(),
            floors: vec![Stamp::ZERO; databases * width],
            forgotten: vec![Stamp::ZERO; width],
            joined: vec![Stamp::ZERO; width],
            trash: Vec::new(),
            trash_due: Vec::new(),
            databases,
            late: None,
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
        self.note_late(db, key);
        let base = self.base_floor(db, key.slot);
        let flush = self.flush_floor(db, key.slot);
        let index = self.table_index(key.slot);
        let scale = self.scale(db, key);
        // Split borrows instead of a clone of the realm: its count of owners is shared by all cores.
        let Self { realm, dbs, slots, digests, .. } = self;
        let realm: &Realm = realm;
        let table = &mut tables_of(dbs, *slots, db)[index];
        let Some(entry) = table.find_mut(key.hash, |entry| entry.key() == key.bytes) else {
            let stamp = mint(base);
            if !realm.origins.newer(stamp, flush) {
                return (stamp, self.apply_flushed(db, key, stamp, op));
            }
            let Some(entry) = made(realm, key.bytes, stamp, op) else { return (stamp, false) };
            let after = tally_of(&entry);
            digests.shift(db, index, 0, scale.of_entry(realm, &entry));
            table.insert_unique(key.hash, entry, |entry| realm.hash(entry.key()));
            self.count(db, key, Tally::default(), after);
            return (stamp, true);
        };
        let stamp = mint(realm.origins.later(base, newest_of(realm, entry)));
        if !realm.origins.newer(stamp, flush) {
            return (stamp, self.apply_flushed(db, key, stamp, op));
        }
        let (before, weight) = (tally_of(entry), scale.of_entry(realm, entry));
        let change = if apply_to_plain(realm, entry, stamp, op) {
            Change { changed: true, kept: true }
        } else {
            change_entry(realm, entry, |state| state.apply(realm, stamp, op))
        };
        let after = if change.kept { tally_of(entry) } else { Tally::default() };
        digests.shift(db, index, weight, if change.kept { scale.of_entry(realm, entry) } else { 0 });
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
        self.raise_joined(usize::from(key.slot.partition().0), other.newest(&realm));
        self.update(db, key, |state| state.join(&realm, &other))
    }

    /// Changes a key's whole state; `change` says whether it did. For full merges and for collecting what is stable;
    /// single effects go through `apply`.
    pub fn update(&mut self, db: Db, key: &KeyRef<'_>, change: impl FnOnce(&mut KeyState) -> bool) -> bool {
        self.note_late(db, key);
        let index = self.table_index(key.slot);
        let scale = self.scale(db, key);
        let Self { realm, dbs, slots, digests, .. } = self;
        let realm: &Realm = realm;
        let table = &mut tables_of(dbs, *slots, db)[index];
        let Some(entry) = table.find_mut(key.hash, |entry| entry.key() == key.bytes) else {
            let mut state = KeyState::default();
            if !change(&mut state) {
                return false;
            }
            if !state.is_void() {
                let entry = pack(key.bytes, state);
                let after = tally_of(&entry);
                digests.shift(db, index, 0, scale.of_entry(realm, &entry));
                table.insert_unique(key.hash, entry, |entry| realm.hash(entry.key()));
                self.count(db, key, Tally::default(), after);
            }
            return true;
        };
        let (before, weight) = (tally_of(entry), scale.of_entry(realm, entry));
        let change = change_entry(realm, entry, change);
        let after = if change.kept { tally_of(entry) } else { Tally::default() };
        digests.shift(db, index, weight, if change.kept { scale.of_entry(realm, entry) } else { 0 });
        if !change.kept {
            table.remove(key.hash, |entry| entry.key() == key.bytes, |entry| realm.hash(entry.key()));
        }
        if before != after {
            self.count(db, key, before, after);
        }
        change.changed
    }

    /// Notes keys that change behind a scan, from now until [`Keyspace::end_late`].
    pub fn begin_late(&mut self) {
        self.late = Some(Box::default());
    }

    /// What was noted, while a scan runs.
    pub fn late(&mut self) -> Option<&mut Late> {
        self.late.as_deref_mut()
    }

    /// Notes no more.
    pub fn end_late(&mut self) {
        self.late = None;
    }

    #[inline]
    fn note_late(&mut self, db: Db, key: &KeyRef<'_>) {
        if let Some(late) = &mut self.late {
            late.note(db, key.slot, key.bytes);
        }
    }

    /// Everything at or before `stamp` in one partition's database is gone, late arrivals too. `newest` is the latest
    /// stamp applied in the partition: when the flush is above it, whole tables are cut off at once. Returns whether
    /// anything was there to go.
    pub fn flush(&mut self, db: Db, partition: usize, stamp: Stamp, newest: Stamp) -> bool {
        let realm = Arc::clone(&self.realm);
        let local = partition - self.first_partition;
        let width = self.forgotten.len();
        let floor = &mut self.floors[usize::from(db.0) * width + local];
        if !realm.origins.newer(stamp, *floor) {
            return false;
        }
        *floor = stamp;
        let Some(tables) = self.dbs[usize::from(db.0)].as_mut() else { return false };
        let range = local * SLOTS_PER_PARTITION..(local + 1) * SLOTS_PER_PARTITION;
        // What resets have observed of counters outlives a flush: then the keys are visited one by one.
        if realm.origins.newer(stamp, newest) && self.counts.counters(db, local) == 0 {
            let before = self.trash.len();
            for (at, table) in range.clone().zip(&mut tables[range]) {
                if !table.is_empty() {
                    self.trash.push(std::mem::take(table));
                    self.digests.set(db, at, 0);
                }
            }
            self.counts.reset(db, local);
            if self.counts.due() == 0 && !self.due.is_empty() {
                self.trash_due.push(std::mem::take(&mut self.due));
            }
            return self.trash.len() > before;
        }
        let keys: Vec<Box<[u8]>> =
            tables[range].iter().flat_map(|table| table.iter().map(|entry| Box::from(entry.key()))).collect();
        for key in &keys {
            let key = KeyRef::new(&realm, key);
            self.update(db, &key, |state| {
                state.flush(&realm, stamp);
                true
            });
        }
        !keys.is_empty()
    }

    /// The last flush of a partition's database.
    pub fn flushed(&self, db: Db, partition: usize) -> Stamp {
        self.floors[usize::from(db.0) * self.forgotten.len() + partition - self.first_partition]
    }

    /// The latest stamp ever forgotten in a partition.
    pub fn forgotten(&self, partition: usize) -> Stamp {
        self.forgotten[partition - self.first_partition]
    }

    /// At least the latest stamp in a partition of what did not come as records the version vector covers.
    pub fn joined(&self, partition: usize) -> Stamp {
        self.joined[partition - self.first_partition]
    }

    /// Notes that something stamped `stamp` came into a partition ahead of its version vector.
    pub fn raise_joined(&mut self, partition: usize, stamp: Stamp) {
        let known = &mut self.joined[partition - self.first_partition];
        *known = self.realm.origins.later(*known, stamp);
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

    /// Moves keys whose deadline has passed out of the counts, and drops those whose end is final on every member
    /// (`all_final_ms`: the least of what members' [`Keyspace::final_ms`] answered). Looks at no more than `budget`
    /// keys; returns how many expired and whether more are due.
    ///
    /// A deadline is final where everything in the key is stable and every member's clock (`horizon_ms`) has passed
    /// it: no late EXPIRE or PERSIST can revive the key. It is dropped only when that is so everywhere, because a
    /// node that has dropped it writes as if it had never been, and such a write must not meet the old content:
    /// elsewhere it is dropped before the write is joined ([`Keyspace::finish`]).
    pub fn expire(
        &mut self,
        time_ms: u64,
        horizon_ms: u64,
        all_final_ms: u64,
        stable: &impl Fn(Slot, Stamp) -> bool,
        budget: usize,
    ) -> (usize, bool) {
        let mut expired = 0;
        for _ in 0..budget {
            let Some(due) = self.due.first().copied().filter(|due| due.at <= time_ms) else { break };
            self.due.pop_first();
            self.pass(due);
            let Some(tally) = self.entry_of(&due).map(tally_of) else { continue };
            expired += usize::from(tally.live);
            self.counts.change(due.db, self.local(due.slot), tally.counted(false), tally.counted(true));
            self.past.insert(due);
            if due.at < self.final_ms {
                self.undecided.insert(due);
            }
        }
        let first_due = self.due.first().map_or(u64::MAX, |due| due.at);
        // What is final everywhere goes.
        let dropped_ms = all_final_ms.min(self.final_ms);
        let ending = self.past.iter().take_while(|due| due.at < dropped_ms).filter(|due| !self.undecided.contains(due));
        let ending: Vec<Due> = ending.take(budget).copied().collect();
        let mut looked = ending.len();
        for due in &ending {
            if self.is_final(due, dropped_ms, stable) {
                self.finish_due(due);
            } else {
                // Written to since: judged again like one that came late.
                self.undecided.insert(*due);
            }
        }
        // What is final here is found in the order of deadlines, up to the first that is not. What came late holds it up
        // where it was written.
        let mut final_ms = horizon_ms.min(first_due);
        let undecided: Vec<Due> = self.undecided.iter().take(budget).copied().collect();
        for due in &undecided {
            if !self.past.contains(due) || self.is_final(due, horizon_ms, stable) {
                self.undecided.remove(due);
            } else if let Some(entry) = self.entry_of(due) {
                final_ms = final_ms.min(newest_of(&self.realm, entry).hlc().wall_ms());
            }
        }
        if undecided.len() >= budget {
            final_ms = 0;
        }
        let from = Due { at: self.final_ms, hash: 0, slot: Slot(0), db: Db(0) };
        let found = self.past.range(from..).take_while(|due| due.at < final_ms).enumerate();
        let mut found = found.filter(|(at, due)| *at >= budget || !self.is_final(due, horizon_ms, stable));
        let stopped = found.next().map(|(at, due)| (at, due.at));
        if let Some((at, at_ms)) = stopped {
            looked = looked.max(at);
            final_ms = at_ms;
        }
        self.final_ms = self.final_ms.max(final_ms);
        (expired, first_due <= time_ms || looked >= budget)
    }

    /// Deadlines before this Unix millisecond are final here: whatever they put an end to never counts again, and is
    /// dropped before another write is joined. Members tell each other (`Stability::finalise`).
    pub fn final_ms(&self) -> u64 {
        self.final_ms
    }

    /// Raises what [`Keyspace::final_ms`] answers (a snapshot brings what was said before it).
    pub fn raise_final_ms(&mut self, final_ms: u64) {
        self.final_ms = self.final_ms.max(final_ms);
    }

    /// Whether any deadline has passed of a key that is still kept.
    #[inline]
    pub fn has_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// Drops what a key's final deadline has put an end to. Called before a merged write is joined, while
    /// [`Keyspace::has_past`]; parameters as for [`Keyspace::expire`].
    pub fn finish(&mut self, db: Db, key: &KeyRef<'_>, horizon_ms: u64, stable: &impl Fn(Slot, Stamp) -> bool) {
        let Some(at) = self.find(db, key).and_then(deadline_of).and_then(|deadline| deadline.at) else { return };
        let due = Due { at, hash: key.hash, slot: key.slot, db };
        // What was final once stays so, also when members join.
        if self.past.contains(&due)
            && (!self.undecided.contains(&due) && self.is_final(&due, self.final_ms, &|_, _| true)
                || self.is_final(&due, horizon_ms, stable))
        {
            self.finish_due(&due);
        }
    }

    /// When the next deadline falls due, Unix milliseconds.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|due| due.at)
    }

    /// Forgets what every member has heard of, looking at no more than `budget` keys of a partition. Stops at the
    /// first that is not stable yet, which is looked at last next time. Returns whether more could be done now.
    pub fn collect(&mut self, partition: usize, stable: &impl Fn(Stamp) -> bool, budget: usize) -> bool {
        let local = partition - self.first_partition;
        for _ in 0..budget.min(self.garbage[local].len()) {
            let Some(garbage) = self.garbage[local].pop_front() else { return false };
            let Some(bytes) = self.garbage_key(&garbage) else { continue };
            // An owner that has not heard of the last flush may go on counting where the flush dropped its slot: what
            // resets had observed of that slot is needed until it has.
            if !stable(self.flush_floor(garbage.db, garbage.slot)) {
                self.garbage[local].push_back(garbage);
                return false;
            }
            let realm = Arc::clone(&self.realm);
            let key = KeyRef { bytes: &bytes, hash: garbage.hash, slot: garbage.slot };
            let mut forgotten = self.forgotten[local];
            self.update(garbage.db, &key, |state| {
                let mut forget = |stamp| forgotten = realm.origins.later(forgotten, stamp);
                state.collect(&realm, stable, &mut forget, budget);
                true
            });
            self.forgotten[local] = forgotten;
            if self.find(garbage.db, &key).is_some_and(|entry| tally_of(entry).garbage) {
                self.garbage[local].push_back(garbage);
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
            if let Some(table) = self.trash.pop() {
                freed += table.len().max(1);
            } else if let Some(due) = self.trash_due.last_mut() {
                freed += 1;
                if due.pop_first().is_none() {
                    self.trash_due.pop();
                }
            } else {
                return false;
            }
        }
        !self.trash.is_empty() || !self.trash_due.is_empty()
    }

    /// The keys of a partition that may hold counts, for a flush that has to say what it has observed of them.
    pub fn counters(&self, db: Db, partition: usize) -> Vec<Box<[u8]>> {
        let local = partition - self.first_partition;
        let Some(tables) = self.dbs[usize::from(db.0)].as_ref().filter(|_| self.counts.counters(db, local) > 0) else {
            return Vec::new();
        };
        let entries =
            tables[local * SLOTS_PER_PARTITION..(local + 1) * SLOTS_PER_PARTITION].iter().flat_map(Table::iter);
        entries.filter(|entry| tally_of(entry).counter).map(|entry| Box::from(entry.key())).collect()
    }

    // A write that a flush has overtaken: only what it had observed of counters still counts.
    #[cold]
    fn apply_flushed(&mut self, db: Db, key: &KeyRef<'_>, stamp: Stamp, op: &Op<'_>) -> bool {
        let realm = Arc::clone(&self.realm);
        self.update(db, key, |state| state.apply_observed(&realm, stamp, op))
    }

    fn count(&mut self, db: Db, key: &KeyRef<'_>, before: Tally, after: Tally) {
        if before == after {
            return;
        }
        let local = self.local(key.slot);
        let due = |at| Due { at, hash: key.hash, slot: key.slot, db };
        let was_past = !self.past.is_empty() && before.deadline.is_some_and(|at| self.past.contains(&due(at)));
        if before.deadline != after.deadline {
            if let Some(at) = before.deadline {
                let known = if was_past { &mut self.past } else { &mut self.due };
                known.remove(&due(at));
            }
            if let Some(at) = after.deadline {
                self.due.insert(due(at));
                // May still name a key that was flushed.
                if !self.past.is_empty() {
                    self.past.remove(&due(at));
                }
            }
        }
        // As long as it keeps the deadline that has passed it stays out of the counts.
        let is_past = was_past && before.deadline == after.deadline;
        self.counts.change(db, local, before.counted(was_past), after.counted(is_past));
        if after.garbage && !before.garbage {
            self.queue_garbage(Garbage { hash: key.hash, slot: key.slot, db });
        }
    }

    fn queue_garbage(&mut self, garbage: Garbage) {
        let local = self.local(garbage.slot);
        self.garbage[local].push_back(garbage);
        // A key set and deleted over and over while a member is away must not fill the queue.
        let queue = &mut self.garbage[local];
        if queue.len() > 2 * self.counts.garbage(local) + 64 {
            queue.make_contiguous().sort_unstable();
            let mut last = None;
            queue.retain(|&garbage| last.replace(garbage) != Some(garbage));
        }
    }

    // Everything in the key is stable, and older than what nobody will write before any more (`limit_ms`).
    fn is_final(&self, due: &Due, limit_ms: u64, stable: &impl Fn(Slot, Stamp) -> bool) -> bool {
        due.at < limit_ms
            && self.entry_of(due).is_none_or(|entry| {
                every_stamp_of(entry, &|stamp| stamp.hlc().wall_ms() < limit_ms && stable(due.slot, stamp))
            })
    }

    fn finish_due(&mut self, due: &Due) {
        let Some(bytes) = self.owner_of(due) else {
            self.past.remove(due);
            return;
        };
        let realm = Arc::clone(&self.realm);
        let key = KeyRef { bytes: &bytes, hash: due.hash, slot: due.slot };
        let Some(entry) = self.find(due.db, &key) else { return };
        let newest = self.newest_of(entry);
        self.raise_forgotten(usize::from(due.slot.partition().0), newest);
        self.update(due.db, &key, |state| {
            state.finish(&realm);
            true
        });
    }

    // The key a deadline belongs to, if it still has that deadline.
    fn owner_of(&self, due: &Due) -> Option<Box<[u8]>> {
        self.entry_of(due).map(|entry| Box::from(entry.key()))
    }

    fn entry_of(&self, due: &Due) -> Option<&Packed> {
        let tables = self.dbs[usize::from(due.db.0)].as_ref()?;
        tables[self.table_index(due.slot)].find(due.hash, |entry| tally_of(entry).deadline == Some(due.at))
    }

    fn garbage_key(&self, garbage: &Garbage) -> Option<Box<[u8]>> {
        let tables = self.dbs[usize::from(garbage.db.0)].as_ref()?;
        tables[self.table_index(garbage.slot)]
            .find(garbage.hash, |entry| tally_of(entry).garbage)
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

fn tally_of(entry: &Packed) -> Tally {
    match entry.view() {
        View::Plain { deadline, .. } => Tally {
            live: true,
            deadline: deadline.and_then(|(_, at)| (at != NO_DEADLINE_MS).then_some(at)),
            garbage: deadline.is_some_and(|(_, at)| at == NO_DEADLINE_MS),
            ..Tally::default()
        },
        View::Tombstone { .. } => Tally { tombstone: true, garbage: true, ..Tally::default() },
        View::Rich(state) => {
            let live = state.is_live();
            Tally {
                live,
                tombstone: !live,
                deadline: state.deadline_at(),
                garbage: state.has_garbage(),
                counter: state.may_count(),
            }
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
    Deadline { stamp: Stamp::from_raw(stamp), at: (at != NO_DEADLINE_MS).then_some(at) }
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
    state.deadline.map(|deadline| (deadline.stamp.raw(), deadline.at.unwrap_or(NO_DEADLINE_MS)))
}

fn pack(key: &[u8], state: KeyState) -> Packed {
    match &state.string.value {
        _ if !is_packable(&state) => Entry::rich(key, state),
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
        _ if !is_packable(&state) => entry.set_rich(state),
        Some(value) => entry.set_plain(value, state.string.stamp.raw(), packed_deadline(&state)),
        None => entry.set_tombstone(state.clear.raw()),
    }
    true
}

fn every_stamp_of(entry: &Packed, holds: &impl Fn(Stamp) -> bool) -> bool {
    let holds = |stamp: Stamp| stamp.is_zero() || holds(stamp);
    match entry.view() {
        View::Plain { stamp, deadline, .. } => {
            holds(Stamp::from_raw(stamp)) && deadline.is_none_or(|(stamp, _)| holds(Stamp::from_raw(stamp)))
        }
        View::Tombstone { stamp } => holds(Stamp::from_raw(stamp)),
        View::Rich(state) => every_stamp(state, &holds),
    }
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
        // The newest first: while it is not stable, the walk is spared.
        && state.hash.as_ref().is_none_or(|hash| stable(hash.newest()))
        && state.hash.as_ref().is_none_or(|hash| hash.iter().all(|field| cell_is(&crate::merge::hash::unpack(field))))
}
