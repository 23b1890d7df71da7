//! Links and feeds at work: dialing masters, serving readers, dealing what arrives to the owning shards, and telling
//! everyone what has been applied.
//!
//! A master belongs to one core (by its address), which dials it and has its socket. A reader belongs to the core
//! that accepted it. Every shard serves every feed from its own backlog; blocks reach the socket over the mesh,
//! bounded by credit.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use super::Worker;
use super::batch::Message;
use super::port::{Action, DialId, Endpoint};
use super::session::{Kind as SessionKind, Session};
use crate::base::ids::{ConnId, Partition, ShardId, Slot, Uuid};
use crate::base::time::Now;
use crate::merge::op::{put_varint, take_varint};
use crate::merge::origins::{OriginId, OriginIdx};
use crate::merge::stamp::Hlc;
use crate::merge::version::Versions;
use crate::peer::block::{self, Front, Kind};
use crate::peer::codec;
use crate::peer::handshake::Hello;
use crate::peer::mesh::{Entry, PeerFigures, PeerId, PeerMessage};
use crate::peer::roster::{Roster, Row};
use crate::resp::value::{Value, try_decode};
use crate::resp::write::Reply;
use crate::shard::feed::Feed;
use crate::shard::merging::Merging;
use crate::shard::{Merged, record};

/// A reader may have this many bytes unsent before its shards stop; then they wait and the backlog moves on.
const FEED_UNSENT_MAX: usize = 1 << 20;

/// A shard may have this many bytes under way to another core for one reader.
const FEED_CREDIT_MAX: usize = 512 * 1024;

/// How often shards say what they have applied, microseconds.
const PUBLISH_US: u64 = 100_000;

/// How often a connection gives a sign of life, microseconds.
const HEARTBEAT_US: u64 = 1_000_000;

/// A link that has been silent for this long does not count as hearing its master directly, microseconds.
const SILENT_US: u64 = 3_500_000;

/// First and last wait before a master is dialed again, milliseconds.
const BACKOFF_MS: (u64, u64) = (100, 3_000);

/// What a core knows of peers.
pub(super) struct Peers {
    targets: Vec<Target>,
    conns: BTreeMap<ConnId, Conn>,
    feeds: Vec<ShardFeed>,
    mergings: BTreeMap<(PeerId, u8), Merging>,
    pub(super) roster: Roster,
    /// Masters that are heard directly, on any core.
    direct: Vec<OriginId>,
    /// Nodes connected, on any core; one entry per connection.
    connected: Vec<OriginId>,
    /// Masters that have said who they are.
    identified: BTreeSet<(String, u16)>,
    published: Versions,
    next_publish_us: u64,
    next_heartbeat_us: u64,
    next_dial: u64,
    /// Partitions being pulled, and over which link.
    pulling: BTreeMap<u8, PeerId>,
    active: bool,
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
    interest_said: Vec<OriginId>,
    /// Nodes the other end is connected to.
    their_direct: Vec<Uuid>,
    /// What its reader has, heard before `Start`.
    heard: Vec<Entry>,
    started: bool,
    healthy: bool,
    uncredited: Vec<(ShardId, usize)>,
    last_input_us: u64,
    promise: Hlc,
    clock_offset_ms: i64,
    bytes_in: u64,
}

/// A feed as its shard serves it.
struct ShardFeed {
    id: PeerId,
    feed: Feed,
    under_way: usize,
}

impl Peers {
    pub(super) fn new(own: Uuid, shards: usize, first: usize, end: usize) -> Self {
        Self {
            targets: Vec::new(),
            conns: BTreeMap::new(),
            feeds: Vec::new(),
            mergings: BTreeMap::new(),
            roster: Roster::new(own, shards),
            direct: Vec::new(),
            connected: Vec::new(),
            identified: BTreeSet::new(),
            published: Versions::new(first, end),
            next_publish_us: 0,
            next_heartbeat_us: 0,
            next_dial: 0,
            pulling: BTreeMap::new(),
            active: false,
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
        self.shard.stability.set_unknown(unknown);
    }

    /// Periodic work of links and feeds.
    pub(super) fn tick_peers(&mut self, now: Now) {
        if !self.peers.active {
            return;
        }
        self.dial_masters(now);
        if now.mono_us >= self.peers.next_publish_us {
            self.peers.next_publish_us = now.mono_us + PUBLISH_US;
            self.publish(now);
            self.check_health(now);
            self.say_news(now);
        }
    }

    /// When links next want a tick, on `Now::mono_us`.
    pub(super) fn peers_wake_at_us(&self) -> u64 {
        let dials = self.peers.targets.iter().filter_map(|target| match target.state {
            State::Waiting { until_us } => Some(until_us),
            _ => None,
        });
        if self.peers.active { dials.min().unwrap_or(u64::MAX).min(self.peers.next_publish_us) } else { u64::MAX }
    }

    fn dial_masters(&mut self, now: Now) {
        for at in 0..self.peers.targets.len() {
            let target = &mut self.peers.targets[at];
            if matches!(target.state, State::Waiting { until_us } if until_us <= now.mono_us) {
                self.peers.next_dial += 1;
                let dial = DialId(self.peers.next_dial);
                target.state = State::Dialing(dial);
                let (host, port) = (target.host.clone(), target.port);
                self.act(Action::Dial { dial, host, port, timeout_ms: 5_000 });
            }
        }
    }

    /// A dial ended.
    pub(super) fn peer_dialed(&mut self, dial: DialId, result: Result<(ConnId, Endpoint), String>, now: Now) {
        let Some(at) = self.peers.targets.iter().position(|target| target.state == State::Dialing(dial)) else {
            if let Ok((conn, _)) = result {
                self.act(Action::Close(conn));
            }
            return;
        };
        match result {
            Err(reason) => self.lose(at, &reason, now),
            Ok((conn, endpoint)) => {
                let hello = Hello::ours(self.node.realm.origins.own(), self.announced_port());
                let id = self.next_client_id();
                let mut session = Session::new(conn, id, endpoint, true, now);
                session.kind = SessionKind::Link(at as u32);
                session.user = "(superuser)".into();
                hello.put_command(&mut session.output, &self.config.masteruser, self.config.masterauth.reveal());
                self.sessions.insert(Box::new(session));
                self.peers.targets[at].state = State::Handshake(conn);
                self.dirty(conn);
            }
        }
    }

    fn announced_port(&self) -> u16 {
        match self.config.replica_announce_port {
            0 => self.config.port,
            port => port,
        }
    }

    // A master cannot be reached, or not any more: try again later, further and further apart.
    fn lose(&mut self, at: usize, reason: &str, now: Now) {
        let target = &mut self.peers.targets[at];
        let is_news = target.reason != reason || matches!(target.state, State::Up(_));
        if is_news {
            tracing::warn!(master = format!("{}:{}", target.host, target.port), "link is down: {reason}");
        }
        if matches!(target.state, State::Up(_)) || target.down_since_us == 0 {
            target.down_since_us = now.mono_us;
        }
        target.reason = reason.to_owned();
        let (first, last) = BACKOFF_MS;
        let wait_ms = (first << target.attempts.min(8)).min(last);
        // Up to half of the wait on top, so that nodes that lost each other together do not meet again and again.
        let jitter_ms = self.shard.rng.below(wait_ms / 2 + 1);
        target.attempts += 1;
        target.state = State::Waiting { until_us: now.mono_us + (wait_ms + jitter_ms) * 1000 };
    }

    /// Bytes for a link or feed.
    pub(super) fn peer_data(&mut self, mut session: Box<Session>, bytes: &[u8], now: Now) {
        let conn = session.conn;
        self.stats.repl_in += bytes.len() as u64;
        let mut input = std::mem::take(&mut session.input);
        let (buffer, used, fault);
        if input.is_empty() {
            (used, fault) = self.peer_blocks(&mut session, bytes, now);
            buffer = &bytes[used..];
            session.input.extend_from_slice(buffer);
        } else {
            input.extend_from_slice(bytes);
            (used, fault) = self.peer_blocks(&mut session, &input, now);
            input.drain(..used);
            session.input = input;
        }
        if let Some(known) = self.peers.conns.get_mut(&conn) {
            known.last_input_us = now.mono_us;
            known.bytes_in += bytes.len() as u64;
        }
        if !session.output.is_empty() && !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(conn);
        }
        self.sessions.put(session);
        if let Some(reason) = fault {
            self.break_conn(conn, &reason, now);
        }
    }

    // Takes whole blocks (or, before the handshake is done, replies) from the front; says why the link must end.
    fn peer_blocks(&mut self, session: &mut Session, bytes: &[u8], now: Now) -> (usize, Option<String>) {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.is_empty() {
                return (at, None);
            }
            if !self.peers.conns.contains_key(&session.conn) {
                match try_decode(rest) {
                    Err(_) => {
                        return (at, Some("its answer is not Redis protocol: is it a Redis-compatible server?".into()));
                    }
                    Ok(None) => return (at, None),
                    Ok(Some((reply, used))) => {
                        at += used;
                        if let Err(reason) = self.handshake_reply(session, &reply, now) {
                            return (at, Some(reason));
                        }
                    }
                }
                continue;
            }
            match block::front(rest) {
                Front::Incomplete => return (at, None),
                Front::Damaged => return (at, Some("a damaged block arrived".into())),
                Front::Block(kind, payload, used) => {
                    if self.peer_block(session, kind, payload, now).is_none() {
                        return (at, Some(format!("a malformed {kind:?} block arrived")));
                    }
                    at += used;
                }
            }
        }
    }

    fn handshake_reply(&mut self, session: &mut Session, reply: &Value, now: Now) -> Result<(), String> {
        let Some(at) = self.peers.targets.iter().position(|target| target.state == State::Handshake(session.conn))
        else {
            return Err("it is not wanted any more".into());
        };
        let own = self.node.realm.origins.own();
        match reply {
            // AUTH went well.
            Value::Simple(_) => Ok(()),
            Value::Error(text) if text.starts_with("ERR unknown command") => {
                Err("it is not a Tutti node (no multi-master link on that port)".into())
            }
            Value::Error(text) => Err(format!("it refused: {text}")),
            other => {
                let hello = Hello::from_reply(other).ok_or("its answer is not a Tutti handshake")?;
                if let Some(objection) = hello.objection(own) {
                    return Err(objection);
                }
                let target = &mut self.peers.targets[at];
                target.state = State::Up(session.conn);
                target.attempts = 0;
                target.reason.clear();
                target.node = Some(hello.origin);
                target.handshakes += 1;
                target.down_since_us = 0;
                let (host, port) = (target.host.clone(), target.port);
                tracing::info!(master = format!("{host}:{port}"), node = %hello.origin.node, "link is up");
                self.add_conn(session, hello, true, now);
                self.broadcast(|| PeerMessage::Identified { host: host.clone(), port });
                self.greet(session, now);
                block::put(&mut session.output, Kind::Start, |_| {});
                self.broadcast(|| PeerMessage::Direct { origin: hello.origin, healthy: true });
                Ok(())
            }
        }
    }

    /// A reader asks for a link (`tutti.link`): the session becomes a feed.
    pub(super) fn accept_feed(
        &mut self,
        session: &mut Session,
        args: &mut crate::command::args::Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), crate::command::error::CommandError> {
        use crate::command::error::CommandError;
        let hello = Hello::from_args(args.rest()).ok_or(CommandError::Text("ERR tutti.link: not a handshake"))?;
        let own = self.node.realm.origins.own();
        if let Some(objection) = hello.objection(own) {
            tracing::warn!(reader = session.endpoint.remote, "link refused: {objection}");
            return Err(CommandError::Owned(format!("ERR link refused: {objection}")));
        }
        let is_elsewhere =
            |known: &OriginId| known.node == hello.origin.node && known.incarnation > hello.origin.incarnation;
        if self.peers.connected.iter().any(is_elsewhere) {
            let text = format!(
                "ERR link refused: node {} is connected from elsewhere with a newer start; if its data directory was copied, empty the copy's",
                hello.origin.node
            );
            return Err(CommandError::Owned(text));
        }
        Hello::ours(own, self.announced_port()).put_reply(reply);
        session.kind = SessionKind::Feed(0);
        tracing::info!(reader = session.endpoint.remote, node = %hello.origin.node, "a reader linked");
        self.add_conn(session, hello, false, now);
        Ok(())
    }

    fn add_conn(&mut self, session: &mut Session, hello: Hello, is_link: bool, now: Now) {
        self.peers.active = true;
        self.peers.conns.insert(
            session.conn,
            Conn {
                origin: hello.origin,
                is_link,
                port: hello.port,
                dictionary: Vec::new(),
                shared_dictionary: Arc::new([]),
                dictionary_said: 0,
                said: BTreeMap::new(),
                members_said: Vec::new(),
                interest_said: Vec::new(),
                their_direct: Vec::new(),
                heard: Vec::new(),
                started: false,
                healthy: is_link,
                uncredited: Vec::new(),
                last_input_us: now.mono_us,
                promise: Hlc::ZERO,
                clock_offset_ms: 0,
                bytes_in: 0,
            },
        );
        let nodes: Arc<[Uuid]> = Arc::new([hello.origin.node]);
        self.broadcast(|| PeerMessage::Members(Arc::clone(&nodes)));
        self.broadcast(|| PeerMessage::Connected { origin: hello.origin, came: true });
    }

    // Everything a new connection needs to hear first: who we know, what we have applied.
    fn greet(&mut self, session: &mut Session, now: Now) {
        let Some(mut conn) = self.peers.conns.remove(&session.conn) else { return };
        let mut output = std::mem::take(&mut session.output);
        self.say(&mut conn, &mut output, true, now);
        session.output = output;
        self.peers.conns.insert(session.conn, conn);
    }

    // Appends what a connection has not been told yet.
    fn say(&mut self, conn: &mut Conn, out: &mut Vec<u8>, heartbeat: bool, _now: Now) {
        let start = out.len();
        self.say_dictionary(conn, out);
        let mut direct: Vec<Uuid> = self.peers.connected.iter().map(|origin| origin.node).collect();
        direct.sort_unstable();
        direct.dedup();
        let members = self.peers.roster.nodes();
        let mut both = direct.clone();
        both.extend_from_slice(&members);
        if both != conn.members_said {
            block::put(out, Kind::Members, |out| {
                put_varint(out, direct.len() as u64);
                codec::put_nodes(out, &both);
            });
            conn.members_said = both;
        }
        if conn.is_link {
            // A link that has gone silent is not heard directly: others must forward what its master wrote.
            let mut interest: Vec<OriginId> =
                self.peers.direct.iter().copied().filter(|origin| *origin != conn.origin).collect();
            interest.sort_unstable();
            interest.dedup();
            if interest != conn.interest_said {
                // What we have of an origin that is wanted again must be known before it is streamed again.
                conn.said.remove(&self.peers.roster.own().node);
                conn.interest_said.clone_from(&interest);
                self.say_row(conn, None, out, true);
                block::put(out, Kind::Interest, |out| codec::put_origins(out, &interest));
            }
        }
        self.say_row(conn, None, out, heartbeat);
        for at in 0..self.peers.roster.others().len() {
            let node = self.peers.roster.others()[at].node;
            if node != conn.origin.node && !conn.their_direct.contains(&node) {
                self.say_row(conn, Some(at), out, heartbeat);
            }
        }
        if heartbeat && out.len() == start {
            block::put(out, Kind::Heartbeat, |_| {});
        }
    }

    // Appends a member's news (ours: `None`); with `always`, also when only its promise has grown.
    fn say_row(&mut self, conn: &mut Conn, member: Option<usize>, out: &mut Vec<u8>, always: bool) {
        let roster = &self.peers.roster;
        let row = member.map_or(roster.own(), |at| &roster.others()[at]);
        let said = conn.said.entry(row.node).or_insert_with(|| Row::new(row.node));
        let promise_grew = row.promise > said.promise;
        let entries = row.news(&self.node.realm.origins, said);
        if entries.is_empty() && !(always && promise_grew) {
            return;
        }
        let entries = entries.into_iter().map(|(origin, partition, hlc)| (origin.0, partition, hlc)).collect();
        let row = codec::Row { node: row.node, promise: row.promise, final_ms: row.final_ms, entries };
        block::put(out, Kind::Versions, |out| codec::put_row(out, &row));
    }

    fn say_dictionary(&self, conn: &mut Conn, out: &mut Vec<u8>) {
        let origins = &self.node.realm.origins;
        let count = origins.count();
        if conn.dictionary_said < count {
            let first = conn.dictionary_said;
            let ids: Vec<OriginId> = (first..count).map(|at| origins.id(OriginIdx(at as u16))).collect();
            block::put(out, Kind::Dictionary, |out| codec::put_dictionary(out, first as u16, &ids));
            conn.dictionary_said = count;
        }
    }

    fn say_news(&mut self, now: Now) {
        let heartbeat = now.mono_us >= self.peers.next_heartbeat_us;
        if heartbeat {
            self.peers.next_heartbeat_us = now.mono_us + HEARTBEAT_US;
            for served in &mut self.peers.feeds {
                served.feed.announce_again();
            }
        }
        let conns: Vec<ConnId> = self.peers.conns.keys().copied().collect();
        for id in conns {
            let Some(mut conn) = self.peers.conns.remove(&id) else { continue };
            if let Some(mut output) = self.sessions.get_mut(id).map(|session| std::mem::take(&mut session.output)) {
                // A reader that takes nothing gets no news on top.
                let stuck =
                    self.sessions.get(id).is_some_and(|session| session.unsent + output.len() > FEED_UNSENT_MAX);
                if !stuck && (conn.started || conn.is_link) {
                    self.say(&mut conn, &mut output, heartbeat, now);
                }
                if let Some(session) = self.sessions.get_mut(id) {
                    session.output = output;
                }
                self.dirty_if_output(id);
            }
            self.peers.conns.insert(id, conn);
        }
    }

    fn dirty_if_output(&mut self, conn: ConnId) {
        if self.sessions.get(conn).is_some_and(|session| !session.output.is_empty()) {
            self.dirty(conn);
        }
    }

    // One block of an established connection. `None`: malformed.
    fn peer_block(&mut self, session: &mut Session, kind: Kind, payload: &[u8], now: Now) -> Option<()> {
        let id = PeerId { home: self.id, conn: session.conn };
        match kind {
            Kind::Dictionary => {
                let (first, ids) = codec::take_dictionary(payload)?;
                let indices: Vec<OriginIdx> =
                    ids.iter().map(|id| self.node.realm.origins.index(*id)).collect::<Option<_>>()?;
                let conn = self.peers.conns.get_mut(&session.conn)?;
                if usize::from(first) != conn.dictionary.len() {
                    return None;
                }
                conn.dictionary.extend(indices);
                conn.shared_dictionary = conn.dictionary.clone().into();
            }
            Kind::Members => {
                let mut input = payload;
                let direct = usize::try_from(take_varint(&mut input)?).ok()?;
                let nodes = codec::take_nodes(input)?;
                let conn = self.peers.conns.get_mut(&session.conn)?;
                conn.their_direct = nodes.get(..direct)?.to_vec();
                let members: Arc<[Uuid]> = nodes[direct..].into();
                self.broadcast(|| PeerMessage::Members(Arc::clone(&members)));
            }
            Kind::Versions => self.peer_row(id, &codec::take_row(payload)?, now)?,
            Kind::Start => {
                let conn = self.peers.conns.get_mut(&session.conn)?;
                conn.started = true;
                let versions: Arc<[Entry]> = std::mem::take(&mut conn.heard).into();
                let skip = self.skip_of(session.conn)?;
                self.broadcast(|| PeerMessage::FeedStart {
                    feed: id,
                    versions: Arc::clone(&versions),
                    skip: Arc::clone(&skip),
                });
                self.greet(session, now);
            }
            Kind::Interest => {
                let origins = codec::take_origins(payload)?;
                let conn = self.peers.conns.get_mut(&session.conn)?;
                conn.interest_said = origins;
                if conn.started {
                    let skip = self.skip_of(session.conn)?;
                    self.broadcast(|| PeerMessage::FeedSkip { feed: id, skip: Arc::clone(&skip) });
                }
            }
            Kind::Behind => {
                // One link at a time merges a partition; what is still behind afterwards is said again.
                for &partition in payload {
                    if let btree_map::Entry::Vacant(free) = self.peers.pulling.entry(partition) {
                        free.insert(id);
                        block::put(&mut session.output, Kind::Pull, |out| out.push(partition));
                    }
                }
            }
            Kind::Pull => {
                let partition = Partition(*payload.first()?);
                let owner = self.shard.map.owner(partition);
                self.send(owner, Message::Peer(Box::new(PeerMessage::FeedPull { feed: id, partition })));
            }
            Kind::Records | Kind::FullBegin | Kind::FullKeys | Kind::FullSlot | Kind::FullEnd => {
                self.deal(id, kind, payload, now)?;
            }
            Kind::Heartbeat => {}
        }
        Some(())
    }

    // Gives records and full-merge blocks to the shards that own their partitions.
    fn deal(&mut self, link: PeerId, kind: Kind, payload: &[u8], now: Now) -> Option<()> {
        let dictionary = Arc::clone(&self.peers.conns.get(&link.conn)?.shared_dictionary);
        if self.cores() == 1 {
            return self.take_from_link(link, &dictionary, kind, payload, now).then_some(());
        }
        if kind != Kind::Records {
            let partition = match kind {
                Kind::FullSlot => Slot(u16::from_le_bytes(payload.try_into().ok()?)).partition(),
                _ => Partition(*payload.first()?),
            };
            let owner = self.shard.map.owner(partition);
            self.pass(owner, link, &dictionary, kind, payload.to_vec());
            return Some(());
        }
        let mut shares: Vec<Vec<u8>> = (0..self.cores()).map(|_| Vec::new()).collect();
        let mut rest = payload;
        while !rest.is_empty() {
            let head = record::head(rest)?;
            let owner = self.shard.map.owner(head.partition);
            shares[usize::from(owner.0)].extend_from_slice(&rest[..head.bytes]);
            rest = &rest[head.bytes..];
        }
        for (owner, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            self.pass(ShardId(owner as u16), link, &dictionary, kind, share);
        }
        Some(())
    }

    fn pass(&mut self, owner: ShardId, link: PeerId, dictionary: &Arc<[OriginIdx]>, kind: Kind, bytes: Vec<u8>) {
        let message = PeerMessage::FromLink { link, dictionary: Arc::clone(dictionary), items: vec![(kind, bytes)] };
        self.send(owner, Message::Peer(Box::new(message)));
    }

    // Applies what a link brought for this shard. False: unreadable.
    fn take_from_link(&mut self, link: PeerId, dictionary: &[OriginIdx], kind: Kind, bytes: &[u8], now: Now) -> bool {
        let origin = |index: u16| dictionary.get(usize::from(index)).copied();
        match kind {
            Kind::Records => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let Some(head) = record::head(rest) else { return false };
                    let merging = match self.peers.mergings.is_empty() {
                        true => None,
                        false => self.peers.mergings.get_mut(&(link, head.partition.0)),
                    };
                    match self.shard.merge(&rest[..head.bytes], &origin, merging.is_none(), now) {
                        Merged::Malformed => return false,
                        Merged::Applied => {
                            if let (Some(merging), Some(from)) = (merging, origin(head.origin)) {
                                merging.streamed(from, head.hlc);
                            }
                        }
                        Merged::Duplicate => {}
                    }
                    rest = &rest[head.bytes..];
                }
                true
            }
            Kind::FullBegin => match self.shard.begin_merging(bytes, &origin) {
                Some(merging) => {
                    self.peers.mergings.insert((link, merging.partition.0), merging);
                    true
                }
                None => false,
            },
            Kind::FullKeys => {
                let Some(merging) = bytes.first().and_then(|&at| self.peers.mergings.get_mut(&(link, at))) else {
                    return false;
                };
                self.shard.merge_keys(merging, &bytes[1..], &origin)
            }
            Kind::FullSlot => {
                let Ok(slot) = bytes.try_into().map(u16::from_le_bytes) else { return false };
                let partition = Slot(slot).partition();
                let Some(merging) = self.peers.mergings.get_mut(&(link, partition.0)) else { return false };
                self.shard.merge_slot(merging, Slot(slot));
                true
            }
            Kind::FullEnd => {
                let Some(merging) = bytes.first().and_then(|&at| self.peers.mergings.remove(&(link, at))) else {
                    return false;
                };
                self.shard.end_merging(&merging, now);
                for served in &mut self.peers.feeds {
                    served.feed.recheck();
                }
                let partition = merging.partition;
                self.send(link.home, Message::Peer(Box::new(PeerMessage::Merged { link, partition })));
                true
            }
            _ => false,
        }
    }

    // A row of versions arrived.
    fn peer_row(&mut self, id: PeerId, row: &codec::Row, now: Now) -> Option<()> {
        let conn = self.peers.conns.get_mut(&id.conn)?;
        let entries: Vec<Entry> = row
            .entries
            .iter()
            .map(|&(origin, partition, hlc)| Some((*conn.dictionary.get(usize::from(origin))?, partition, hlc)))
            .collect::<Option<_>>()?;
        let of_itself = row.node == conn.origin.node;
        if of_itself {
            conn.promise = row.promise;
            conn.clock_offset_ms = row.promise.wall_ms() as i64 - now.wall_ms as i64;
            if !conn.is_link && !conn.started {
                conn.heard.extend_from_slice(&entries);
            }
        }
        let feed = (of_itself && !conn.is_link && conn.started).then_some(id);
        let (node, promise, final_ms, entries): (_, _, _, Arc<[Entry]>) =
            (row.node, row.promise, row.final_ms, entries.into());
        self.broadcast(|| PeerMessage::Heard { node, entries: Arc::clone(&entries), promise, final_ms, feed });
        Some(())
    }

    // Origins a reader does not want: its own present run, and those it hears directly.
    fn skip_of(&self, conn: ConnId) -> Option<Arc<[OriginIdx]>> {
        let conn = self.peers.conns.get(&conn)?;
        let wanted = std::iter::once(conn.origin).chain(conn.interest_said.iter().copied());
        Some(wanted.filter_map(|id| self.node.realm.origins.index(id)).collect())
    }

    /// Says on all cores, this one included.
    fn broadcast(&mut self, message: impl Fn() -> PeerMessage) {
        for to in 0..self.cores() {
            self.send(ShardId(to as u16), Message::Peer(Box::new(message())));
        }
    }

    fn publish(&mut self, now: Now) {
        let promise = self.shard.promise(now);
        let mut entries = Vec::new();
        for (origin, partition, hlc) in self.shard.versions.all() {
            if self.peers.published.raise(origin, partition, hlc) {
                entries.push((origin, partition as u8, hlc));
            }
        }
        let final_ms = self.shard.final_ms();
        self.broadcast(|| PeerMessage::Published { entries: entries.clone(), promise, final_ms });
    }

    fn check_health(&mut self, now: Now) {
        let timeout_us = u64::from(self.config.repl_timeout.max(1)) * 1_000_000;
        let mut changed = Vec::new();
        let mut dead = Vec::new();
        for (id, conn) in &mut self.peers.conns {
            let silent_us = now.mono_us.saturating_sub(conn.last_input_us);
            if silent_us > timeout_us {
                dead.push(*id);
            }
            let healthy = silent_us <= SILENT_US;
            if conn.is_link && healthy != conn.healthy {
                conn.healthy = healthy;
                changed.push((conn.origin, healthy));
            }
        }
        for (origin, healthy) in changed {
            self.broadcast(|| PeerMessage::Direct { origin, healthy });
        }
        for conn in dead {
            self.break_conn(conn, "it has been silent for repl-timeout", now);
        }
        // A handshake that is not answered must not hold its master for ever.
        for at in 0..self.peers.targets.len() {
            if let State::Handshake(conn) = self.peers.targets[at].state
                && self.sessions.get(conn).is_some_and(|session| now.mono_us - session.since.mono_us > 5_000_000)
            {
                self.break_conn(conn, "it did not answer the handshake", now);
            }
        }
    }

    /// Ends a link or feed from our side.
    fn break_conn(&mut self, conn: ConnId, reason: &str, now: Now) {
        self.act(Action::Close(conn));
        self.peer_closed(conn, reason, now);
        self.forget(conn);
    }

    /// A link's or feed's socket is gone.
    pub(super) fn peer_closed(&mut self, conn: ConnId, reason: &str, now: Now) {
        let target = self.peers.targets.iter().position(|target| target.conn() == Some(conn));
        if let Some(at) = target {
            self.lose(at, reason, now);
        } else if self.peers.conns.contains_key(&conn) {
            tracing::info!("a reader left: {reason}");
        }
        self.drop_conn(conn);
    }

    fn drop_conn(&mut self, id: ConnId) {
        let Some(conn) = self.peers.conns.remove(&id) else { return };
        let peer = PeerId { home: self.id, conn: id };
        self.peers.pulling.retain(|_, link| *link != peer);
        self.broadcast(|| PeerMessage::Connected { origin: conn.origin, came: false });
        if conn.is_link {
            if conn.healthy {
                self.broadcast(|| PeerMessage::Direct { origin: conn.origin, healthy: false });
            }
            self.broadcast(|| PeerMessage::LinkGone { link: peer });
        } else {
            self.broadcast(|| PeerMessage::FeedStop { feed: peer });
        }
    }

    /// Whether there is neither a feed here nor credit to give.
    pub(super) fn peers_are_idle(&self) -> bool {
        self.peers.feeds.is_empty() && self.peers.conns.is_empty()
    }

    /// Lets every feed of this shard send what it can; called once per round.
    pub(super) fn pump_feeds(&mut self) {
        for at in 0..self.peers.feeds.len() {
            let served = &mut self.peers.feeds[at];
            let id = served.id;
            if id.home == self.id {
                let Some(mut output) =
                    self.sessions.get_mut(id.conn).map(|session| std::mem::take(&mut session.output))
                else {
                    continue;
                };
                let unsent = self.sessions.get(id.conn).map_or(0, |session| session.unsent) + output.len();
                let before = output.len();
                if unsent < FEED_UNSENT_MAX {
                    if let Some(mut conn) = self.peers.conns.remove(&id.conn) {
                        self.say_dictionary(&mut conn, &mut output);
                        self.peers.conns.insert(id.conn, conn);
                    }
                    self.peers.feeds[at].feed.pump(&self.shard, &mut output, FEED_UNSENT_MAX - unsent);
                }
                self.stats.repl_out += (output.len() - before) as u64;
                if let Some(session) = self.sessions.get_mut(id.conn) {
                    session.output = output;
                }
                self.dirty_if_output(id.conn);
            } else if served.under_way < FEED_CREDIT_MAX {
                let mut bytes = Vec::new();
                served.feed.pump(&self.shard, &mut bytes, FEED_CREDIT_MAX - served.under_way);
                if !bytes.is_empty() {
                    served.under_way += bytes.len();
                    self.send(id.home, Message::Peer(Box::new(PeerMessage::FeedBytes { feed: id, bytes })));
                }
            }
        }
        self.give_credit();
    }

    fn give_credit(&mut self) {
        let mut credits = Vec::new();
        for (id, conn) in &mut self.peers.conns {
            if conn.uncredited.is_empty() {
                continue;
            }
            let unsent = self.sessions.get(*id).map_or(0, |session| session.unsent + session.output.len());
            if unsent < FEED_UNSENT_MAX {
                let feed = PeerId { home: self.id, conn: *id };
                credits.extend(conn.uncredited.drain(..).map(|(shard, bytes)| (shard, feed, bytes)));
            }
        }
        for (shard, feed, bytes) in credits {
            self.send(shard, Message::Peer(Box::new(PeerMessage::FeedCredit { feed, bytes })));
        }
    }

    /// A message about links or feeds from another core (or this one).
    pub(super) fn peer_message(&mut self, from: ShardId, message: PeerMessage, now: Now) {
        match message {
            PeerMessage::Published { entries, promise, final_ms } => {
                self.peers.roster.published(usize::from(from.0), &entries, promise, final_ms);
                self.settle_stability();
            }
            PeerMessage::Heard { node, entries, promise, final_ms, feed } => {
                self.heard(node, &entries, promise, final_ms, feed);
            }
            PeerMessage::Members(nodes) => {
                let own = self.node.realm.origins.own().node;
                for &node in nodes.iter().filter(|node| **node != own) {
                    self.peers.roster.add(node);
                    self.shard.stability.add(node);
                }
            }
            PeerMessage::Identified { host, port } => {
                self.peers.identified.insert((host, port));
                self.count_unknown();
            }
            PeerMessage::Direct { origin, healthy } => {
                if let Some(at) = self.peers.direct.iter().position(|known| *known == origin) {
                    self.peers.direct.swap_remove(at);
                }
                if healthy {
                    self.peers.direct.push(origin);
                }
                // Others must hear at once what they need (not) forward.
                self.peers.next_publish_us = self.peers.next_publish_us.min(now.mono_us);
            }
            PeerMessage::Connected { origin, came } => {
                if came {
                    self.peers.connected.push(origin);
                } else if let Some(at) = self.peers.connected.iter().position(|known| *known == origin) {
                    self.peers.connected.swap_remove(at);
                }
            }
            PeerMessage::FeedStart { feed, versions, skip } => {
                self.peers.active = true;
                self.shard.logging = true;
                let (first, end) = self.shard.keys.partitions();
                let mut known = Versions::new(first, end);
                for &(origin, partition, hlc) in versions.iter() {
                    if (first..end).contains(&usize::from(partition)) {
                        known.raise(origin, usize::from(partition), hlc);
                    }
                }
                let served = Feed::new(&self.shard, known, skip.to_vec());
                self.peers.feeds.push(ShardFeed { id: feed, feed: served, under_way: 0 });
            }
            PeerMessage::FeedSkip { feed, skip } => {
                if let Some(served) = self.peers.feeds.iter_mut().find(|served| served.id == feed) {
                    served.feed.set_skip(&self.shard, skip.to_vec());
                }
            }
            PeerMessage::FeedPull { feed, partition } => {
                let (first, end) = self.shard.keys.partitions();
                if let Some(served) = self.peers.feeds.iter_mut().find(|served| served.id == feed)
                    && (first..end).contains(&usize::from(partition.0))
                {
                    served.feed.pull(partition);
                }
            }
            PeerMessage::FeedStop { feed } => self.peers.feeds.retain(|served| served.id != feed),
            PeerMessage::FeedBytes { feed, bytes } => self.feed_bytes(from, feed, &bytes),
            PeerMessage::FeedCredit { feed, bytes } => {
                if let Some(served) = self.peers.feeds.iter_mut().find(|served| served.id == feed) {
                    served.under_way = served.under_way.saturating_sub(bytes);
                }
            }
            PeerMessage::FromLink { link, dictionary, items } => {
                for (kind, bytes) in items {
                    if !self.take_from_link(link, &dictionary, kind, &bytes, now) {
                        self.send(link.home, Message::Peer(Box::new(PeerMessage::Broken { link })));
                    }
                }
            }
            PeerMessage::LinkGone { link } => self.peers.mergings.retain(|(of, _), _| *of != link),
            PeerMessage::Broken { link } => {
                if self.peers.conns.contains_key(&link.conn) {
                    self.break_conn(link.conn, "it sent something unreadable", now);
                }
            }
            PeerMessage::Merged { link, partition } => {
                if self.peers.pulling.get(&partition.0) == Some(&link) {
                    self.peers.pulling.remove(&partition.0);
                }
                if let Some(target) = self.peers.targets.iter_mut().find(|target| target.conn() == Some(link.conn)) {
                    target.full_merges += 1;
                }
            }
        }
    }

    fn feed_bytes(&mut self, from: ShardId, feed: PeerId, bytes: &[u8]) {
        let Some(mut conn) = self.peers.conns.remove(&feed.conn) else { return };
        if let Some(mut output) = self.sessions.get_mut(feed.conn).map(|session| std::mem::take(&mut session.output)) {
            self.say_dictionary(&mut conn, &mut output);
            output.extend_from_slice(bytes);
            self.stats.repl_out += bytes.len() as u64;
            if let Some(session) = self.sessions.get_mut(feed.conn) {
                session.output = output;
            }
            self.dirty(feed.conn);
        }
        conn.uncredited.push((from, bytes.len()));
        self.peers.conns.insert(feed.conn, conn);
    }

    fn heard(&mut self, node: Uuid, entries: &[Entry], promise: Hlc, final_ms: u64, feed: Option<PeerId>) {
        self.peers.roster.heard(node, entries, promise, final_ms);
        let (first, end) = self.shard.keys.partitions();
        let origins = &self.node.realm.origins;
        let mine = |partition: u8| (first..end).contains(&usize::from(partition));
        let mut by_partition: BTreeMap<u8, Vec<(OriginIdx, Hlc)>> = BTreeMap::new();
        for &(origin, partition, hlc) in entries.iter().filter(|entry| mine(entry.1)) {
            by_partition.entry(partition).or_default().push((origin, hlc));
        }
        for (partition, acked) in by_partition {
            let partition = usize::from(partition);
            self.shard.stability.acknowledge(origins, &self.shard.versions, node, partition, &acked);
        }
        self.shard.stability.promise(node, promise);
        self.shard.stability.finalise(node, final_ms);
        if let Some(served) = feed.and_then(|feed| self.peers.feeds.iter_mut().find(|served| served.id == feed)) {
            for &(origin, partition, hlc) in entries.iter().filter(|entry| mine(entry.1)) {
                served.feed.acknowledged(origin, usize::from(partition), hlc);
            }
        }
    }

    fn settle_stability(&mut self) {
        self.shard.stability.settle(&self.node.realm.origins, &self.shard.versions);
    }

    /// How many members there are, ourselves included.
    pub(super) fn members(&self) -> usize {
        self.peers.roster.others().len() + 1
    }

    /// A line for each other member: who, and how many writes' worth of versions it has acknowledged.
    pub(super) fn member_rows(&self) -> Vec<String> {
        let own = self.peers.roster.own();
        let line = |row: &Row| {
            let behind =
                own.versions.all().filter(|&(origin, partition, hlc)| row.versions.get(origin, partition) < hlc);
            let (node, streams) = (row.node, behind.count());
            format!("member:node={node},streams_behind={streams},promise_ms={}\r\n", row.promise.wall_ms())
        };
        self.peers.roster.others().iter().map(line).collect()
    }

    /// What INFO, ROLE and MULTIMASTER STATUS say of this core's links and feeds.
    pub(super) fn peer_figures(&self, now: Now) -> Vec<PeerFigures> {
        let seconds = |since_us: u64| now.mono_us.saturating_sub(since_us) / 1_000_000;
        let mut figures = Vec::new();
        for target in &self.peers.targets {
            let conn = target.conn().and_then(|id| self.peers.conns.get(&id));
            let session = target.conn().and_then(|id| self.sessions.get(id));
            figures.push(PeerFigures {
                is_link: true,
                host: target.host.clone(),
                port: target.port,
                state: match target.state {
                    State::Waiting { .. } => "connect",
                    State::Dialing(_) => "connecting",
                    State::Handshake(_) => "handshake",
                    State::Up(_) => "connected",
                },
                node: target.node,
                idle_s: conn.map(|conn| seconds(conn.last_input_us)),
                down_s: (!matches!(target.state, State::Up(_))).then(|| seconds(target.down_since_us)),
                reason: target.reason.clone(),
                bytes_in: conn.map_or(0, |conn| conn.bytes_in),
                bytes_out: session.map_or(0, |session| session.bytes_out),
                full_merges: target.full_merges,
                resumes: target.handshakes,
                clock_offset_ms: conn.map_or(0, |conn| conn.clock_offset_ms),
                lag_ms: 0,
            });
        }
        for (id, conn) in self.peers.conns.iter().filter(|(_, conn)| !conn.is_link) {
            let session = self.sessions.get(*id);
            let remote = session.map_or("", |session| &session.endpoint.remote);
            figures.push(PeerFigures {
                is_link: false,
                host: remote.rsplit_once(':').map_or(remote, |(host, _)| host).into(),
                port: conn.port,
                state: if conn.started { "online" } else { "handshake" },
                node: Some(conn.origin),
                idle_s: Some(seconds(conn.last_input_us)),
                bytes_in: conn.bytes_in,
                bytes_out: session.map_or(0, |session| session.bytes_out),
                clock_offset_ms: conn.clock_offset_ms,
                ..PeerFigures::default()
            });
        }
        figures
    }
}

impl Target {
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
        }
    }

    fn conn(&self) -> Option<ConnId> {
        match self.state {
            State::Handshake(conn) | State::Up(conn) => Some(conn),
            _ => None,
        }
    }
}
