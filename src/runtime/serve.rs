//! From a configuration to a running node: identities, one worker per core, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
    let loaded = data.snapshot.as_ref().map(|snapshot| (snapshot.facts.keys, snapshot.facts.expired));
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
        if let Some(snapshot) = &data.snapshot {
            load(snapshot, &mut worker);
        }
        worker
    };
    if let Some((keys, expired)) = loaded {
        tracing::info!("DB to load: {keys} keys, {expired} expired");
    }
    super::run(&settings, make, |_| tracing::info!(port, cores, "Ready to accept connections"))
}

// The file was looked at whole before, so that it fails now means that it or the memory changed under us.
fn load(snapshot: &super::data::Snapshot, worker: &mut Worker) {
    match snapshot.load(&mut worker.shard, clock::now()) {
        Ok(_) => worker.set_loaded(snapshot.facts.keys, snapshot.facts.expired),
        Err(reason) => panic!("the snapshot changed while it was loaded: {reason}"),
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
