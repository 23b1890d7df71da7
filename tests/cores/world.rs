//! Nodes of several workers joined by rings in memory, their clients and links, and a clock that moves with the steps.
//!
//! One step lets one core do one thing picked by the seed: take a batch from another core, take bytes of a connection,
//! tick, or work in the background; then its round ends as in the runtime. Batches and bytes keep their order and are
//! late by chance: every world has some slow pairs of cores. The same seed gives the same world.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tutti::base::ids::{ConnId, ShardId, Uuid};
use tutti::base::rng::Rng;
use tutti::base::slot::ShardMap;
use tutti::base::text::split_quoted;
use tutti::base::time::Now;
use tutti::config::Config;
use tutti::merge::origins::OriginId;
use tutti::merge::realm::Realm;
use tutti::resp::value::{Value, decode};
use tutti::resp::write::encode_command;
use tutti::shard::ShardSettings;
use tutti::snapshot::load::{Loading, check};
use tutti::worker::batch::Batch;
use tutti::worker::port::{Action, Core, Endpoint, FileEvent, FileStep};
use tutti::worker::{Node as Facts, Worker, WorkerSettings};

/// A ring holds this many batches; then its sender keeps its batch and reads no connections.
const RING_BATCHES: usize = 4;

/// No question may take more steps than this.
const STEPS_MAX: usize = 2_000_000;

/// What time passes with a step, microseconds.
const STEP_US: u64 = 20;

pub struct World {
    pub nodes: Vec<Node>,
    pub now: Now,
    pub rng: Rng,
    /// What the backlog of a core keeps, for nodes started from now on.
    pub backlog_bytes: usize,
    /// Counts the starts of all nodes.
    starts: u64,
    clients: Vec<Client>,
}

pub struct Node {
    /// None while it is stopped.
    pub cores: Vec<Worker>,
    pub port: u16,
    config: Arc<Config>,
    uuid: Uuid,
    /// The snapshot it has written last.
    pub saved: Vec<u8>,
    /// The one it is writing.
    saving: Vec<u8>,
    rings: Vec<VecDeque<Batch>>,
    /// Per ring, one batch is taken in so many looks.
    slowness: Vec<u64>,
    conns: Vec<BTreeMap<ConnId, Wire>>,
    next_conn: u64,
    ticks_us: Vec<u64>,
    /// Its wall clock less the others', milliseconds.
    pub clock_ms: i64,
    /// Neither its links' bytes nor dials reach others.
    pub is_cut_off: bool,
    /// What was asked of the world beside connections.
    pub actions: Vec<Action>,
}

/// One end of a connection, as a node has it.
struct Wire {
    far: Far,
    /// On its way to this end.
    bytes: VecDeque<u8>,
    is_paused: bool,
    is_closed_by_far: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct End {
    node: usize,
    core: usize,
    conn: ConnId,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Far {
    Client(usize),
    End(End),
}

struct Client {
    end: End,
    received: Vec<u8>,
}

/// A client's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientId(usize);

impl World {
    /// Without nodes.
    pub fn new(seed: u64) -> Self {
        let now = Now { wall_ms: 1_770_000_000_000, mono_us: 1_000_000 };
        Self { nodes: Vec::new(), now, rng: Rng::new(seed), backlog_bytes: 1 << 20, starts: 0, clients: Vec::new() }
    }

    /// One node of so many cores.
    pub fn of_cores(seed: u64, cores: usize) -> Self {
        let mut world = Self::new(seed);
        world.add(cores, Config { databases: 3, ..Config::default() });
        world
    }

    /// Starts a node; its port is 7000 and its number.
    pub fn add(&mut self, cores: usize, config: Config) -> usize {
        let at = self.install(config);
        self.start(at, cores);
        at
    }

    /// The directory of a node is copied, with the snapshot it has saved last, and started beside it on another port.
    pub fn start_copy(&mut self, of: usize, cores: usize) -> usize {
        let at = self.install((*self.nodes[of].config).clone());
        (self.nodes[at].uuid, self.nodes[at].saved) = (self.nodes[of].uuid, self.nodes[of].saved.clone());
        self.restart(at, cores);
        at
    }

    fn install(&mut self, mut config: Config) -> usize {
        let at = self.nodes.len();
        config.port = 7000 + at as u16;
        self.nodes.push(Node {
            cores: Vec::new(),
            port: config.port,
            config: Arc::new(config),
            uuid: Uuid([at as u8 + 1; 16]),
            saved: Vec::new(),
            saving: Vec::new(),
            rings: Vec::new(),
            slowness: Vec::new(),
            conns: Vec::new(),
            next_conn: 0,
            ticks_us: Vec::new(),
            clock_ms: 0,
            is_cut_off: false,
            actions: Vec::new(),
        });
        at
    }

    /// A node that is stopped begins another run, of so many cores, without data.
    pub fn start(&mut self, at: usize, cores: usize) {
        let (started, backlog_bytes_max) = (self.now_of(at), self.backlog_bytes);
        let slowness = (0..cores * cores).map(|_| [1, 1, 2, 8][self.rng.below(4) as usize]).collect();
        let node = &mut self.nodes[at];
        assert!(node.cores.is_empty(), "it runs");
        self.starts += 1;
        let own = OriginId { node: node.uuid, incarnation: self.starts };
        let facts = Arc::new(Facts {
            realm: Arc::new(Realm::new(own, at as u64)),
            run_id: "0".repeat(40),
            started,
            pid: 1,
            config_file: None,
            executable: String::new(),
            clients: AtomicUsize::new(0),
            loading: AtomicUsize::new(0),
        });
        let config = &node.config;
        let worker = |id: usize| {
            let shard = ShardSettings {
                id: ShardId(id as u16),
                map: ShardMap::new(cores as u16),
                databases: usize::from(config.databases),
                backlog_bytes_max,
                drift_ms_max: config.max_clock_drift,
                seed: id as u64,
            };
            Worker::new(&WorkerSettings { shard, node: Arc::clone(&facts), config: Arc::clone(config) })
        };
        node.cores = (0..cores).map(worker).collect();
        node.rings = (0..cores * cores).map(|_| VecDeque::new()).collect();
        node.slowness = slowness;
        node.conns = (0..cores).map(|_| BTreeMap::new()).collect();
        node.ticks_us = vec![0; cores];
    }

    /// A node's process is gone at once, and with it what is not in `saved`; whoever was connected notices.
    pub fn stop(&mut self, at: usize) {
        for core in 0..self.nodes[at].cores.len() {
            while let Some((&conn, _)) = self.nodes[at].conns[core].first_key_value() {
                self.close(End { node: at, core, conn });
            }
        }
        self.nodes[at].cores.clear();
        self.nodes[at].saving.clear();
    }

    /// A node's machine is gone at once; nobody who was connected hears of it.
    pub fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.conns.iter_mut().for_each(BTreeMap::clear);
        node.cores.clear();
        node.saving.clear();
    }

    /// Every link of a node is lost, and both ends notice.
    pub fn lose_links(&mut self, at: usize) {
        let wires = self.nodes[at].conns.iter_mut().flat_map(BTreeMap::values_mut);
        let fars: Vec<End> = wires.filter_map(Wire::break_off).collect();
        for far in fars {
            self.nodes[far.node].conns[far.core].get_mut(&far.conn).and_then(Wire::break_off);
        }
    }

    /// A node that is stopped loses its directory: its snapshot, and who it was.
    pub fn lose_disk(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.saved.clear();
        node.uuid.0[0] ^= 0x80;
    }

    /// The next run of a node that was stopped, with the snapshot it has saved last.
    pub fn restart(&mut self, at: usize, cores: usize) {
        self.start(at, cores);
        let file = std::mem::take(&mut self.nodes[at].saved);
        if !file.is_empty() {
            self.load(at, &file);
        }
        self.nodes[at].saved = file;
    }

    /// Nodes of so many cores each, every one a master of every other, linked.
    pub fn mesh(seed: u64, cores: &[usize]) -> Self {
        let mut world = Self::new(seed);
        for (at, &count) in cores.iter().enumerate() {
            let others = (0..cores.len()).filter(|&other| other != at);
            let replicaof = others.map(|other| ("127.0.0.1".to_owned(), 7000 + other as u16)).collect();
            let config = Config {
                multi_master: true,
                active_replica: true,
                replica_read_only: false,
                replicaof,
                databases: 3,
                ..Config::default()
            };
            world.add(count, config);
        }
        let clients: Vec<ClientId> = (0..cores.len()).map(|at| world.connect(at, 0)).collect();
        let up = format!("connected_masters:{}", cores.len() - 1);
        for client in clients {
            world.eventually("all links are up", |world| world.text(client, "INFO replication").contains(&up));
        }
        world
    }

    /// Asks again and again until it is so.
    #[track_caller]
    pub fn eventually(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1000 {
            if is_so(self) {
                return;
            }
            self.pass_ms(10);
        }
        panic!("never: {what}");
    }

    /// Makes a node begin with a snapshot, as if it had just started with it.
    pub fn load(&mut self, node: usize, file: &[u8]) {
        let now = self.now;
        let cores = &mut self.nodes[node].cores;
        let databases = cores[0].shard.keys.databases();
        let facts = check(file, file.len() as u64, false, databases, now).expect("a sound file");
        cores[0].node.loading.store(cores.len(), Ordering::Relaxed);
        for worker in cores {
            let read: Box<dyn Read> = Box::new(Cursor::new(file.to_vec()));
            let loading = Loading::begin(read, file.len() as u64, &facts, &mut worker.shard).expect("it was checked");
            worker.set_loaded(facts.keys, facts.expired);
            worker.begin_loading(Some(loading), now);
        }
    }

    /// A client connected to a core.
    pub fn connect(&mut self, node: usize, core: usize) -> ClientId {
        let client = self.clients.len();
        let end = self.open(node, core, Far::Client(client));
        self.clients.push(Client { end, received: Vec::new() });
        ClientId(client)
    }

    /// A client connected to some core of the first node.
    pub fn client(&mut self) -> ClientId {
        let core = self.rng.below(self.nodes[0].cores.len() as u64) as usize;
        self.connect(0, core)
    }

    /// Sends a command, which arrives by and by.
    pub fn send(&mut self, client: ClientId, line: &str) {
        let words = split_quoted(line.as_bytes()).expect("balanced quotes");
        let mut request = Vec::new();
        encode_command(&mut request, &words);
        let End { node, core, conn } = self.clients[client.0].end;
        let wire = self.nodes[node].conns[core].get_mut(&conn).expect("the client is connected");
        wire.bytes.extend(request);
    }

    /// The next reply, if it is here.
    pub fn receive(&mut self, client: ClientId) -> Option<Value> {
        let received = &mut self.clients[client.0].received;
        let (value, used) = decode(received)?;
        received.drain(..used);
        Some(value)
    }

    /// Sends a command and steps until its reply is here.
    #[track_caller]
    pub fn run(&mut self, client: ClientId, line: &str) -> Value {
        self.send(client, line);
        for _ in 0..STEPS_MAX {
            if let Some(value) = self.receive(client) {
                return value;
            }
            self.step();
        }
        panic!("no reply: {line}");
    }

    /// A field of INFO.
    #[track_caller]
    pub fn info(&mut self, client: ClientId, field: &str) -> String {
        let all = self.text(client, "INFO everything");
        let found = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned));
        found.unwrap_or_else(|| panic!("INFO has no {field}"))
    }

    /// The same of one with a number.
    #[track_caller]
    pub fn number(&mut self, client: ClientId, field: &str) -> i64 {
        let text = self.info(client, field);
        text.parse().unwrap_or_else(|_| panic!("{field} is {text}"))
    }

    /// The same, the reply as `show` prints it.
    #[track_caller]
    pub fn text(&mut self, client: ClientId, line: &str) -> String {
        show(&self.run(client, line))
    }

    /// Steps until it is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..STEPS_MAX / 64 {
            if is_so(self) {
                return;
            }
            (0..64).for_each(|_| self.step());
        }
        panic!("never: {what}");
    }

    /// Lets time pass, with steps in between.
    pub fn pass_ms(&mut self, ms: u64) {
        let until_us = self.now.mono_us + ms * 1000;
        while self.now.mono_us < until_us {
            self.step();
        }
    }

    /// One core of one node does one thing.
    pub fn step(&mut self) {
        self.advance_us(STEP_US);
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        if self.nodes[node].cores.is_empty() {
            return;
        }
        let core = self.rng.below(self.nodes[node].cores.len() as u64) as usize;
        match self.rng.below(8) {
            0 => self.tick_if_due(node, core),
            1 => {
                let now = self.now_of(node);
                self.nodes[node].cores[core].background(now);
            }
            2..4 => self.take_bytes(node, core),
            _ => self.take_batch(node, core),
        }
        self.end_round(node, core);
    }

    fn now_of(&self, node: usize) -> Now {
        Now { wall_ms: self.now.wall_ms.saturating_add_signed(self.nodes[node].clock_ms), ..self.now }
    }

    fn advance_us(&mut self, us: u64) {
        let before_ms = self.now.mono_us / 1000;
        self.now.mono_us += us;
        self.now.wall_ms += self.now.mono_us / 1000 - before_ms;
    }

    fn tick_if_due(&mut self, node: usize, core: usize) {
        let now = self.now_of(node);
        let Node { cores, ticks_us, .. } = &mut self.nodes[node];
        let worker = &mut cores[core];
        if now.mono_us >= ticks_us[core] + 100_000 || now.mono_us >= worker.wake_at_us() {
            ticks_us[core] = now.mono_us;
            worker.tick(now);
        }
    }

    fn take_batch(&mut self, node: usize, core: usize) {
        let now = self.now_of(node);
        let Node { cores, rings, slowness, .. } = &mut self.nodes[node];
        let count = cores.len();
        let full: Vec<usize> = (0..count).filter(|from| !rings[from * count + core].is_empty()).collect();
        if full.is_empty() {
            return;
        }
        let from = full[self.rng.below(full.len() as u64) as usize];
        let ring = from * count + core;
        if self.rng.chance(slowness[ring])
            && let Some(batch) = rings[ring].pop_front()
        {
            cores[core].receive(ShardId(from as u16), batch, now);
        }
    }

    fn take_bytes(&mut self, node: usize, core: usize) {
        let now = self.now_of(node);
        let count = self.nodes[node].cores.len();
        // A full ring stops the reading of connections.
        if (0..count).any(|to| self.nodes[node].rings[core * count + to].len() >= RING_BATCHES) {
            return;
        }
        let ready: Vec<ConnId> = self.nodes[node].conns[core]
            .iter()
            .filter(|(_, wire)| !wire.is_paused && (!wire.bytes.is_empty() || wire.is_closed_by_far))
            .filter(|(_, wire)| match wire.far {
                Far::Client(_) => true,
                Far::End(far) => !self.nodes[node].is_cut_off && !self.nodes[far.node].is_cut_off,
            })
            .map(|(conn, _)| *conn)
            .collect();
        if ready.is_empty() {
            return;
        }
        let conn = ready[self.rng.below(ready.len() as u64) as usize];
        let Node { cores, conns, .. } = &mut self.nodes[node];
        let wire = conns[core].get_mut(&conn).expect("it is ready");
        if wire.bytes.is_empty() {
            conns[core].remove(&conn);
            return cores[core].closed(conn, false, now);
        }
        // Mostly all of it; sometimes cut anywhere.
        let take = if self.rng.chance(4) { 1 + self.rng.below(wire.bytes.len() as u64) as usize } else { usize::MAX };
        let bytes: Vec<u8> = wire.bytes.drain(..take.min(wire.bytes.len())).collect();
        cores[core].data(conn, &bytes, now);
    }

    // As the runtime ends a round: outputs, wishes, batches.
    fn end_round(&mut self, node: usize, core: usize) {
        let now = self.now_of(node);
        let mut dirty = Vec::new();
        self.nodes[node].cores[core].take_dirty(&mut dirty);
        let mut output = Vec::new();
        for conn in dirty {
            let worker = &mut self.nodes[node].cores[core];
            worker.take_output(conn, &mut output);
            worker.sent(conn, output.len(), now);
            self.pass_on(End { node, core, conn }, &output);
            output.clear();
        }
        let mut actions = Vec::new();
        self.nodes[node].cores[core].take_actions(&mut actions);
        actions.into_iter().for_each(|action| self.act(node, core, action));
        let Node { cores, rings, .. } = &mut self.nodes[node];
        let count = cores.len();
        for to in (0..count).filter(|&to| to != core) {
            let ring = &mut rings[core * count + to];
            if ring.len() < RING_BATCHES
                && let Some(batch) = cores[core].take_batch(ShardId(to as u16))
            {
                ring.push_back(batch);
            }
        }
    }

    fn pass_on(&mut self, from: End, bytes: &[u8]) {
        let Some(far) = self.nodes[from.node].conns[from.core].get(&from.conn).map(|wire| wire.far) else { return };
        match far {
            Far::Client(at) => self.clients[at].received.extend_from_slice(bytes),
            Far::End(far) => {
                if let Some(wire) = self.nodes[far.node].conns[far.core].get_mut(&far.conn) {
                    wire.bytes.extend(bytes);
                }
            }
        }
    }

    fn act(&mut self, node: usize, core: usize, action: Action) {
        let now = self.now_of(node);
        match action {
            Action::Close(conn) => self.close(End { node, core, conn }),
            Action::CloseAfterFlush(conn) => {
                let mut output = Vec::new();
                self.nodes[node].cores[core].take_output(conn, &mut output);
                self.pass_on(End { node, core, conn }, &output);
                self.close(End { node, core, conn });
            }
            Action::PauseReading(conn) => self.set_paused(node, core, conn, true),
            Action::ResumeReading(conn) => self.set_paused(node, core, conn, false),
            Action::Dial { dial, port, .. } => {
                let target =
                    self.nodes.iter().position(|node| node.port == port && !node.is_cut_off && !node.cores.is_empty());
                let result = match target.filter(|_| !self.nodes[node].is_cut_off) {
                    None => Err("nobody listens there".to_owned()),
                    Some(target) => {
                        let far_core = self.rng.below(self.nodes[target].cores.len() as u64) as usize;
                        let near = End { node, core, conn: self.next_conn(node) };
                        let far = self.open(target, far_core, Far::End(near));
                        self.nodes[node].conns[core].insert(near.conn, Wire::to(Far::End(far)));
                        Ok((near.conn, endpoint(near.conn)))
                    }
                };
                self.nodes[node].cores[core].dialed(dial, result, now);
                self.end_round(node, core);
            }
            Action::File { file, step } => {
                let Node { cores, saved, saving, actions, .. } = &mut self.nodes[node];
                actions.push(Action::File { file, step: step.clone() });
                let event = match step {
                    FileStep::Append(bytes) => {
                        saving.extend_from_slice(&bytes);
                        FileEvent::Appended
                    }
                    FileStep::Commit => {
                        *saved = std::mem::take(saving);
                        FileEvent::Committed
                    }
                    FileStep::Sync => FileEvent::Synced,
                    FileStep::Abandon => FileEvent::Abandoned,
                    _ => {
                        saving.clear();
                        FileEvent::Opened(0)
                    }
                };
                cores[core].file_event(file, event, now);
                self.end_round(node, core);
            }
            other => self.nodes[node].actions.push(other),
        }
    }

    fn open(&mut self, node: usize, core: usize, far: Far) -> End {
        let conn = self.next_conn(node);
        self.nodes[node].conns[core].insert(conn, Wire::to(far));
        let now = self.now_of(node);
        self.nodes[node].cores[core].accepted(conn, &endpoint(conn), now);
        self.end_round(node, core);
        End { node, core, conn }
    }

    fn next_conn(&mut self, node: usize) -> ConnId {
        self.nodes[node].next_conn += 1;
        ConnId(self.nodes[node].next_conn)
    }

    fn close(&mut self, end: End) {
        let Some(wire) = self.nodes[end.node].conns[end.core].remove(&end.conn) else { return };
        match wire.far {
            Far::Client(_) => {}
            Far::End(far) => {
                if let Some(wire) = self.nodes[far.node].conns[far.core].get_mut(&far.conn) {
                    wire.is_closed_by_far = true;
                }
            }
        }
    }

    fn set_paused(&mut self, node: usize, core: usize, conn: ConnId, is_paused: bool) {
        if let Some(wire) = self.nodes[node].conns[core].get_mut(&conn) {
            wire.is_paused = is_paused;
        }
    }
}

impl Wire {
    fn to(far: Far) -> Self {
        Self { far, bytes: VecDeque::new(), is_paused: false, is_closed_by_far: false }
    }

    // Of a link: it is closed, with all that was under way. Returns the other end.
    fn break_off(&mut self) -> Option<End> {
        let Far::End(far) = self.far else { return None };
        self.bytes.clear();
        self.is_closed_by_far = true;
        Some(far)
    }
}

fn endpoint(conn: ConnId) -> Endpoint {
    Endpoint { remote: format!("127.0.0.1:{}", conn.0), local: "127.0.0.1:1".into(), is_local: true, fd: 0 }
}

/// A reply as text: errors with a minus sign, statuses and bulks bare, arrays with blanks between.
pub fn show(value: &Value) -> String {
    match value {
        Value::Simple(text) => text.clone(),
        Value::Error(text) => format!("-{text}"),
        Value::Integer(n) => n.to_string(),
        Value::Bulk(bytes) | Value::Verbatim(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Nil => "(nil)".into(),
        Value::Array(items) | Value::Set(items) => items.iter().map(show).collect::<Vec<_>>().join(" "),
        other => format!("{other:?}"),
    }
}

/// The elements of an array, as `show` prints them.
#[track_caller]
pub fn items(reply: &Value) -> Vec<String> {
    match reply {
        Value::Array(items) => items.iter().map(show).collect(),
        other => panic!("{other:?} is no array"),
    }
}

/// A key on each of `cores`.
pub fn spread(name: &str, cores: usize) -> Vec<String> {
    let map = ShardMap::new(cores as u16);
    let on = |core: usize| {
        let mut keys = (0..).map(|n| format!("{name}:{n}"));
        keys.find(|key| usize::from(map.owner_of_key(key.as_bytes()).0) == core).expect("every core owns keys")
    };
    (0..cores).map(on).collect()
}
