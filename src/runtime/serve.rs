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
    let node = Arc::new(Node {
        realm: Arc::new(Realm::new(data.own, u64::from_le_bytes(random_bytes()?))),
        run_id: hex(&random_bytes::<20>()?),
        started,
        pid: std::process::id(),
        config_file: (!config.config_file.is_empty()).then(|| config.config_file.clone()),
        executable: std::env::current_exe().map_or_else(|_| String::new(), |path| path.to_string_lossy().into_owned()),
        clients: AtomicUsize::new(0),
    });
    let settings = settings(&config);
    let cores = super::core_count(&settings) as u16;
    let backlog_bytes_max = (config.repl_backlog_size / u64::from(cores)) as usize;
    let (port, config) = (config.port, Arc::new(config));
    let seed = AtomicU64::new(u64::from_le_bytes(random_bytes()?));
    // Held until the end: it locks our identity.
    let super::data::Data { snapshot, lock: _lock, .. } = data;
    let loading = Loading { state: Mutex::new((snapshot.map(Arc::new), cores)) };
    let (tell_loaded, all_loaded) = std::sync::mpsc::channel();
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
        loading.load_into(&mut worker);
        // Nobody listens once the node serves, and then nobody loads.
        let _ = tell_loaded.send(());
        worker
    };
    let on_ready = |_: &super::Running| {
        all_loaded.iter().take(usize::from(cores)).for_each(drop);
        tracing::info!(port, cores, "Ready to accept connections");
    };
    super::run(&settings, make, on_ready)
}

/// The snapshot while cores load it, and how many have still to.
struct Loading {
    state: Mutex<(Option<Arc<Snapshot>>, u16)>,
}

impl Loading {
    fn load_into(&self, worker: &mut Worker) {
        let state = || self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = state().0.clone() else { return };
        match snapshot.load(&mut worker.shard, clock::now()) {
            Ok(_) => worker.set_loaded(snapshot.facts.keys, snapshot.facts.expired),
            Err(reason) => {
                // It was looked at whole before: it changed under us, and part of it is loaded.
                tracing::error!("The snapshot changed while it was loaded: {reason}");
                std::process::abort();
            }
        }
        let mut state = state();
        state.1 -= 1;
        if state.1 == 0 {
            // An open file keeps its room on the disk when the next snapshot takes its name.
            state.0 = None;
            let (keys, expired) = (snapshot.facts.keys, snapshot.facts.expired);
            let took_ms = clock::now().mono_us.saturating_sub(worker.node.started.mono_us) / 1000;
            tracing::info!("DB loaded from disk: {keys} keys, {expired} expired, {took_ms} ms after the start");
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
