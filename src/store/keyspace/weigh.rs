//! What keys count for in digests: kept up to date by the door to data, and counted again from the data itself.

use super::packing::unpack_deadline;
use super::{Due, KeyRef, Keyspace, Packed, tables_of};
use crate::base::ids::{Db, SLOTS_PER_PARTITION, Slot};
use crate::base::time::DeadlineMs;
use crate::mem::entry::{NO_DEADLINE_MS, View};
use crate::merge::cell::SlotCount;
use crate::merge::digest::{contents, key_id, of_plain, of_slot, of_state, of_state_counted};
use crate::merge::key::KeyState;
use crate::merge::realm::Realm;
use crate::merge::stamp::Stamp;

/// Weighs one key before and after a write. Made while the keyspace can still be asked, used while it is borrowed.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// `None`: digests are off, and everything weighs nothing.
    id: Option<u64>,
    due: Due,
    passed: Option<Due>,
}

/// When a key's deadline counts as over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// When [`Keyspace::expire`] has passed it: what the kept digests go by.
    Passed,
    /// From this Unix millisecond on: what several nodes can agree on.
    At(u64),
}

/// What a key counts for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weight {
    /// The key's name in digests.
    pub id: u64,
    /// What it counts for: writes, by their stamps.
    pub writes: u64,
    /// The bytes of its values.
    pub contents: u64,
}

impl Scale {
    #[inline]
    pub(super) fn of_entry(&self, realm: &Realm, entry: &Packed) -> u64 {
        match entry.view() {
            View::Plain { stamp, deadline, .. } => self.of_plain(realm, stamp, deadline),
            View::Tombstone { .. } => 0,
            View::Rich(state) => self.of_state(realm, state),
        }
    }

    #[inline]
    pub(super) fn of_state(&self, realm: &Realm, state: &KeyState) -> u64 {
        self.id.map_or(0, |id| of_state(realm, id, state, self.is_over(state.deadline_at())))
    }

    /// A counter slot of which no reset has seen anything, of a key whose time has not come.
    #[inline]
    pub(super) fn of_slot(&self, realm: &Realm, slot: &SlotCount) -> u64 {
        self.id.map_or(0, |id| of_slot(realm, id, slot))
    }

    #[inline]
    pub(super) fn of_plain(&self, realm: &Realm, stamp: u64, deadline: Option<(u64, u64)>) -> u64 {
        let Some(id) = self.id else { return 0 };
        let is_over = deadline.is_some_and(|(_, at)| at != NO_DEADLINE_MS && self.is_over(Some(at)));
        of_plain(realm, id, Stamp::from_raw(stamp), deadline.map(unpack_deadline), is_over)
    }

    #[inline]
    pub(super) fn is_over(&self, at: Option<DeadlineMs>) -> bool {
        at.is_some_and(|at| Some(Due { at, ..self.due }) <= self.passed)
    }
}

impl Keyspace {
    #[inline]
    pub(super) fn scale(&self, db: Db, key: &KeyRef<'_>) -> Scale {
        let id = self.digests.is_on().then(|| key_id(db, key.bytes));
        Scale { id, due: Due { at: 0, hash: key.hash, slot: key.slot, db }, passed: self.passed }
    }

    /// The sweep over deadlines passes one: from now on only what outlives it counts.
    pub(super) fn pass(&mut self, due: Due) {
        // One that was written late was over when it came.
        if Some(due) <= self.passed {
            return;
        }
        let before = self.passed.replace(due);
        let Some(entry) = self.entry_of(&due).filter(|_| self.digests.is_on()) else { return };
        let watched = self.before_passing(&due, entry);
        let after = Scale { id: Some(key_id(due.db, entry.key())), due, passed: self.passed };
        let before = Scale { passed: before, ..after }.of_entry(&self.realm, entry);
        let after = after.of_entry(&self.realm, entry);
        let index = self.table_index(due.slot);
        self.digests.shift(due.db, index, before, after);
        self.after_passing(&due, after.wrapping_sub(before), watched);
    }

    /// The digest kept for a slot of a database.
    pub fn digest(&self, db: Db, slot: Slot) -> u64 {
        self.digests.get(db, self.table_index(slot))
    }

    /// Whether digests are kept.
    pub fn has_digests(&self) -> bool {
        self.digests.is_on()
    }

    /// Keeps digests no more, or again: then everything is counted once, in one go.
    pub fn switch_digests(&mut self, on: bool) {
        self.digests.switch(on);
        let (first, end) = self.partitions();
        for db in (0..self.databases as u16).map(Db) {
            for slot in first * SLOTS_PER_PARTITION..end * SLOTS_PER_PARTITION {
                self.recount(db, Slot(slot as u16));
            }
        }
    }

    /// Counts a slot from its data. Returns whether its digest was right; it is afterwards.
    pub fn recount(&mut self, db: Db, slot: Slot) -> bool {
        let mut hashes: Vec<Box<[u8]>> = Vec::new();
        self.each_in_slot(db, slot, |entry| {
            if let View::Rich(KeyState { hash: Some(hash), .. }) = entry.view()
                && hash.digest() != hash.counted_digest(&self.realm)
            {
                hashes.push(Box::from(entry.key()));
            }
        });
        for name in hashes {
            let (hash, index) = (self.realm.hash(&name), self.table_index(slot));
            let Self { realm, dbs, slots, .. } = self;
            let entry = tables_of(dbs, *slots, db)[index].find_mut(hash, |entry| *entry.key() == *name);
            if let Some(hash) = entry.and_then(Packed::rich_mut).and_then(|state| state.hash.as_mut()) {
                hash.recount(realm);
            }
        }
        let mut sum = 0u64;
        self.each_in_slot(db, slot, |entry| {
            sum = sum.wrapping_add(self.weigh(db, slot, entry, Over::Passed).writes);
        });
        let was_right = self.digest(db, slot) == sum;
        if self.digests.is_on() {
            let index = self.table_index(slot);
            self.digests.set(db, index, sum);
        }
        was_right || !self.digests.is_on()
    }

    /// What an entry of a slot counts for.
    pub fn weigh(&self, db: Db, slot: Slot, entry: &Packed, over: Over) -> Weight {
        let id = key_id(db, entry.key());
        let hash = match over {
            // Where deadlines are equal the hash decides which the sweep has passed.
            Over::Passed if entry_deadline(entry).is_some() => self.realm.hash(entry.key()),
            _ => 0,
        };
        let passed = match over {
            Over::Passed => self.passed,
            Over::At(ms) => Some(Due { at: ms, hash: u64::MAX, slot: Slot(u16::MAX), db: Db(u16::MAX) }),
        };
        let scale = Scale { id: Some(id), due: Due { at: 0, hash, slot, db }, passed };
        let writes = match entry.view() {
            View::Rich(state) if state.hash.is_some() => {
                of_state_counted(&self.realm, id, state, scale.is_over(state.deadline_at()))
            }
            _ => scale.of_entry(&self.realm, entry),
        };
        // Where nothing counts the bytes may be on their way out.
        let is_over = entry_deadline(entry).is_some_and(|at| scale.is_over(Some(at)));
        let contents = if is_over { 0 } else { contents(&self.realm, id, entry.view()) };
        Weight { id, writes, contents }
    }
}

pub(super) fn entry_deadline(entry: &Packed) -> Option<DeadlineMs> {
    super::deadline_of(entry).and_then(|deadline| deadline.at)
}
