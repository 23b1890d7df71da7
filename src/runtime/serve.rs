//! From a configuration to a running node: identities, one worker per core, and the end.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::data::Snapshot;
use super::settings::{Port, Settings};
use super::{CoreSeat, clock};
use crate::base::ids::Uuid;
use crate::base::slot::ShardMap;
use crate::config::Config;
use crate::merge::realm::Realm;
use crate::shard::ShardSettings;
use crate::worker::{Node, Worker, WorkerSettings};

/// Runs a node until it is told to stop; answers the exit code. The error is one line for the operator.
pub fn serve(config: Config) -> Result<i32, String> {
    let started = clock::now();
    let data = super::data::open(&config, Uuid(random_bytes()?), started)?;
    let settings = settings(&config);
    let cores = super::core_count(&settings) as u16;
    let node = Arc::new(Node {
        realm: Arc::new(Realm::new(data.own, u64::from_le_bytes(random_bytes()?))),
        run_id: hex(&random_bytes::<20>()?),
        started,
        pid: std::process::id(),
        config_file: (!config.config_file.is_empty()).then(|| config.config_file.clone()),
        executable: std::env::current_exe().map_or_else(|_| String::new(), |path| path.to_string_lossy().into_owned()),
        clients: AtomicUsize::new(0),
        loading: AtomicUsize::new(usize::from(cores)),
    });
    let backlog_bytes_max = (config.repl_backlog_size / u64::from(cores)) as usize;
    let config = Arc::new(config);
    let seed = AtomicU64::new(u64::from_le_bytes(random_bytes()?));
    // Held until the end: it locks our identity.
    let super::data::Data { snapshot, lock: _lock, .. } = data;
    let loading = Loading { state: Mutex::new((snapshot, cores)) };
    let make = move |seat: CoreSeat| {
        let shard = ShardSettings {
            id: seat.shard,
            map: ShardMap::new(seat.shards),
            databases: usize::from(config.databases),
            backlog_bytes_max,
            drift_ms_max: config.max_clock_drift,
            seed: seed.fetch_add(1, Ordering::Relaxed),
        };
        let mut worker = Worker::new(&WorkerSettings { shard, node: Arc::clone(&node), config: Arc::clone(&config) });
        worker.set_stopwatch(clock::mono_us);
        loading.begin(&mut worker);
        worker
    };
    super::run(&settings, make)
}

/// The snapshot until every core has begun to load it, and how many have still to.
struct Loading {
    state: Mutex<(Option<Snapshot>, u16)>,
}

impl Loading {
    fn begin(&self, worker: &mut Worker) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (snapshot, left) = &mut *state;
        let begun = snapshot.as_ref().map(|snapshot| {
            worker.set_loaded(snapshot.facts.keys, snapshot.facts.expired);
            snapshot.begin(&mut worker.shard)
        });
        *left -= 1;
        if *left == 0 {
            *snapshot = None;
        }
        drop(state);
        match begun.transpose() {
            Ok(loading) => worker.begin_loading(loading, clock::now()),
            Err(reason) => {
                // It was looked at whole before.
                tracing::error!("The snapshot changed while it was loaded: {reason}");
                std::process::abort();
            }
        }
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        threads: config.server_threads.map(usize::from),
        pin_threads: config.server_thread_affinity,
        bind: config.bind.clone(),
        port: if config.port == 0 { Port::None } else { Port::Number(config.port) },
        tcp_backlog: config.tcp_backlog,
        tcp_keepalive_s: config.tcp_keepalive,
        unix_socket: (!config.unixsocket.is_empty()).then(|| config.unixsocket.clone().into()),
        unix_socket_mode: (config.unixsocketperm != 0).then_some(config.unixsocketperm),
        clients_max: config.maxclients as usize,
        supervised: config.supervised,
        disable_thp: config.disable_thp,
        ..Settings::default()
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0u8; N];
    // SAFETY: the pointer and length describe `bytes`; the call writes at most that many bytes.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    if got == N as isize { Ok(bytes) } else { Err("the kernel gave no random bytes (getrandom)".into()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
