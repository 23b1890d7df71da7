//! Walks over the keys of a shard as readers see them: deleted and expired ones are passed over.

use super::Shard;
use super::write::{Found, visible};
use crate::base::ids::{Db, SLOTS_PER_PARTITION, Slot};
use crate::base::rng::Rng;
use crate::base::time::Now;

/// Picks among live and deleted keys before [`Shard::random_key`] walks.
const SAMPLE_TRIES: usize = 32;

impl Shard {
    /// The slots this shard owns: first, and one past the last.
    pub fn slots(&self) -> (usize, usize) {
        let (first, end) = self.keys.partitions();
        (first * SLOTS_PER_PARTITION, end * SLOTS_PER_PARTITION)
    }

    /// Calls `each` for every key of a database, in no useful order.
    pub fn each_key(&self, db: Db, now: Now, mut each: impl FnMut(&[u8], Found<'_>)) {
        let time_ms = self.time_ms(now);
        let (first, end) = self.slots();
        for slot in first..end {
            self.keys.each_in_slot(db, Slot(slot as u16), |entry| {
                if let Some(found) = visible(&self.realm, entry, time_ms) {
                    each(entry.key(), found);
                }
            });
        }
    }

    /// One step of a scan over the keys of a database in one slot, looking at about `count` of them. Returns how many
    /// it looked at, deleted ones included, and where to go on (0: the slot is done).
    pub fn scan_slot(
        &self,
        db: Db,
        slot: Slot,
        cursor: u64,
        count: usize,
        now: Now,
        mut each: impl FnMut(&[u8], Found<'_>),
    ) -> (usize, u64) {
        let time_ms = self.time_ms(now);
        let mut looked = 0;
        let next = self.keys.scan_slot(db, slot, cursor, count, |entry| {
            looked += 1;
            if let Some(found) = visible(&self.realm, entry, time_ms) {
                each(entry.key(), found);
            }
        });
        (looked, next)
    }

    /// A key picked by chance.
    pub fn random_key(&self, db: Db, rng: &mut Rng, now: Now) -> Option<&[u8]> {
        let time_ms = self.time_ms(now);
        for _ in 0..SAMPLE_TRIES {
            let entry = self.keys.sample(db, rng)?;
            if visible(&self.realm, entry, time_ms).is_some() {
                return Some(entry.key());
            }
        }
        // Nearly everything here is deleted: take the first live key behind a random place.
        self.keys.find_from(db, rng, |entry| visible(&self.realm, entry, time_ms).is_some()).map(|entry| entry.key())
    }
}
