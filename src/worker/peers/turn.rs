//! How a link begins: it waits for its turn (`peer::turns`), says what this node has by then, and has its turn until
//! what its master had is here. What the master cannot stream is asked for whole in a second turn, if it is still lacked.

use super::super::Worker;
use super::super::batch::Message;
use super::HEARTBEAT_US;
use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::{PeerId, PeerMessage, Turn};
use crate::shard::block::{self, Kind};
use std::collections::btree_map;

/// So long it takes at most until a master has heard what has been applied here, microseconds.
const SURE_US: u64 = 500_000;

/// The core that deals the turns.
const DEALER: ShardId = ShardId(0);

/// How far a link has come. Feeds are `CaughtUp`.
pub(super) enum Phase {
    /// Its turn has not come.
    Waiting,
    /// Its master was told to begin and says what it has.
    Begun(Vec<(OriginIdx, usize, Hlc)>),
    /// This of it is not here yet.
    Behind(Vec<(OriginIdx, usize, Hlc)>),
    /// All of it is.
    CaughtUp,
}

impl Phase {
    /// Whether its master was told to begin.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self, Phase::Waiting)
    }

    /// Whether all is here that its master had when the link began.
    pub(super) fn has_caught_up(&self) -> bool {
        matches!(self, Phase::CaughtUp)
    }

    /// How many streams are known to be not here yet.
    pub(super) fn left(&self) -> usize {
        if let Phase::Behind(lacking) = self { lacking.len() } else { 0 }
    }
}

impl Worker {
    /// A link has shaken hands.
    pub(super) fn ask_turn(&mut self, conn: ConnId) {
        let link = PeerId { home: self.id, conn };
        self.say_turn(Turn::Wanted(link));
    }

    pub(super) fn say_turn(&mut self, turn: Turn) {
        let to = if let Turn::Granted(link) | Turn::Whole(link) = turn { link.home } else { DEALER };
        self.send(to, Message::Peer(Box::new(PeerMessage::Turn(turn))));
    }

    pub(super) fn turn(&mut self, turn: Turn, now: Now) {
        match turn {
            Turn::Wanted(link) => self.peers.turns.ask(link),
            Turn::Behind(link) => self.peers.turns.fall_behind(link, now.mono_us),
            Turn::Passed(link) => self.peers.turns.pass(link),
            Turn::Over(link) => self.peers.turns.end(link),
            Turn::Granted(link) | Turn::Whole(link) => {
                let cores = self.cores();
                if let Some(conn) = self.peers.conns.get_mut(&link.conn) {
                    conn.asking = cores;
                    self.broadcast(|| PeerMessage::Acknowledge { link });
                }
                return;
            }
        }
        self.deal_turns(now);
    }

    pub(super) fn deal_turns(&mut self, now: Now) {
        let are_coming = self.linked().coming > 0;
        for turn in self.peers.turns.next(now.mono_us, are_coming) {
            self.say_turn(turn);
        }
    }

    /// One more shard has said what it has applied, because this link asked: what others have brought is known then.
    pub(super) fn shard_has_said(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.peers.conns.get_mut(&id) else { return };
        if conn.asking == 0 {
            return;
        }
        conn.asking -= 1;
        match conn.phase {
            _ if conn.asking > 0 => {}
            Phase::Waiting => self.begin_link(id, now),
            _ => self.pull(id),
        }
    }

    // From here on the master streams what is above what it has been told.
    fn begin_link(&mut self, id: ConnId, now: Now) {
        let Some(mut conn) = self.peers.conns.remove(&id) else { return };
        let origin = conn.origin;
        if let Some(mut output) = self.sessions.get_mut(id).map(|session| std::mem::take(&mut session.output)) {
            self.say(&mut conn, &mut output, true, now);
            block::put(&mut output, Kind::Start, |_| {});
            if let Some(session) = self.sessions.get_mut(id) {
                session.output = output;
            }
            self.dirty(id);
        }
        conn.phase = Phase::Begun(Vec::new());
        conn.healthy = true;
        self.peers.conns.insert(id, conn);
        self.broadcast(|| PeerMessage::Direct { origin, healthy: true });
    }

    /// A link's master has said all that it has: its first heartbeat comes behind it.
    pub(super) fn master_has_said(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.peers.conns.get_mut(&id) else { return };
        if let Phase::Begun(said) = &mut conn.phase {
            conn.phase = Phase::Behind(std::mem::take(said));
            self.look_who_caught_up(now);
        }
    }

    /// Something has been applied here.
    pub(super) fn look_who_caught_up(&mut self, now: Now) {
        let own = &self.peers.roster.own().versions;
        let mut turns = Vec::new();
        for (id, conn) in &mut self.peers.conns {
            let Phase::Behind(lacking) = &mut conn.phase else { continue };
            lacking.retain(|&(origin, partition, hlc)| own.get(origin, partition) < hlc);
            let link = PeerId { home: self.id, conn: *id };
            if lacking.is_empty() {
                conn.phase = Phase::CaughtUp;
                conn.behind.clear();
                turns.push(Turn::Over(link));
            } else if !conn.has_passed
                && lacking.iter().all(|(_, partition, _)| conn.behind.contains_key(&(*partition as u8)))
            {
                conn.has_passed = true;
                turns.push(Turn::Passed(link));
            }
        }
        if !turns.is_empty() {
            turns.into_iter().for_each(|turn| self.say_turn(turn));
            self.share_counts(now);
        }
    }

    /// A master cannot stream all that we lack of these partitions. It says so again every second while that is so.
    pub(super) fn told_behind(&mut self, id: ConnId, partitions: &[u8], now: Now) -> Option<()> {
        let conn = self.peers.conns.get_mut(&id)?;
        for &partition in partitions {
            let told = conn.behind.entry(partition).or_insert(Told { first_us: now.mono_us, last_us: now.mono_us });
            told.again(now.mono_us);
        }
        self.say_turn(Turn::Behind(PeerId { home: self.id, conn: id }));
        self.look_who_caught_up(now);
        Some(())
    }

    // Nobody else is going to stream what a link's master cannot: it is asked for whole partitions.
    fn pull(&mut self, id: ConnId) {
        let link = PeerId { home: self.id, conn: id };
        let (Some(conn), Some(session)) = (self.peers.conns.get_mut(&id), self.sessions.get_mut(id)) else { return };
        let is_wanted = |partition: u8, told: &Told| match &conn.phase {
            Phase::Behind(lacking) => lacking.iter().any(|(_, at, _)| *at == usize::from(partition)),
            Phase::CaughtUp => told.is_sure(),
            _ => true,
        };
        let is_caught_up = matches!(conn.phase, Phase::CaughtUp);
        for (&partition, _) in conn.behind.iter().filter(|(partition, told)| is_wanted(**partition, told)) {
            // One link at a time merges a partition.
            if let btree_map::Entry::Vacant(free) = self.peers.pulling.entry(partition) {
                free.insert(link);
                conn.fell_behind = true;
                block::put(&mut session.output, Kind::Pull, |out| out.push(partition));
            }
        }
        conn.behind.retain(|_, told| is_caught_up && !told.is_sure());
        self.dirty_if_output(id);
        if is_caught_up {
            self.say_turn(Turn::Over(link));
        }
    }
}

/// When a master has said that it cannot stream what we lack of a partition, on `Now::mono_us`.
#[derive(Clone, Copy)]
pub(super) struct Told {
    first_us: u64,
    last_us: u64,
}

impl Told {
    // It says so every second. When it has been silent for longer, it was so no more meanwhile.
    fn again(&mut self, mono_us: u64) {
        if mono_us > self.last_us + SURE_US + HEARTBEAT_US {
            self.first_us = mono_us;
        }
        self.last_us = mono_us;
    }

    /// It has said so again since it must have heard of what came over other links.
    fn is_sure(self) -> bool {
        self.last_us >= self.first_us + SURE_US
    }
}
