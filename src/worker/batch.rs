//! All that crosses the mesh: one batch per pair of cores and tick.
//!
//! Commands and replies lie in the batch's arena, so a tick costs a few allocations per target, not one per command.

use crate::base::ids::{Db, ShardId};
use crate::resp::write::Version;

/// What one core found for another in one tick.
#[derive(Default)]
pub struct Batch {
    /// Bytes of `calls` and `dones`.
    pub arena: Vec<u8>,
    /// Commands for keys the receiver owns.
    pub calls: Vec<Call>,
    /// Replies to the receiver's calls.
    pub dones: Vec<Done>,
    /// Everything rarer.
    pub messages: Vec<Message>,
}

/// A command to run; its RESP form is `arena[start..start + len]`.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Comes back in the [`Done`].
    pub ticket: Ticket,
    /// The client's database.
    pub db: Db,
    /// How to write the reply.
    pub version: Version,
    /// Offset in the arena.
    pub start: u32,
    /// Length in the arena.
    pub len: u32,
}

/// A reply; its bytes are `arena[start..start + len]`.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Of the call.
    pub ticket: Ticket,
    /// Offset in the arena.
    pub start: u32,
    /// Length in the arena.
    pub len: u32,
}

/// Pairs a reply with its call. Means something on the asking core only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// A transaction over keys of several shards: the home core and its count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxId {
    /// Who coordinates.
    pub home: ShardId,
    /// Which of its transactions.
    pub number: u64,
}

/// A database and a key: what is locked.
pub type LockKey = (Db, Box<[u8]>);

/// What is rarer than a command on one key.
pub enum Message {
    /// Lock this for a transaction; answered by `Granted` once all of it is free.
    Lock {
        /// For whom.
        tx: TxId,
        /// All of the receiver's that takes part.
        claim: super::locks::Claim,
    },
    /// All of it is locked.
    Granted {
        /// For whom.
        tx: TxId,
    },
    /// Run a part of a split command over locked keys, answer, and unlock them.
    RunPart {
        /// Whose locks.
        tx: TxId,
        /// Comes back in the `Done`.
        ticket: Ticket,
        /// The client's database.
        db: Db,
        /// How to write the reply.
        version: Version,
        /// The command with this shard's keys only, in RESP form.
        command: Vec<u8>,
    },
    /// Send the states of the locked keys home.
    Gather {
        /// Whose locks.
        tx: TxId,
    },
    /// The states asked for: `(database, key, encoded state)`; absent keys are left out.
    Gathered {
        /// For which transaction.
        tx: TxId,
        /// `shard::state` form.
        states: Vec<(LockKey, Vec<u8>)>,
    },
    /// Stamp and apply these effects (records whose stamps are not used), then unlock.
    Effects {
        /// Whose locks.
        tx: TxId,
        /// `shard::record` form, one after another.
        records: Vec<u8>,
    },
    /// The effects are applied and the keys unlocked.
    Applied {
        /// Of which transaction.
        tx: TxId,
    },
    /// Something asked of another core; see `control`.
    Ask {
        /// Comes back in the answer.
        ticket: Ticket,
        /// What.
        ask: super::control::Ask,
    },
    /// Its answer.
    Answer {
        /// Of the `Ask`.
        ticket: Ticket,
        /// What was found.
        answer: super::control::Answer,
    },
    /// Told, not asked.
    Tell(super::control::Tell),
    /// Snapshots; see `saving`.
    Save(Box<super::saving::SaveMessage>),
    /// Links and feeds; see `peer`.
    Peer(Box<crate::peer::mesh::PeerMessage>),
}

impl Batch {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.dones.is_empty() && self.messages.is_empty()
    }
}
