//! What INFO, ROLE and MULTIMASTER STATUS say of links and feeds.

use super::super::Worker;
use super::*;
use crate::base::time::Now;
use crate::peer::mesh::{PeerFigures, PeerId};
use crate::peer::roster::Row;
use crate::shard::Stats;

/// A lag is that of the newest write for this long; afterwards there is nothing that lags.
const LATELY_US: u64 = 2_000_000;

impl Worker {
    /// How many members there are, ourselves included.
    pub(in super::super) fn members(&self) -> usize {
        self.peers.roster.others().len() + 1
    }

    /// How many nodes we are connected with now.
    pub(in super::super) fn connected_nodes(&self) -> usize {
        let nodes: BTreeSet<Uuid> = self.peers.runs.connected().map(|origin| origin.node).collect();
        nodes.len()
    }

    /// How many other members have said that they have applied all these writes of this node.
    pub(in super::super) fn members_that_have(&self, written: &[(u8, Hlc)]) -> usize {
        let has =
            |row: &Row, &(partition, hlc): &(u8, Hlc)| row.versions.get(OriginIdx::OWN, usize::from(partition)) >= hlc;
        self.peers.roster.others().iter().filter(|row| written.iter().all(|write| has(row, write))).count()
    }

    /// What this shard's writes are up to, by partition; every reader is asked to acknowledge them now.
    pub(in super::super) fn ask_for_acknowledgements(&mut self) -> Vec<(u8, Hlc)> {
        for served in &mut self.peers.feeds {
            served.feed.ask(&self.shard);
        }
        let (first, end) = self.shard.keys.partitions();
        let written = (first..end).map(|at| (at as u8, self.shard.versions.get(OriginIdx::OWN, at)));
        written.filter(|(_, hlc)| *hlc > Hlc::ZERO).collect()
    }

    /// A line for each other member: who, and how many writes' worth of versions it has acknowledged.
    pub(in super::super) fn member_rows(&self) -> Vec<String> {
        let own = self.peers.roster.own();
        let line = |row: &Row| {
            let behind =
                own.versions.all().filter(|&(origin, partition, hlc)| row.versions.get(origin, partition) < hlc);
            let (node, streams) = (row.node, behind.count());
            let waited_for = u8::from(!self.shard.stability.is_let_go(node));
            let promise_ms = row.promise.wall_ms();
            format!("member:node={node},streams_behind={streams},promise_ms={promise_ms},waited_for={waited_for}\r\n")
        };
        self.peers.roster.others().iter().map(line).collect()
    }

    // Whether a link that is up came back and went on where it was, without comparing whole partitions.
    fn is_resumed(&self, target: &Target, conn: &Conn) -> bool {
        (target.handshakes > 1 || self.persistence().keys_loaded > 0) && !conn.fell_behind
    }

    /// A link is about to be lost: its master keeps what it has counted.
    pub(super) fn keep_figures(&mut self, target: usize, id: ConnId) {
        let Some(conn) = self.peers.conns.get(&id) else { return };
        let resumed = u64::from(self.is_resumed(&self.peers.targets[target], conn));
        let (bytes_in, bytes_out) = (conn.bytes_in, self.sessions.get(id).map_or(0, |session| session.bytes_out));
        let target = &mut self.peers.targets[target];
        target.resumes += resumed;
        target.bytes_before.0 += bytes_in;
        target.bytes_before.1 += bytes_out;
    }

    /// This shard has taken records from a master; `before`: its counters then, `newest`: the master's last own one.
    pub(super) fn note_taken(&mut self, master: OriginIdx, before: Stats, newest: Option<Hlc>, now: Now) {
        let stats = &self.shard.stats;
        let taken = self.peers.taken.entry(self.node.realm.origins.id(master).node).or_default();
        taken.won += stats.merged_won - before.merged_won;
        taken.lost += stats.merged_lost - before.merged_lost;
        taken.duplicates += stats.duplicates - before.duplicates;
        if let Some(newest) = newest {
            (taken.age_ms, taken.at_us) = (Some(now.wall_ms as i64 - newest.wall_ms() as i64), now.mono_us);
        }
    }

    /// What this shard has taken from masters, with ages of what came of late.
    pub(in super::super) fn taken_figures(&self, now: Now) -> Vec<(Uuid, Taken)> {
        let is_late = |taken: &Taken| now.mono_us.saturating_sub(taken.at_us) > LATELY_US;
        let figure = |(node, taken): (&Uuid, &Taken)| {
            let age_ms = taken.age_ms.filter(|_| !is_late(taken));
            (*node, Taken { age_ms, ..*taken })
        };
        self.peers.taken.iter().map(figure).collect()
    }

    /// How many records this shard has sent over each feed.
    pub(in super::super) fn fed_figures(&self) -> Vec<(PeerId, u64)> {
        self.peers.feeds.iter().map(|served| (served.id, served.feed.records)).collect()
    }

    /// What INFO, ROLE and MULTIMASTER STATUS say of this core's links and feeds.
    pub(in super::super) fn peer_figures(&self, now: Now) -> Vec<PeerFigures> {
        let seconds = |since_us: u64| now.mono_us.saturating_sub(since_us) / 1_000_000;
        let mut figures = Vec::new();
        for target in &self.peers.targets {
            let conn = target.conn().and_then(|id| self.peers.conns.get(&id));
            let session = target.conn().and_then(|id| self.sessions.get(id));
            let id = target.conn().map(|conn| PeerId { home: self.id, conn });
            let has_caught_up = conn.is_some_and(|conn| conn.phase.has_caught_up());
            let pulled = self.peers.pulling.values().filter(|link| Some(**link) == id).count();
            let left = conn.map_or(0, |conn| conn.phase.left()).max(pulled);
            figures.push(PeerFigures {
                id,
                is_link: true,
                host: target.host.clone(),
                port: target.port,
                state: match target.state {
                    State::Waiting { .. } => "connect",
                    State::Dialing(_) => "connecting",
                    State::Handshake(_) => "handshake",
                    State::Up(_) if has_caught_up => "connected",
                    State::Up(_) => "sync",
                },
                left: (conn.is_some() && (!has_caught_up || left > 0)).then_some(left),
                node: target.node,
                idle_s: conn.map(|conn| seconds(conn.last_input_us)),
                down_s: (!matches!(target.state, State::Up(_))).then(|| seconds(target.down_since_us)),
                reason: target.reason.clone(),
                bytes_in: target.bytes_before.0 + conn.map_or(0, |conn| conn.bytes_in),
                bytes_out: target.bytes_before.1 + session.map_or(0, |session| session.bytes_out),
                full_merges: target.full_merges,
                resumes: target.resumes + u64::from(conn.is_some_and(|conn| self.is_resumed(target, conn))),
                clock_offset_ms: conn.map_or(0, |conn| conn.offset.ms()),
                is_beyond_drift: conn.is_some_and(|conn| conn.offset.is_beyond()),
                silent_ms: conn.map_or(0, |conn| {
                    let silent_us = now.mono_us.saturating_sub(conn.last_input_us);
                    if silent_us > HEARTBEAT_US * 3 / 2 { silent_us / 1000 } else { 0 }
                }),
            });
        }
        for (id, conn) in self.peers.conns.iter().filter(|(_, conn)| !conn.is_link) {
            let session = self.sessions.get(*id);
            let remote = session.map_or("", |session| &session.endpoint.remote);
            figures.push(PeerFigures {
                id: Some(PeerId { home: self.id, conn: *id }),
                is_link: false,
                host: remote.rsplit_once(':').map_or(remote, |(host, _)| host).into(),
                port: conn.port,
                state: if conn.started { "online" } else { "handshake" },
                node: Some(conn.origin),
                idle_s: Some(seconds(conn.last_input_us)),
                bytes_in: conn.bytes_in,
                bytes_out: session.map_or(0, |session| session.bytes_out),
                clock_offset_ms: conn.offset.ms(),
                is_beyond_drift: conn.offset.is_beyond(),
                ..PeerFigures::default()
            });
        }
        figures
    }
}
