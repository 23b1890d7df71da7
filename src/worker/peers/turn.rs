//! How a link begins: it waits for its turn (`peer::turns`), says what this node has by then, and has its turn until
//! what its master had is here.

use super::super::Worker;
use super::super::batch::Message;
use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::{PeerId, PeerMessage, Turn};
use crate::shard::block::{self, Kind};

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
        let to = if let Turn::Granted(link) = turn { link.home } else { DEALER };
        self.send(to, Message::Peer(Box::new(PeerMessage::Turn(turn))));
    }

    pub(super) fn turn(&mut self, turn: Turn, now: Now) {
        match turn {
            Turn::Wanted(link) => self.peers.turns.ask(link),
            Turn::Over(link) => self.peers.turns.end(link),
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
        for link in self.peers.turns.next(now.mono_us) {
            self.say_turn(Turn::Granted(link));
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
        let mut caught_up = Vec::new();
        for (id, conn) in &mut self.peers.conns {
            let Phase::Behind(lacking) = &mut conn.phase else { continue };
            lacking.retain(|&(origin, partition, hlc)| own.get(origin, partition) < hlc);
            if lacking.is_empty() {
                conn.phase = Phase::CaughtUp;
                caught_up.push(PeerId { home: self.id, conn: *id });
            }
        }
        for link in caught_up {
            self.say_turn(Turn::Over(link));
        }
    }
}
