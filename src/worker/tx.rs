//! Commands over keys of several shards, whole and unseen until done.
//!
//! The home core locks the keys shard after shard in ascending order, then either has every owner run its part
//! (commands whose keys do not depend on each other), or gathers the keys' states, runs the command here on a scratch
//! shard, and sends each owner the effects for its keys, which it stamps with its own clock. Writes merged from peers
//! do not wait for locks: they are concurrent with the command whatever the order here.

use super::batch::{LockKey, Message, TxId};
use super::locks::{Claim, Mode};
use super::plan::{self, Part};
use super::session::{Blocked, Session};
use super::{Owed, Waiter, Worker};
use crate::base::ids::{ConnId, Db, ShardId};
use crate::base::slot::ShardMap;
use crate::base::time::Now;
use crate::command::Ctx;
use crate::command::args::Args;
use crate::command::spec::{Join, READ, Run, Spec};
use crate::merge::origins::OriginIdx;
use crate::resp::parse::{Argv, Limits as ParseLimits, Parser};
use crate::resp::write::{Reply, Version};
use crate::shard::backlog::Position;
use crate::shard::{Shard, ShardSettings, record, state};

/// A transaction of this core's client.
pub(super) struct Tx {
    conn: ConnId,
    place: u64,
    db: Db,
    version: Version,
    spec: &'static Spec,
    command: Vec<u8>,
    /// Who takes part, in ascending order, with what to lock.
    shards: Vec<(ShardId, Claim)>,
    /// How many of them have granted their locks.
    granted: usize,
    parts: Vec<Part>,
    replies: Vec<Option<Vec<u8>>>,
    states: Vec<(LockKey, Vec<u8>)>,
    /// Answers still to come in the present step.
    left: usize,
    reply: Vec<u8>,
}

impl Worker {
    /// Begins a command over several shards; the client waits for its reply.
    pub(super) fn begin_tx(&mut self, session: &mut Session, spec: &'static Spec, argv: &Argv, buf: &[u8], _now: Now) {
        let shards = match spec.run {
            Run::Everywhere(..) => {
                let all = (0..self.cores()).map(|shard| ShardId(shard as u16));
                all.map(|shard| (shard, Claim::Everything(mode_of(spec)))).collect()
            }
            _ => self.claims(session.db, spec, argv, buf),
        };
        let parts = match spec.run {
            Run::Split(..) => plan::split(self.shard.map, spec, argv, buf),
            Run::Everywhere(..) => plan::copy_to_all(self.cores(), argv, buf),
            _ => Vec::new(),
        };
        self.next_tx += 1;
        let number = self.next_tx;
        let tx = Tx {
            conn: session.conn,
            place: session.reserve(),
            db: session.db,
            version: session.version,
            spec,
            command: super::dispatch::command_bytes(argv, buf),
            shards,
            granted: 0,
            replies: parts.iter().map(|_| None).collect(),
            parts,
            states: Vec::new(),
            left: 0,
            reply: Vec::new(),
        };
        session.blocked = Some(Blocked::Reply);
        let (first, claim) = tx.shards[0].clone();
        self.txs.insert(number, tx);
        self.send(first, Message::Lock { tx: TxId { home: self.id, number }, claim });
    }

    // What each owner locks, in ascending order of owners.
    fn claims(&self, db: Db, spec: &Spec, argv: &Argv, buf: &[u8]) -> Vec<(ShardId, Claim)> {
        let mut owners: Vec<(ShardId, Vec<LockKey>)> = Vec::new();
        for key in self.lock_keys(db, spec, argv, buf) {
            let owner = self.shard.map.owner_of_key(&key.1);
            match owners.binary_search_by_key(&owner, |(shard, _)| *shard) {
                Ok(at) => owners[at].1.push(key),
                Err(at) => owners.insert(at, (owner, vec![key])),
            }
        }
        owners.into_iter().map(|(owner, keys)| (owner, Claim::Keys(mode_of(spec), keys))).collect()
    }

    /// A home core wants to lock something of this shard.
    pub(super) fn lock(&mut self, tx: TxId, claim: Claim, now: Now) {
        self.locks.claim_for(tx, claim, Waiter::Tx(tx));
        self.serve_waiting(now);
    }

    /// A shard has locked its keys for us: on to the next, or to the work.
    pub(super) fn granted(&mut self, id: TxId, _now: Now) {
        let Some(tx) = self.txs.get_mut(&id.number) else { return };
        tx.granted += 1;
        if let Some((next, claim)) = tx.shards.get(tx.granted).cloned() {
            return self.send(next, Message::Lock { tx: id, claim });
        }
        tx.left = tx.shards.len();
        let shards: Vec<ShardId> = tx.shards.iter().map(|(shard, _)| *shard).collect();
        if tx.parts.is_empty() {
            for shard in shards {
                self.send(shard, Message::Gather { tx: id });
            }
            return;
        }
        let (db, version) = (tx.db, tx.version);
        let commands: Vec<(ShardId, Vec<u8>)> =
            tx.parts.iter_mut().map(|part| (part.owner, std::mem::take(&mut part.command))).collect();
        for (part, (owner, command)) in commands.into_iter().enumerate() {
            let ticket = self.ticket();
            self.tickets.insert(ticket, Owed::Part { tx: id.number, part });
            self.send(owner, Message::RunPart { tx: id, ticket, db, version, command });
        }
    }

    /// Runs this shard's part of a split command and unlocks its keys.
    #[expect(clippy::too_many_arguments, reason = "the parts of one command")]
    pub(super) fn run_part(
        &mut self,
        from: ShardId,
        tx: TxId,
        ticket: super::Ticket,
        db: Db,
        version: Version,
        command: &[u8],
        now: Now,
    ) {
        let mut out = Vec::new();
        self.run_bytes(db, version, command, &mut out, now);
        self.locks.release_tx(tx);
        if from == self.id {
            self.done(ticket, &out, now);
        } else {
            let batch = &mut self.outboxes[usize::from(from.0)];
            let (start, len) = (batch.arena.len() as u32, out.len() as u32);
            batch.arena.extend_from_slice(&out);
            batch.dones.push(super::batch::Done { ticket, start, len });
        }
        self.serve_waiting(now);
    }

    /// A part's reply is here.
    pub(super) fn part_done(&mut self, number: u64, part: usize, reply: Vec<u8>, now: Now) {
        let Some(tx) = self.txs.get_mut(&number) else { return };
        tx.replies[part] = Some(reply);
        tx.left -= 1;
        if tx.left > 0 {
            return;
        }
        let Some(tx) = self.txs.remove(&number) else { return };
        let replies: Vec<Vec<u8>> = tx.replies.into_iter().flatten().collect();
        let reply = match tx.spec.run.join() {
            Some(Join::Order) => {
                let placed: Vec<_> = tx.parts.into_iter().map(|part| part.places).zip(replies).collect();
                plan::reorder(&placed, tx.version)
            }
            Some(join) => plan::join(join, replies, tx.version),
            None => Vec::new(),
        };
        self.complete(tx.conn, tx.place, &reply, now);
    }

    /// Sends the states of keys locked here to their transaction's home.
    pub(super) fn gather(&mut self, from: ShardId, tx: TxId, _now: Now) {
        let mut states = Vec::new();
        for (db, key) in self.locks.held_by(tx) {
            let found = self.shard.key(key);
            if let Some(entry) = self.shard.keys.find(*db, &found) {
                let mut bytes = Vec::new();
                state::encode(entry, &mut bytes);
                states.push(((*db, key.clone()), bytes));
            }
        }
        self.send(from, Message::Gathered { tx, states });
    }

    /// States are here; with the last of them the command runs, and its effects go out.
    pub(super) fn gathered(&mut self, id: TxId, states: Vec<(LockKey, Vec<u8>)>, now: Now) {
        let Some(tx) = self.txs.get_mut(&id.number) else { return };
        tx.states.extend(states);
        tx.left -= 1;
        if tx.left > 0 {
            return;
        }
        let (effects, reply) = self.run_on_scratch(id.number, now);
        let Some(tx) = self.txs.get_mut(&id.number) else { return };
        tx.reply = reply;
        tx.left = tx.shards.len();
        let shards: Vec<ShardId> = tx.shards.iter().map(|(shard, _)| *shard).collect();
        let map = self.shard.map;
        for shard in shards {
            let mut records = Vec::new();
            let mut rest = &effects[..];
            while let Some(head) = record::head(rest) {
                if map.owner(head.partition) == shard {
                    records.extend_from_slice(&rest[..head.bytes]);
                }
                rest = &rest[head.bytes..];
            }
            self.send(shard, Message::Effects { tx: id, records });
        }
    }

    /// Stamps and applies a transaction's effects on keys locked here, and unlocks them.
    pub(super) fn effects(&mut self, from: ShardId, tx: TxId, records: &[u8], now: Now) {
        let mut rest = records;
        while let Some(head) = record::head(rest) {
            // Inside one node origin indices are common.
            if let Some(body) = record::body(&rest[..head.bytes], &|index| Some(OriginIdx(index))) {
                let key = self.shard.key(body.key);
                self.shard.apply_local(body.db, &key, &body.op, now);
            }
            rest = &rest[head.bytes..];
        }
        self.locks.release_tx(tx);
        self.send(from, Message::Applied { tx });
        self.serve_waiting(now);
    }

    /// Effects are applied; with the last of them the client is answered.
    pub(super) fn applied(&mut self, id: TxId, now: Now) {
        let Some(tx) = self.txs.get_mut(&id.number) else { return };
        tx.left -= 1;
        if tx.left == 0
            && let Some(tx) = self.txs.remove(&id.number)
        {
            self.complete(tx.conn, tx.place, &tx.reply, now);
        }
    }

    // Runs a gathered command on a shard made of the gathered keys alone; returns its effects and its reply.
    fn run_on_scratch(&mut self, number: u64, now: Now) -> (Vec<u8>, Vec<u8>) {
        let Some(tx) = self.txs.get(&number) else { return Default::default() };
        let settings = ShardSettings {
            id: ShardId(0),
            map: ShardMap::new(1),
            databases: self.shard.keys.databases(),
            backlog_bytes_max: usize::MAX,
            drift_ms_max: u64::MAX,
            seed: number,
        };
        let mut scratch = Shard::new(std::sync::Arc::clone(self.shard.realm()), &settings);
        scratch.logging = true;
        for ((db, key), bytes) in &tx.states {
            if let Some(state) = state::decode(scratch.realm(), &mut &bytes[..], &|index| Some(OriginIdx(index))) {
                let key = scratch.key(key);
                scratch.keys.join(*db, &key, state);
            }
        }
        let mut argv = Argv::new();
        let limits = ParseLimits { bulk_bytes_max: usize::MAX, ..ParseLimits::default() };
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, tx.version);
        let parsed = Parser::new().next(&tx.command, &limits, &mut argv);
        match (parsed, tx.spec.run.handler()) {
            (Ok(_), Some(handler)) => {
                let mark = reply.mark();
                let mut ctx = Ctx {
                    shard: &mut scratch,
                    db: tx.db,
                    now,
                    limits: &self.limits,
                    scratch: &mut self.scratch,
                    foreseen: None,
                };
                if let Err(error) = handler(&mut ctx, &mut Args::new(&argv, &tx.command), &mut reply) {
                    reply.truncate(mark);
                    reply.error(&error.to_string());
                    self.stats.errors += 1;
                }
            }
            _ => reply.error("ERR internal error: a command was not understood at home"),
        }
        let mut effects = Vec::new();
        let mut at = Position(0);
        while let Some(bytes) = scratch.backlog.read(at).filter(|bytes| !bytes.is_empty()) {
            effects.extend_from_slice(bytes);
            at.0 += bytes.len() as u64;
        }
        (effects, out)
    }
}

/// What a command locks its keys for.
pub(super) fn mode_of(spec: &Spec) -> Mode {
    if spec.flags.has(READ) { Mode::Read } else { Mode::Write }
}
