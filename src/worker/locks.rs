//! Intent locks on the keys of one shard, for commands over several shards.
//!
//! A transaction asks shard after shard in ascending order and waits for each; inside a shard requests are served in
//! the order they came as far as their keys collide. So no cycle of waiting can form, and nobody starves. Commands on
//! one key look at one word when nothing is locked here.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::batch::{LockKey, TxId};
use crate::base::ids::Db;

/// The locks of one shard. `W` is what waits: a transaction's request or a command.
pub struct Locks<W> {
    held: HashMap<LockKey, TxId, ahash::RandomState>,
    waiting: VecDeque<(Vec<LockKey>, W)>,
}

impl<W> Default for Locks<W> {
    fn default() -> Self {
        let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self { held: HashMap::with_hasher(hasher), waiting: VecDeque::new() }
    }
}

impl<W> Locks<W> {
    /// Whether anything is locked or waited for. When not, nobody else need be asked.
    #[inline]
    pub fn any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether a command on this key must wait.
    pub fn blocks(&self, db: Db, key: &[u8]) -> bool {
        let is = |known: &LockKey| known.0 == db && &*known.1 == key;
        self.held.contains_key(&(db, Box::from(key))) || self.waiting.iter().any(|(keys, _)| keys.iter().any(is))
    }

    /// Whether a request for these keys must wait.
    pub fn blocks_any(&self, keys: &[LockKey]) -> bool {
        keys.iter().any(|(db, key)| self.blocks(*db, key))
    }

    /// Locks keys that are free.
    pub fn hold(&mut self, tx: TxId, keys: Vec<LockKey>) {
        for key in keys {
            let before = self.held.insert(key, tx);
            debug_assert!(before.is_none_or(|before| before == tx), "a key is locked by one transaction");
        }
    }

    /// Queues what must wait for these keys.
    pub fn wait(&mut self, keys: Vec<LockKey>, what: W) {
        self.waiting.push_back((keys, what));
    }

    /// The keys a transaction holds here.
    pub fn held_by(&self, tx: TxId) -> Vec<LockKey> {
        self.held.iter().filter(|(_, holder)| **holder == tx).map(|(key, _)| key.clone()).collect()
    }

    /// Frees a transaction's keys.
    pub fn release(&mut self, tx: TxId) {
        self.held.retain(|_, holder| *holder != tx);
    }

    /// The first waiter whose keys are neither held nor claimed by an earlier waiter. Call again until `None`.
    pub fn next_free(&mut self) -> Option<(Vec<LockKey>, W)> {
        let mut claimed: Vec<&LockKey> = Vec::new();
        let mut free = None;
        for (at, (keys, _)) in self.waiting.iter().enumerate() {
            if keys.iter().all(|key| !self.held.contains_key(key) && !claimed.contains(&key)) {
                free = Some(at);
                break;
            }
            claimed.extend(keys);
        }
        self.waiting.remove(free?)
    }

    /// How many requests and commands wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    fn tx(number: u64) -> TxId {
        TxId { home: ShardId(0), number }
    }

    fn keys(names: &[&str]) -> Vec<LockKey> {
        names.iter().map(|name| (Db(0), Box::from(name.as_bytes()))).collect()
    }

    #[test]
    fn waiters_are_served_in_order_as_far_as_their_keys_collide() {
        let mut locks = Locks::default();
        locks.hold(tx(1), keys(&["a", "b"]));
        locks.wait(keys(&["b", "c"]), "second");
        locks.wait(keys(&["c"]), "third");
        locks.wait(keys(&["d"]), "free");
        assert!(locks.blocks(Db(0), b"c") && !locks.blocks(Db(0), b"x") && !locks.blocks(Db(1), b"a"));
        assert_eq!(locks.next_free().map(|(_, what)| what), Some("free"));
        assert_eq!(locks.next_free(), None);
        locks.release(tx(1));
        assert_eq!(locks.next_free().map(|(_, what)| what), Some("second"));
        locks.hold(tx(2), keys(&["b", "c"]));
        assert_eq!(locks.next_free(), None);
        locks.release(tx(2));
        assert_eq!(locks.next_free().map(|(_, what)| what), Some("third"));
        assert!(!locks.any());
    }
}
