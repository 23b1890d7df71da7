//! Looking ahead at what has arrived, so that the memory its commands need is on its way before they run.

use super::Worker;
use super::batch::Batch;
use crate::base::ids::Db;
use crate::base::slot::slot_of;
use crate::resp::scout::{Glimpse, scout};
use crate::store::keyspace::ahead::{SOON_MAX, Soon};

/// So many noted keys are looked at to find that of a command: some commands before it may not have asked for theirs.
const LOOKED_AT: usize = 4;

/// Keys that commands which have arrived will ask for, in the order they will.
#[derive(Default)]
pub(super) struct Foresight {
    soon: Vec<Soon>,
    /// Those before this one have been asked for.
    used: usize,
    /// All were fetched: what is noted next begins anew.
    is_fetched: bool,
    /// Bytes run that came as they were shown. Those of other cores' batches, and input that was kept, may lie where
    /// something else lay when it was noted.
    pub(super) is_live: bool,
    /// The key of the command that runs now.
    pub(super) current: Option<Soon>,
}

impl Foresight {
    /// The bytes that were shown may go now, and others come to lie in their place: nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.soon.clear();
        (self.used, self.is_fetched) = (0, false);
    }

    /// There is room for no more.
    pub(super) fn is_full(&self) -> bool {
        self.soon.len() >= SOON_MAX && !self.is_fetched
    }
}

impl Worker {
    /// Asks for everything that was noted.
    #[inline]
    pub(super) fn fetch_noted(&mut self) {
        // A single key arrives no sooner for being asked for just before it is used.
        if self.foresight.soon.len() > 1 && !self.foresight.is_fetched {
            self.shard.keys.fetch(&self.foresight.soon);
        }
        self.foresight.is_fetched = true;
    }

    /// How many of the first `calls` of a batch to run next, after asking for their keys.
    pub(super) fn fetch_calls(&mut self, batch: &Batch, from: usize) -> usize {
        let mut end = from;
        while end < batch.calls.len() && (end == from || !self.foresight.is_full()) {
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
        let Self { shard, foresight: Foresight { soon, used, is_fetched, .. }, .. } = self;
        if std::mem::take(is_fetched) {
            soon.clear();
            *used = 0;
        }
        if soon.len() >= SOON_MAX {
            return;
        }
        scout(bytes, |Glimpse { name, key, second }| {
            let slot = slot_of(key);
            if shard.map.owner(slot.partition()) == shard.id {
                shard.keys.prefetch_table(db, slot);
                let field = second.filter(|_| matches!(name, [b'h' | b'H', _, _, _, ..]));
                soon.push(Soon::new(shard.realm(), db, key, slot, field));
            }
            soon.len() < SOON_MAX
        });
    }

    /// What is known of the key of the next command, whose first argument this is. The runtime shows all that arrives
    /// before it brings it, and brings it unchanged: so what lies where a noted key lay is that key.
    #[inline]
    pub(super) fn foreseen_key(&mut self, argument: &[u8]) -> Option<Soon> {
        let Foresight { soon, used, is_live: true, .. } = &mut self.foresight else { return None };
        let next = soon.get(*used..)?.iter().take(LOOKED_AT).position(|soon| soon.is_of(argument))?;
        *used += next + 1;
        Some(soon[*used - 1])
    }
}
