//! One node: its directory and clock, and, while it runs, a process of workers joined by the production mesh.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tutti::base::ids::{ConnId, ShardId, Uuid};
use tutti::base::slot::ShardMap;
use tutti::base::time::Now;
use tutti::config::Config;
use tutti::config::values::SavePoint;
use tutti::merge::origins::OriginId;
use tutti::merge::realm::Realm;
use tutti::runtime::mesh::{self, Mesh};
use tutti::shard::ShardSettings;
use tutti::shard::backlog::Position;
use tutti::snapshot::{identity, load};
use tutti::worker::batch::Batch;
use tutti::worker::{Node as Shared, Worker, WorkerSettings};

use crate::clock::Clock;
use crate::disk::Disk;
use crate::world::{Input, World};

/// See the file's head.
pub struct Node {
    pub clock: Clock,
    pub disk: Disk,
    pub cores: usize,
    /// Counts the starts.
    pub life: u32,
    pub process: Option<Process>,
    /// Whom it follows: what its configuration file says.
    pub masters: Vec<usize>,
    /// Gone for good: nobody follows it any more.
    pub is_removed: bool,
    /// It does not answer, not even by a reset: the machine is off, or the process is stopped.
    pub is_silent: bool,
    /// Members know a later start of it than this one: they do not count what it acknowledges.
    pub is_unheard: bool,
    /// Who it has been and will not be again.
    pub lost: Vec<Uuid>,
}

/// What runs.
pub struct Process {
    pub cores: Vec<Core>,
    pub shared: Arc<Shared>,
    pub started_us: u64,
    /// SIGSTOP.
    pub is_stopped: bool,
    /// Cores that have asked for the exit.
    pub exited: usize,
    pub is_stopping: bool,
    /// Global numbers of the origins this process knows, by its own.
    pub origins: std::rc::Rc<Vec<u16>>,
}

/// One core and what its pump keeps.
pub struct Core {
    pub worker: Worker,
    pub mesh: Mesh<Batch>,
    pub inputs: VecDeque<Input>,
    /// When the next round is.
    pub next_us: u64,
    pub last_tick_us: u64,
    pub is_held: bool,
    pub conns: BTreeMap<ConnId, (usize, usize)>,
    pub next_conn: u64,
    /// How far the ledger has read the backlog.
    pub tap: Position,
    /// The latest wall clock this core may have stamped by.
    pub latest_ms: u64,
}

impl Node {
    pub fn is_alive(&self, life: u32) -> bool {
        self.process.is_some() && self.life == life
    }

    /// Whether that life says nothing at all, not even that it is gone.
    pub fn is_silent(&self, life: u32) -> bool {
        self.is_silent && self.life == life
    }

    pub fn snapshot_path(node: usize) -> PathBuf {
        PathBuf::from(format!("/n{node}/dump.rdb"))
    }

    pub fn identity_path(node: usize) -> PathBuf {
        PathBuf::from(format!("/n{node}/dump.rdb.node"))
    }

    /// Who the node in a directory is.
    pub fn identity(&self, at: usize) -> Option<OriginId> {
        let bytes = self.disk.files.get(&Self::identity_path(at))?;
        Some(identity::parse(std::str::from_utf8(bytes).expect("an identity is text")).expect("an identity reads back"))
    }
}

/// The name under which a node is reached.
pub fn host(node: usize) -> String {
    format!("n{node}")
}

/// Another.
pub fn second_host(node: usize) -> String {
    format!("other{node}")
}

pub const PORT: u16 = 6379;

impl World {
    /// Starts a node from its directory, as `runtime::serve` does.
    pub fn start(&mut self, at: usize) {
        let now_us = self.now_us;
        let fresh = Uuid(std::array::from_fn(|_| self.rng.below(256) as u8));
        let hash_seed = self.rng.next_u64();
        let shard_seed = self.rng.next_u64();
        let limits = self.limits.clone();
        let masters: Vec<_> = self.nodes[at].masters.iter().flat_map(|&master| self.names(at, master)).collect();
        let node = &mut self.nodes[at];
        let wall_ms = node.clock.wall_ms(now_us);
        let now = Now { wall_ms, mono_us: 0 };
        node.life += 1;
        node.is_silent = false;
        let mut config = Config { multi_master: true, active_replica: true, port: PORT, ..Config::default() };
        config.dir = format!("/n{at}");
        config.databases = 2;
        config.protected_mode = false;
        config.save = vec![SavePoint { seconds: 100_000, changes: 1 << 40 }];
        config.repl_timeout = limits.repl_timeout_s;
        config.repl_backlog_size = limits.backlog_bytes as u64;
        config.max_clock_drift = limits.drift_ms;
        config.tombstone_memory_limit = limits.tombstone_bytes;
        // Everything is compared every few seconds, whatever is under way.
        config.digest_check_period = 30;
        config.replicaof = masters;
        let snapshot = node.disk.files.get(&Node::snapshot_path(at)).cloned();
        let facts = snapshot.as_ref().map(|bytes| {
            load::check(bytes.as_slice(), bytes.len() as u64, true, usize::from(config.databases), now)
                .unwrap_or_else(|damage| panic!("a committed snapshot of node {at} is damaged: {damage}"))
        });
        let kept = node.identity(at);
        let written_by = facts.as_ref().and_then(|facts| facts.node);
        let own = identity::decide(kept, written_by, fresh, wall_ms);
        node.disk.put(Node::identity_path(at), identity::print(own).into_bytes());
        let shared = Arc::new(Shared {
            realm: Arc::new(Realm::new(own, hash_seed)),
            run_id: format!("{:040x}", hash_seed),
            started: now,
            pid: 1,
            config_file: None,
            executable: String::new(),
            clients: AtomicUsize::new(0),
            loading: AtomicUsize::new(node.cores),
        });
        let config = Arc::new(config);
        let mut cores = Vec::new();
        for (core, mesh) in mesh::build(node.cores, limits.ring_batches).into_iter().enumerate() {
            let shard = ShardSettings {
                id: ShardId(core as u16),
                map: ShardMap::new(node.cores as u16),
                databases: usize::from(config.databases),
                backlog_bytes_max: limits.backlog_bytes,
                drift_ms_max: config.max_clock_drift,
                seed: shard_seed.wrapping_add(core as u64),
            };
            let settings = WorkerSettings { shard, node: Arc::clone(&shared), config: Arc::clone(&config) };
            let mut worker = Worker::new(&settings);
            let share = snapshot.as_ref().zip(facts.as_ref()).map(|(bytes, facts)| {
                let read: Box<dyn Read> = Box::new(Cursor::new(bytes.to_vec()));
                load::Loading::begin(read, bytes.len() as u64, facts, &mut worker.shard)
                    .expect("the check has passed it")
            });
            worker.begin_loading(share, now);
            let latest_ms = worker.shard.last_hlc().wall_ms().max(wall_ms);
            let tap = worker.shard.backlog.end();
            cores.push(Core {
                worker,
                mesh,
                inputs: VecDeque::new(),
                next_us: u64::MAX,
                last_tick_us: 0,
                is_held: false,
                conns: BTreeMap::new(),
                next_conn: 0,
                tap,
                latest_ms,
            });
        }
        let life = node.life;
        let process = Process {
            cores,
            shared,
            started_us: now_us,
            is_stopped: false,
            exited: 0,
            is_stopping: false,
            origins: std::rc::Rc::default(),
        };
        node.process = Some(process);
        self.hash.add(&[2, now_us, at as u64, u64::from(life)]);
        self.note(None, || format!("node {at} starts as {own:?} with {} cores", self.nodes[at].cores));
        self.ledger_starts(at, own);
        for core in 0..self.nodes[at].cores {
            let due_us = now_us + self.rng.below(1000);
            self.wake(at, core, due_us);
        }
    }

    /// The names by which a node knows its master.
    pub fn names(&self, at: usize, master: usize) -> impl Iterator<Item = (String, u16)> + use<> {
        let second = self.plan.twice.contains(&(at, master)).then(|| second_host(master));
        std::iter::once(host(master)).chain(second).map(|name| (name, PORT))
    }

    /// The process is gone, at once. `is_silent`: and its machine with it.
    pub fn kill(&mut self, at: usize, is_silent: bool) {
        let Some(process) = self.nodes[at].process.take() else { return };
        self.nodes[at].is_silent = is_silent;
        self.nodes[at].disk.crash();
        self.hash.add(&[3, self.now_us, at as u64]);
        for core in &process.cores {
            for &(conn, side) in core.conns.values() {
                self.orphan(conn, side, !is_silent);
            }
        }
        drop(process);
    }
}
