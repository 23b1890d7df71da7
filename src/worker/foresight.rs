//! Looking ahead at what has arrived, so that the memory its commands need is on its way before they run.

use super::Worker;
use super::batch::Batch;
use crate::base::ids::Db;
use crate::base::slot::slot_of;
use crate::resp::scout::{Glimpse, scout};
use crate::store::keyspace::ahead::{SOON_MAX, Soon};

impl Worker {
    /// Asks for everything that was noted.
    #[inline]
    pub(super) fn fetch_noted(&mut self) {
        // A single key arrives no sooner for being asked for just before it is used.
        if self.soon.len() > 1 {
            self.shard.keys.fetch(&self.soon);
        }
        self.soon.clear();
    }

    /// How many of the first `calls` of a batch to run next, after asking for their keys.
    pub(super) fn fetch_calls(&mut self, batch: &Batch, from: usize) -> usize {
        let mut end = from;
        while end < batch.calls.len() && self.soon.len() < SOON_MAX {
            let call = &batch.calls[end];
            self.note_keys(call.db, &batch.arena[call.start as usize..(call.start + call.len) as usize]);
            end += 1;
        }
        self.fetch_noted();
        end
    }

    /// Notes the keys that these commands ask for, as many as there is room for.
    #[inline]
    pub(super) fn note_keys(&mut self, db: Db, bytes: &[u8]) {
        let Self { shard, soon, .. } = self;
        if soon.len() >= SOON_MAX {
            return;
        }
        scout(bytes, |Glimpse { name, key, second }| {
            let slot = slot_of(key);
            if shard.map.owner(slot.partition()) == shard.id {
                shard.keys.prefetch_table(db, slot);
                let field = second.filter(|_| matches!(name, [b'h' | b'H', _, _, _, ..]));
                let realm = shard.realm();
                soon.push(Soon { db, slot, hash: realm.hash(key), field: field.map(|field| realm.hash(field)) });
            }
            soon.len() < SOON_MAX
        });
    }
}
