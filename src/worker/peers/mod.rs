//! Links and feeds at work: dialing masters, serving readers, dealing what arrives to the owning shards, and telling
//! everyone what has been applied.
//!
//! A master belongs to one core (by its address), which dials it and has its socket. A reader belongs to the core
//! that accepted it. Every shard serves every feed from its own backlog; blocks reach the socket over the mesh,
//! bounded by credit.

mod across;
mod dial;
mod doubt;
mod figures;
mod hear;
mod membership;
mod quorum;
mod runs;
mod say;
mod serve;
mod turn;
pub(super) mod verify;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Worker;
use super::batch::Message;
use super::port::{Action, DialId};
use crate::base::ids::{ConnId, ShardId, Uuid};
use crate::base::time::Now;
use crate::merge::origins::{OriginId, OriginIdx};
use crate::merge::stamp::Hlc;
use crate::merge::version::Versions;
use crate::peer::SILENT_US;
use crate::peer::mesh::{Counts, Entry, PeerId, PeerMessage, Taken};
use crate::peer::offset::Offset;
use crate::peer::roster::{Roster, Row};
use crate::peer::runs::Runs;
use crate::peer::turns::Turns;
use crate::shard::feed::Feed;
use crate::shard::standing::Standing;
use turn::{Phase, Told};
use whole::Whole;

/// A reader may have this many bytes unsent before its shards stop; then they wait and the backlog moves on.
pub(super) const FEED_UNSENT_MAX: usize = 1 << 20;

/// A shard may have this many bytes under way to another core for one reader.
pub(super) const FEED_CREDIT_MAX: usize = 512 * 1024;

/// How often shards say what they have applied, microseconds.
const PUBLISH_US: u64 = 100_000;

/// How often a connection gives a sign of life, microseconds.
const HEARTBEAT_US: u64 = 1_000_000;

/// First and last wait before a master is dialed again, milliseconds.
const BACKOFF_MS: (u64, u64) = (100, 3_000);

/// So many attempts follow each other quickly.
const QUICK_ATTEMPTS: u32 = 2;

/// What a core knows of peers.
pub(super) struct Peers {
    targets: Vec<Target>,
    conns: BTreeMap<ConnId, Conn>,
    feeds: Vec<ShardFeed>,
    /// Partitions that come whole, by link.
    wholes: BTreeMap<(PeerId, u8), Whole>,
    /// Links whose homes have been told to break them, until they are gone. What still comes of them is not taken: it
    /// would be behind what was not.
    given_up: BTreeSet<PeerId>,
    pub(super) roster: Roster,
    /// Masters that are heard directly, on any core.
    direct: Vec<OriginId>,
    /// Who is connected, on any core.
    runs: Runs,
    /// Masters that have said who they are.
    identified: BTreeSet<(String, u16)>,
    /// What is linked, by core, and what was said of this one.
    linked: Vec<Counts>,
    linked_said: Counts,
    /// What this shard has taken, by master.
    taken: BTreeMap<Uuid, Taken>,
    published: Versions,
    next_publish_us: u64,
    next_heartbeat_us: u64,
    next_dial: u64,
    /// Partitions being pulled, and over which link.
    pulling: BTreeMap<u8, PeerId>,
    /// Partitions of this shard that are in doubt, and the link to take them from.
    doubts: BTreeMap<u8, PeerId>,
    /// Of all links of the node; one core's is used.
    turns: Turns,
    active: bool,
    are_skimming: bool,
    verify: verify::Verify,
}

/// A master from the configuration that this core dials.
struct Target {
    host: String,
    port: u16,
    state: State,
    node: Option<OriginId>,
    attempts: u32,
    down_since_us: u64,
    reason: String,
    handshakes: u64,
    full_merges: u64,
    /// Of links to it that are gone: times it went on from the backlog, bytes in and out.
    resumes: u64,
    bytes_before: (u64, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until_us: u64 },
    Dialing(DialId),
    Handshake(ConnId),
    Up(ConnId),
}

/// One end of a connection between nodes.
struct Conn {
    origin: OriginId,
    is_link: bool,
    port: u16,
    /// Local indices behind the other end's.
    dictionary: Vec<OriginIdx>,
    shared_dictionary: Arc<[OriginIdx]>,
    dictionary_said: usize,
    said: BTreeMap<Uuid, Row>,
    members_said: Vec<Uuid>,
    standings_said: Vec<Standing>,
    interest_said: Vec<OriginId>,
    /// Nodes the other end is connected to, once it has said so.
    their_direct: Option<Vec<Uuid>>,
    /// Of a feed: what its reader has, heard before `Start`, and whether that came.
    heard: Vec<Entry>,
    started: bool,
    phase: Phase,
    /// So many shards have still to say what they have applied, before the link begins or asks for whole partitions.
    asking: usize,
    healthy: bool,
    uncredited: Vec<(ShardId, usize)>,
    last_input_us: u64,
    /// The last input of which the other cores have heard.
    alive_said_us: u64,
    /// The number of the last heartbeat heard.
    to_echo: u64,
    /// The other end has answered a heartbeat of this time.
    lived_us: u64,
    promise: Hlc,
    offset: Offset,
    bytes_in: u64,
    /// Partitions of which the other end cannot stream what we lacked when it said so.
    behind: BTreeMap<u8, Told>,
    /// All else that it had is here.
    has_passed: bool,
    /// Some of them were asked for whole.
    fell_behind: bool,
}

/// A feed as its shard serves it.
struct ShardFeed {
    id: PeerId,
    feed: Feed,
    under_way: usize,
}

impl Peers {
    pub(super) fn new(own: OriginId, shards: usize, first: usize, end: usize) -> Self {
        Self {
            targets: Vec::new(),
            conns: BTreeMap::new(),
            feeds: Vec::new(),
            wholes: BTreeMap::new(),
            given_up: BTreeSet::new(),
            roster: Roster::new(own, shards),
            direct: Vec::new(),
            runs: Runs::default(),
            identified: BTreeSet::new(),
            linked: vec![Counts::default(); shards],
            linked_said: Counts::default(),
            taken: BTreeMap::new(),
            published: Versions::new(first, end),
            next_publish_us: 0,
            next_heartbeat_us: 0,
            next_dial: 0,
            pulling: BTreeMap::new(),
            doubts: BTreeMap::new(),
            turns: Turns::default(),
            active: false,
            are_skimming: false,
            verify: verify::Verify::default(),
        }
    }
}

impl Worker {
    /// Brings the masters this core dials in line with the configuration.
    pub(super) fn reconcile_peers(&mut self) {
        let config = Arc::clone(&self.config);
        if config.multi_master || config.active_replica || !config.replicaof.is_empty() {
            self.shard.logging = true;
            self.peers.active = true;
        }
        let cores = self.cores() as u64;
        let mine = |host: &str, port: u16| {
            let hash =
                host.bytes().fold(u64::from(port), |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
            hash % cores
        };
        let wanted: Vec<(String, u16)> = config
            .replicaof
            .iter()
            .filter(|(host, port)| mine(&host.to_lowercase(), *port) == u64::from(self.id.0))
            .cloned()
            .collect();
        let is = |target: &Target, host: &str, port: u16| target.host.eq_ignore_ascii_case(host) && target.port == port;
        let gone: Vec<ConnId> = self
            .peers
            .targets
            .iter()
            .filter(|target| !wanted.iter().any(|(host, port)| is(target, host, *port)))
            .filter_map(|target| target.conn())
            .collect();
        self.peers.targets.retain(|target| wanted.iter().any(|(host, port)| is(target, host, *port)));
        for conn in gone {
            self.act(Action::Close(conn));
            self.drop_conn(conn);
            self.forget(conn);
        }
        for (host, port) in wanted {
            if !self.peers.targets.iter().any(|target| is(target, &host, port)) {
                self.peers.targets.push(Target::new(host, port));
            }
        }
        self.count_unknown();
    }

    fn count_unknown(&mut self) {
        let unknown = self.config.replicaof.iter().filter(|master| !self.peers.identified.contains(*master)).count();
        let is_out = self.is_out_of_memories();
        let unknown = if is_out { 0 } else { unknown };
        self.peers.roster.set_strangers(unknown > 0);
        self.shard.stability.set_unknown(unknown, self.config.multi_master && !is_out);
    }

    /// Periodic work of links and feeds.
    pub(super) fn tick_peers(&mut self, now: Now) {
        if !self.peers.active {
            return;
        }
        self.dial_masters(now);
        self.tick_verify(now);
        if now.mono_us >= self.peers.next_publish_us {
            self.peers.next_publish_us = now.mono_us + PUBLISH_US;
            self.publish(None, now);
            self.count_unknown();
            self.tend_members(now);
            self.check_health(now);
            self.deal_turns(now);
            self.ask_about_doubts();
            self.say_news(now);
            self.share_counts(now);
        }
    }

    /// When links next want a tick, on `Now::mono_us`.
    pub(super) fn peers_wake_at_us(&self) -> u64 {
        let dials = self.peers.targets.iter().filter_map(|target| match target.state {
            State::Waiting { until_us } => Some(until_us),
            _ => None,
        });
        if self.peers.active {
            dials.min().unwrap_or(u64::MAX).min(self.peers.next_publish_us).min(self.verify_wake_at_us())
        } else {
            u64::MAX
        }
    }

    /// Says on all cores, this one included.
    fn broadcast(&mut self, message: impl Fn() -> PeerMessage) {
        for to in 0..self.cores() {
            self.send(ShardId(to as u16), Message::Peer(Box::new(message())));
        }
    }

    fn publish(&mut self, asked: Option<PeerId>, now: Now) {
        let promise = self.shard.lasting_promise(now);
        let mut entries = Vec::new();
        for (origin, partition, hlc) in self.shard.versions.all() {
            if self.peers.published.raise(origin, partition, hlc) {
                entries.push((origin, partition as u8, hlc));
            }
        }
        let final_ms = self.shard.final_ms();
        self.broadcast(|| PeerMessage::Published { entries: entries.clone(), promise, final_ms, asked });
    }

    fn check_health(&mut self, now: Now) {
        let timeout_us = self.timeout_us();
        self.peers.runs.tend(now.mono_us, timeout_us);
        let mut changed = Vec::new();
        let mut dead = Vec::new();
        for (id, conn) in &mut self.peers.conns {
            let silent_us = now.mono_us.saturating_sub(conn.last_input_us);
            if silent_us > timeout_us {
                dead.push((*id, "it has been silent for repl-timeout"));
            } else if self.peers.runs.must_go(conn.origin, now.mono_us) {
                dead.push((*id, "another run of this node is linked"));
            }
            let healthy = silent_us <= SILENT_US;
            if conn.is_link && conn.phase.has_begun() && healthy != conn.healthy {
                conn.healthy = healthy;
                changed.push((conn.origin, healthy));
            }
        }
        for (origin, healthy) in changed {
            self.broadcast(|| PeerMessage::Direct { origin, healthy });
        }
        for (conn, reason) in dead {
            self.break_conn(conn, reason, now);
        }
        self.say_who_lives();
        // A handshake that is not answered must not hold its master for ever.
        for at in 0..self.peers.targets.len() {
            if let State::Handshake(conn) = self.peers.targets[at].state
                && self.sessions.get(conn).is_some_and(|session| now.mono_us - session.since.mono_us > 5_000_000)
            {
                self.break_conn(conn, "it did not answer the handshake", now);
            }
        }
    }
}

impl Target {
    /// Whether it may be linked soon.
    fn is_coming(&self) -> bool {
        match self.state {
            State::Dialing(_) | State::Handshake(_) => true,
            State::Waiting { .. } => self.attempts <= QUICK_ATTEMPTS,
            State::Up(_) => false,
        }
    }

    fn new(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            state: State::Waiting { until_us: 0 },
            node: None,
            attempts: 0,
            down_since_us: 0,
            reason: String::new(),
            handshakes: 0,
            full_merges: 0,
            resumes: 0,
            bytes_before: (0, 0),
        }
    }

    fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Handshake(conn) | State::Up(conn) => Some(conn),
            _ => None,
        }
    }
}
