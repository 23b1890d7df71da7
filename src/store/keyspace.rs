//! The keys of one shard and the one door through which they change.
//!
//! `apply` joins one stamped effect into one key. A local write mints its stamp while the key is in hand and goes
//! through the same door as a write that arrived from a peer.
//!
//! Reading order: this file, `packing` (how a key is kept), `hot` (the door's two shortest ways), `flush`, `expiry`,
//! `garbage` (what can be forgotten), `weigh` (what keys count for in digests), `watch` (how that changes while it is
//! compared), `ahead`.

pub mod ahead;
pub mod damage;
mod expiry;
mod flush;
mod garbage;
pub mod hot;
mod packing;
mod trash;
mod walks;
mod watch;
pub mod weigh;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::counts::{Counts, Tally};
use super::deadlines::{Deadlines, Due};
use super::digests::Digests;
use super::late::Late;
use super::watches::{Cause, Watches};
use crate::base::ids::{Db, SLOTS_PER_PARTITION, Slot};
use crate::base::rng::Rng;
use crate::base::slot::slot_of;
use crate::mem::entry::Entry;
use crate::mem::table::ScanTable;
use crate::merge::key::KeyState;
use crate::merge::op::Op;
use crate::merge::realm::Realm;
use crate::merge::stamp::Stamp;
use crate::merge::version::Versions;
use garbage::Garbage;
use packing::{Change, apply_to_plain, change_entry, made, newest_of, pack, tally_of};
pub use packing::{deadline_of, unpack};
use trash::Trash;
use walks::Walks;

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
    due: Deadlines,
    /// Deadlines written since stale ones among them were last looked for.
    doubted: usize,
    /// Deadlines that have passed of keys that are still kept because a late write could revive them.
    past: BTreeSet<Due>,
    /// None of `past` is later: a look at this spares nearly every look at them.
    passed_ms: u64,
    /// Of these, the ones that were before `final_from` when they passed and are not known to be final yet: written by
    /// slow clocks. Nearly always none.
    undecided: BTreeSet<Due>,
    /// How far large hashes have been looked at whose deadlines may be final.
    walks: Walks,
    /// Deadlines before this one are final here; see [`Keyspace::final_ms`].
    final_from: Due,
    /// Per partition, keys that hold something to forget once it is stable. May name keys twice, or such as hold
    /// nothing any more.
    garbage: Vec<VecDeque<Garbage>>,
    /// Per database and partition, the last flush: older writes are void, late ones too.
    floors: Vec<Stamp>,
    /// Per partition, the latest stamp ever forgotten: local writes are minted above it.
    forgotten: Vec<Stamp>,
    /// The same by origin.
    forgotten_of: Versions,
    /// Per partition, the latest stamp that came with a whole key: the version vector may not cover it yet.
    joined: Vec<Stamp>,
    trash: Trash,
    databases: usize,
    /// While a snapshot is being written: what changes behind its scan.
    late: Option<Box<Late>>,
    /// While partitions are compared: what changes in them.
    watches: Option<Box<Watches>>,
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
            digests: Digests::new(width * SLOTS_PER_PARTITION),
            passed: None,
            due: Deadlines::default(),
            doubted: 0,
            past: BTreeSet::new(),
            passed_ms: 0,
            undecided: BTreeSet::new(),
            walks: Walks::default(),
            final_from: expiry::beginning_of(0),
            garbage: (0..width).map(|_| VecDeque::new()).collect(),
            floors: vec![Stamp::ZERO; databases * width],
            forgotten: vec![Stamp::ZERO; width],
            forgotten_of: Versions::new(first, end),
            joined: vec![Stamp::ZERO; width],
            trash: Trash::default(),
            databases,
            late: None,
            watches: None,
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
        let before = self.watched_before(db, key);
        let (stamp, changed) = self.apply_unwatched(db, key, op, mint);
        self.watched_after(db, key, before, Cause::Write(stamp));
        (stamp, changed)
    }

    #[inline]
    fn apply_unwatched(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        op: &Op<'_>,
        mint: impl FnOnce(Stamp) -> Stamp,
    ) -> (Stamp, bool) {
        self.note_late(db, key);
        let base = self.base_floor(db, key.slot);
        let flush = self.flush_floor(db, key.slot);
        let index = self.table_index(key.slot);
        let scale = self.scale(db, key);
        // Split borrows instead of a clone of the realm: its count of owners is shared by all cores.
        let Self { realm, dbs, slots, digests, trash, .. } = self;
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
            change_entry(realm, entry, |state| {
                if matches!(op, Op::Clear { .. } | Op::Set { .. }) {
                    trash.put_hash(trash::cut_off(realm, state, stamp));
                }
                state.apply(realm, stamp, op)
            })
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
        let mut waste = None;
        let changed = self.update(db, key, |state| {
            waste = trash::cut_off(&realm, state, other.clear);
            state.join(&realm, &other)
        });
        self.trash.put_hash(waste);
        changed
    }

    /// Changes a key's whole state; `change` says whether it did. For full merges and for collecting what is stable;
    /// single effects go through `apply`.
    pub fn update(&mut self, db: Db, key: &KeyRef<'_>, change: impl FnOnce(&mut KeyState) -> bool) -> bool {
        let before = self.watched_before(db, key);
        let changed = self.update_unwatched(db, key, change);
        self.watched_after(db, key, before, Cause::Other);
        changed
    }

    fn update_unwatched(&mut self, db: Db, key: &KeyRef<'_>, change: impl FnOnce(&mut KeyState) -> bool) -> bool {
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

    /// At least the latest stamp in a partition of what did not come as records the version vector covers.
    pub fn joined(&self, partition: usize) -> Stamp {
        self.joined[partition - self.first_partition]
    }

    /// Notes that something stamped `stamp` came into a partition ahead of its version vector.
    pub fn raise_joined(&mut self, partition: usize, stamp: Stamp) {
        let known = &mut self.joined[partition - self.first_partition];
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

    fn count(&mut self, db: Db, key: &KeyRef<'_>, before: Tally, after: Tally) {
        if before == after {
            return;
        }
        let local = self.local(key.slot);
        let due = |at| Due { at, hash: key.hash, slot: key.slot, db };
        let is_known = |past: &BTreeSet<Due>, at| at <= self.passed_ms && past.contains(&due(at));
        let was_past = before.deadline.is_some_and(|at| is_known(&self.past, at));
        if before.deadline != after.deadline {
            if let Some(at) = before.deadline.filter(|_| was_past) {
                self.past.remove(&due(at));
            }
            if let Some(at) = after.deadline {
                self.due.push(due(at));
                // May still name a key that was flushed.
                if at <= self.passed_ms {
                    self.past.remove(&due(at));
                }
            }
        }
        // As long as it keeps the deadline that has passed it stays out of the counts.
        let is_past = was_past && before.deadline == after.deadline;
        self.counts.change(db, local, before.counted(was_past), after.counted(is_past));
        if before.deadline != after.deadline {
            self.doubt_deadlines();
        }
        if after.garbage && !before.garbage {
            self.queue_garbage(Garbage { hash: key.hash, slot: key.slot, db });
        }
    }

    /// The latest stamp in a key.
    pub fn newest_of(&self, entry: &Packed) -> Stamp {
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
