//! What can be forgotten once every member has heard of it: queues of keys per partition, looked at in turn.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::packing::tally_of;
use super::{KeyRef, Keyspace, Packed};
use crate::base::ids::{Db, Slot};
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::{Hlc, Stamp};

/// A key that holds, or held, something to forget.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Garbage {
    pub(super) hash: u64,
    pub(super) slot: Slot,
    pub(super) db: Db,
}

impl Keyspace {
    /// The latest stamp ever forgotten in a partition.
    pub fn forgotten(&self, partition: usize) -> Stamp {
        self.forgotten[partition - self.first_partition]
    }

    /// The latest write ever forgotten in a partition of each origin. Who has acknowledged all of these lacks nothing
    /// that was forgotten, though it may lack other writes that are older than the latest of them.
    pub fn forgotten_of(&self, partition: usize) -> impl Iterator<Item = Stamp> + Clone + '_ {
        self.forgotten_of.column(partition).map(|(origin, hlc)| Stamp::new(hlc, origin))
    }

    /// The same of one origin.
    pub fn forgotten_by(&self, origin: OriginIdx, partition: usize) -> Hlc {
        self.forgotten_of.get(origin, partition)
    }

    /// Raises what [`Keyspace::forgotten`] and [`Keyspace::forgotten_of`] answer (a full merge or snapshot brings the
    /// sender's).
    pub fn raise_forgotten(&mut self, partition: usize, stamp: Stamp) {
        let known = &mut self.forgotten[partition - self.first_partition];
        *known = self.realm.origins.later(*known, stamp);
        self.forgotten_of.raise(stamp.origin(), partition, stamp.hlc());
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
            let mut forgotten = SmallVec::<[Stamp; 8]>::new();
            self.update(garbage.db, &key, |state| {
                state.collect(&realm, stable, &mut |stamp| forgotten.push(stamp), budget);
                true
            });
            for stamp in forgotten {
                self.raise_forgotten(partition, stamp);
            }
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

    pub(super) fn queue_garbage(&mut self, garbage: Garbage) {
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

    fn garbage_key(&self, garbage: &Garbage) -> Option<Box<[u8]>> {
        let tables = self.dbs[usize::from(garbage.db.0)].as_ref()?;
        // The table shows whatever resembles the hash: taking another key for this one would leave this one for ever.
        let is_it = |entry: &Packed| tally_of(entry).garbage && self.realm.hash(entry.key()) == garbage.hash;
        tables[self.table_index(garbage.slot)].find(garbage.hash, is_it).map(|entry| Box::from(entry.key()))
    }
}
