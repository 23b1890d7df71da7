//! Intent locks of one shard, for commands over several shards.
//!
//! A transaction asks shard after shard in ascending order and waits for each; inside a shard a claim waits for every
//! earlier one it collides with. So no cycle of waiting can form, nobody starves, and a claim costs its own keys,
//! however many wait. Claims that only read go beside each other. Commands on one key look at one word when nothing is
//! claimed here.

use std::collections::VecDeque;

use hashbrown::{Equivalent, HashMap};

use super::batch::{LockKey, TxId};
use crate::base::ids::Db;

/// What a claim is made for. Reads go beside each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To read.
    Read,
    /// To write.
    Write,
}

/// What is to be locked on a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// These keys, each once.
    Keys(Mode, Vec<LockKey>),
    /// All keys of all databases.
    Everything(Mode),
}

/// Numbers a claim on this shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClaimId(u64);

/// The locks of one shard. `W` is what waits: a transaction's request or a command.
pub struct Locks<W> {
    claims: HashMap<ClaimId, Waiting<W>, ahash::RandomState>,
    /// Per key, the claims on it in the order they came.
    keys: HashMap<LockKey, VecDeque<(ClaimId, Mode)>, ahash::RandomState>,
    /// Claims on keys and claims on everything take turns; only the first round runs.
    rounds: VecDeque<Round>,
    transactions: HashMap<TxId, ClaimId, ahash::RandomState>,
    free: VecDeque<ClaimId>,
    next_claim: u64,
}

struct Waiting<W> {
    claim: Claim,
    /// Keys, and the round, it still waits for.
    blockers: usize,
    /// Taken when it is served.
    what: Option<W>,
}

/// Claims that do not collide by what they are.
struct Round {
    kind: RoundKind,
    claims: Vec<ClaimId>,
    left: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RoundKind {
    OnKeys,
    ReadsEverything,
    WritesEverything,
}

/// A key as it is looked for.
#[derive(Hash)]
struct Sought<'a>(Db, &'a [u8]);

impl Equivalent<LockKey> for Sought<'_> {
    fn equivalent(&self, key: &LockKey) -> bool {
        self.0 == key.0 && *self.1 == *key.1
    }
}

impl<W> Default for Locks<W> {
    fn default() -> Self {
        let hasher = || ahash::RandomState::with_seeds(1, 2, 3, 4);
        Self {
            claims: HashMap::with_hasher(hasher()),
            keys: HashMap::with_hasher(hasher()),
            rounds: VecDeque::new(),
            transactions: HashMap::with_hasher(hasher()),
            free: VecDeque::new(),
            next_claim: 0,
        }
    }
}

impl<W> Locks<W> {
    /// Whether anything is claimed. When not, nobody else need be asked.
    #[inline]
    pub fn any(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether a command on this key must wait.
    pub fn blocks(&self, mode: Mode, db: Db, key: &[u8]) -> bool {
        let is_turn = self.rounds.len() <= 1 && self.rounds.iter().all(|round| round.kind == RoundKind::OnKeys);
        !is_turn || self.keys.get(&Sought(db, key)).is_some_and(|queue| !goes_beside(mode, queue))
    }

    /// Locks what is free, else waits for it; [`Locks::next_free`] says when it is locked.
    pub fn claim(&mut self, claim: Claim, what: W) -> ClaimId {
        self.next_claim += 1;
        let id = ClaimId(self.next_claim);
        let mut blockers = usize::from(!self.join_round(id, claim.round()));
        if let Claim::Keys(mode, keys) = &claim {
            for key in keys {
                let queue = self.keys.entry(key.clone()).or_default();
                blockers += usize::from(!goes_beside(*mode, queue));
                queue.push_back((id, *mode));
            }
        }
        self.claims.insert(id, Waiting { claim, blockers, what: Some(what) });
        if blockers == 0 {
            self.free.push_back(id);
        }
        id
    }

    /// The same for a transaction, which names itself when it is done.
    pub fn claim_for(&mut self, tx: TxId, claim: Claim, what: W) {
        let id = self.claim(claim, what);
        self.transactions.insert(tx, id);
    }

    /// The next claim that has all it wants. It keeps it until it is released. Call again until `None`.
    pub fn next_free(&mut self) -> Option<(ClaimId, W)> {
        let id = self.free.pop_front()?;
        let what = self.claims.get_mut(&id)?.what.take()?;
        Some((id, what))
    }

    /// The keys a transaction holds here.
    pub fn held_by(&self, tx: TxId) -> &[LockKey] {
        match self.transactions.get(&tx).and_then(|id| self.claims.get(id)).map(|waiting| &waiting.claim) {
            Some(Claim::Keys(_, keys)) => keys,
            _ => &[],
        }
    }

    /// Frees what a transaction holds.
    pub fn release_tx(&mut self, tx: TxId) {
        if let Some(id) = self.transactions.remove(&tx) {
            self.release(id);
        }
    }

    /// Frees what a served claim holds.
    pub fn release(&mut self, id: ClaimId) {
        let Some(Waiting { claim, .. }) = self.claims.remove(&id) else { return };
        if let Claim::Keys(mode, keys) = claim {
            for key in keys {
                self.leave_key(id, mode, &key);
            }
        }
        let Some(round) = self.rounds.front_mut() else { return };
        round.left -= 1;
        if round.left == 0 {
            self.rounds.pop_front();
            for id in self.rounds.front_mut().map(|next| std::mem::take(&mut next.claims)).unwrap_or_default() {
                self.unblock(id);
            }
        }
    }

    // Whether its turn has come.
    fn join_round(&mut self, id: ClaimId, kind: RoundKind) -> bool {
        let joins = kind != RoundKind::WritesEverything && self.rounds.back().is_some_and(|last| last.kind == kind);
        if !joins {
            self.rounds.push_back(Round { kind, claims: Vec::new(), left: 0 });
        }
        let is_turn = self.rounds.len() == 1;
        if let Some(round) = self.rounds.back_mut() {
            round.left += 1;
            // Those of the first round wait for nothing that this list would be needed for.
            if !is_turn {
                round.claims.push(id);
            }
        }
        is_turn
    }

    fn leave_key(&mut self, id: ClaimId, mode: Mode, key: &LockKey) {
        let Some(queue) = self.keys.get_mut(key) else { return };
        queue.retain(|(other, _)| *other != id);
        let freed: Vec<ClaimId> = match (mode, queue.front()) {
            (_, None) => {
                self.keys.remove(key);
                return;
            }
            // Reads behind a read that goes were free already.
            (Mode::Read, Some((_, Mode::Read))) => return,
            (_, Some(&(next, Mode::Write))) => vec![next],
            (Mode::Write, _) => queue.iter().take_while(|(_, mode)| *mode == Mode::Read).map(|(id, _)| *id).collect(),
        };
        freed.into_iter().for_each(|id| self.unblock(id));
    }

    fn unblock(&mut self, id: ClaimId) {
        let Some(waiting) = self.claims.get_mut(&id) else { return };
        waiting.blockers -= 1;
        if waiting.blockers == 0 {
            self.free.push_back(id);
        }
    }
}

impl Claim {
    fn round(&self) -> RoundKind {
        match self {
            Self::Keys(..) => RoundKind::OnKeys,
            Self::Everything(Mode::Read) => RoundKind::ReadsEverything,
            Self::Everything(Mode::Write) => RoundKind::WritesEverything,
        }
    }
}

// Whether a claim on a key waits for none of the earlier ones.
fn goes_beside(mode: Mode, earlier: &VecDeque<(ClaimId, Mode)>) -> bool {
    earlier.is_empty() || mode == Mode::Read && earlier.iter().all(|(_, mode)| *mode == Mode::Read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ShardId;

    fn keys(mode: Mode, names: &[&str]) -> Claim {
        Claim::Keys(mode, names.iter().map(|name| (Db(0), Box::from(name.as_bytes()))).collect())
    }

    fn served(locks: &mut Locks<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| locks.next_free()).map(|(_, what)| what).collect()
    }

    #[test]
    fn claims_are_served_in_order_as_far_as_their_keys_collide() {
        let mut locks = Locks::default();
        let first = locks.claim(keys(Mode::Write, &["a", "b"]), "ab");
        let second = locks.claim(keys(Mode::Write, &["b", "c"]), "bc");
        locks.claim(keys(Mode::Write, &["c"]), "c");
        locks.claim(keys(Mode::Write, &["d"]), "d");
        assert_eq!(served(&mut locks), ["ab", "d"]);
        assert!(locks.blocks(Mode::Read, Db(0), b"c"), "somebody waits for it");
        assert!(!locks.blocks(Mode::Write, Db(1), b"a") && !locks.blocks(Mode::Write, Db(0), b"e"));
        locks.release(first);
        assert_eq!(served(&mut locks), ["bc"]);
        locks.release(second);
        assert_eq!(served(&mut locks), ["c"]);
    }

    #[test]
    fn reads_go_beside_each_other_but_not_past_a_write_that_waits() {
        let mut locks = Locks::default();
        let first = locks.claim(keys(Mode::Read, &["a"]), "r1");
        let second = locks.claim(keys(Mode::Read, &["a"]), "r2");
        assert!(!locks.blocks(Mode::Read, Db(0), b"a") && locks.blocks(Mode::Write, Db(0), b"a"));
        let third = locks.claim(keys(Mode::Write, &["a"]), "w");
        locks.claim(keys(Mode::Read, &["a"]), "r3");
        locks.claim(keys(Mode::Read, &["a"]), "r4");
        assert_eq!(served(&mut locks), ["r1", "r2"]);
        assert!(locks.blocks(Mode::Read, Db(0), b"a"));
        locks.release(second);
        assert_eq!(served(&mut locks), [""; 0]);
        locks.release(first);
        assert_eq!(served(&mut locks), ["w"]);
        locks.release(third);
        assert_eq!(served(&mut locks), ["r3", "r4"]);
    }

    #[test]
    fn everything_waits_for_every_key_and_every_later_key_waits_for_it() {
        let mut locks = Locks::default();
        let first = locks.claim(keys(Mode::Read, &["a"]), "a");
        let reads = [Claim::Everything(Mode::Read), Claim::Everything(Mode::Read)];
        let reads = reads.map(|claim| locks.claim(claim, "read"));
        let write = locks.claim(Claim::Everything(Mode::Write), "write");
        locks.claim(keys(Mode::Read, &["b"]), "b");
        assert_eq!(served(&mut locks), ["a"]);
        assert!(locks.blocks(Mode::Read, Db(3), b"anything"));
        locks.release(first);
        assert_eq!(served(&mut locks), ["read", "read"]);
        reads.into_iter().for_each(|id| locks.release(id));
        assert_eq!(served(&mut locks), ["write"]);
        locks.release(write);
        assert_eq!(served(&mut locks), ["b"]);
        assert!(!locks.blocks(Mode::Write, Db(0), b"a") && locks.blocks(Mode::Write, Db(0), b"b"));
    }

    #[test]
    fn a_transaction_frees_all_its_keys_at_once() {
        let mut locks = Locks::default();
        let tx = TxId { home: ShardId(0), number: 1 };
        locks.claim_for(tx, keys(Mode::Write, &["a", "b"]), "tx");
        assert_eq!(served(&mut locks), ["tx"]);
        assert_eq!(locks.held_by(tx).len(), 2);
        locks.release_tx(tx);
        assert!(!locks.any());
        assert!(locks.held_by(tx).is_empty());
    }
}
