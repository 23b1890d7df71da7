//! How a link begins: it waits for its turn (`peer::turns`), says what this node has by then, and has its turn until
//! what its master had is here. What the master cannot stream is asked for whole in a second turn, if it is still lacked.

use super::super::Worker;
use super::super::batch::Message;
use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::{PeerId, PeerMessage, Turn};
use crate::shard::block::{self, Kind};
use std::collections::btree_map;

/// The core that deals the turns.
const DEALER: ShardId = ShardId(0);

/// How far a link has come. Feeds are `CaughtUp`.
pub(super) enum Phase {
    /// Its turn has not come.
    Waiting,
    /// It has; so many shards have still to say what they have applied.
    Asking(usize),
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
        !matches!(self, Phase::Waiting | Phase::Asking(_))
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
            Turn::Whole(link) => return self.pull(link.conn),
            Turn::Granted(link) => {
                let cores = self.cores();
                if let Some(conn) = self.peers.conns.get_mut(&link.conn)
                    && matches!(conn.phase, Phase::Waiting)
                {
                    conn.phase = Phase::Asking(cores);
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

    /// One more shard has said what it has applied, because this link asked.
    pub(super) fn shard_has_said(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.peers.conns.get_mut(&id) else { return };
        let Phase::Asking(left) = &mut conn.phase else { return };
        *left -= 1;
        if *left == 0 {
            self.begin_link(id, now);
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
    pub(super) fn master_has_said(&mut self, id: ConnId) {
        let Some(conn) = self.peers.conns.get_mut(&id) else { return };
        if let Phase::Begun(said) = &mut conn.phase {
            conn.phase = Phase::Behind(std::mem::take(said));
            self.look_who_caught_up();
        }
    }

    /// Something has been applied here.
    pub(super) fn look_who_caught_up(&mut self) {
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
                && lacking.iter().all(|(_, partition, _)| conn.behind.contains(&(*partition as u8)))
            {
                conn.has_passed = true;
                turns.push(Turn::Passed(link));
            }
        }
        turns.into_iter().for_each(|turn| self.say_turn(turn));
    }

    /// A master cannot stream what we lack of these partitions. It says so again every second while that is so.
    pub(super) fn told_behind(&mut self, id: ConnId, partitions: &[u8]) -> Option<()> {
        self.peers.conns.get_mut(&id)?.behind.extend(partitions);
        self.say_turn(Turn::Behind(PeerId { home: self.id, conn: id }));
        self.look_who_caught_up();
        Some(())
    }

    // Nobody else is going to stream what a link's master cannot: it is asked for whole partitions.
    fn pull(&mut self, id: ConnId) {
        let link = PeerId { home: self.id, conn: id };
        let (Some(conn), Some(session)) = (self.peers.conns.get_mut(&id), self.sessions.get_mut(id)) else { return };
        let mut wanted = std::mem::take(&mut conn.behind);
        if let Phase::Behind(lacking) = &conn.phase {
            wanted.retain(|partition| lacking.iter().any(|(_, at, _)| *at == usize::from(*partition)));
        }
        for partition in wanted {
            // One link at a time merges a partition.
            if let btree_map::Entry::Vacant(free) = self.peers.pulling.entry(partition) {
                free.insert(link);
                conn.fell_behind = true;
                block::put(&mut session.output, Kind::Pull, |out| out.push(partition));
            }
        }
        let has_turn = !matches!(conn.phase, Phase::CaughtUp);
        self.dirty_if_output(id);
        if !has_turn {
            self.say_turn(Turn::Over(link));
        }
    }
}
