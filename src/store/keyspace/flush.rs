//! Flushes: a floor per database and partition, tables that are cut off whole, and what outlives them.

use std::sync::Arc;

use super::packing::tally_of;
use super::trash::cut_off;
use super::{KeyRef, Keyspace, Table};
use crate::base::ids::{Db, SLOTS_PER_PARTITION};
use crate::merge::op::Op;
use crate::merge::stamp::Stamp;

impl Keyspace {
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
            let mut had_any = false;
            for (at, table) in range.clone().zip(&mut tables[range]) {
                if !table.is_empty() {
                    had_any = true;
                    self.trash.put_table(table.drain());
                    self.digests.set(db, at, 0);
                }
            }
            self.disturb_watches(partition);
            self.counts.reset(db, local);
            if self.counts.due() == 0 && !self.due.is_empty() {
                self.trash.put_deadlines(self.due.take());
            }
            return had_any;
        }
        let keys: Vec<Box<[u8]>> =
            tables[range].iter().flat_map(|table| table.iter().map(|entry| Box::from(entry.key()))).collect();
        for key in &keys {
            let key = KeyRef::new(&realm, key);
            let mut waste = None;
            self.update(db, &key, |state| {
                waste = cut_off(&realm, state, stamp);
                state.flush(&realm, stamp);
                true
            });
            self.trash.put_hash(waste);
        }
        !keys.is_empty()
    }

    /// The last flush of a partition's database.
    pub fn flushed(&self, db: Db, partition: usize) -> Stamp {
        self.floors[usize::from(db.0) * self.forgotten.len() + partition - self.first_partition]
    }

    /// Frees about `budget` keys and fields that were cut off whole. Returns whether any are left.
    pub fn free_trash(&mut self, budget: usize) -> bool {
        self.trash.free(budget)
    }

    /// Keys and fields that were cut off whole and are not freed yet.
    pub fn trash_len(&self) -> usize {
        self.trash.len()
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
    pub(super) fn apply_flushed(&mut self, db: Db, key: &KeyRef<'_>, stamp: Stamp, op: &Op<'_>) -> bool {
        let realm = Arc::clone(&self.realm);
        self.update_unwatched(db, key, |state| state.apply_observed(&realm, stamp, op))
    }
}
