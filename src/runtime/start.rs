//! Starting and stopping a node: a thread, an executor, a ring and a core each, and the few words they share.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use glommio::{GlommioError, LocalExecutorBuilder, Placement};

use super::dial::Dials;
use super::listen::{Listener, bind_all};
use super::mailbox::{Mailbox, new_eventfd, signal};
use super::mesh::{self, Mesh};
use super::net::Net;
use super::preflight::explain_start;
use super::process;
use super::pump::{Parts, Pump};
use super::resolve::Resolver;
use super::settings::Settings;
use super::signals;
use crate::base::ids::ShardId;
use crate::config::values::Supervised;
use crate::worker::port::Core;

/// Memory glommio registers per executor (its minimum): locked, three times.
const EXECUTOR_MEMORY_BYTES: usize = 64 * 1024;

/// Depth of glommio's rings: a few files at a time.
const EXECUTOR_RING_DEPTH: usize = 32;

/// glommio's own time slices are off: the pump decides when to visit, and a slice that ends before its first task has
/// run makes glommio 0.9 sleep beside runnable tasks (seen on a loaded machine with slices of 500 us).
const NEVER: Duration = Duration::from_secs(365 * 86_400);

/// What a core is told when it is built.
#[derive(Clone, Copy, Debug)]
pub struct CoreSeat {
    /// The shard it owns.
    pub shard: ShardId,
    /// How many cores the node has.
    pub shards: u16,
    /// How many clients the node may let in: as configured, or fewer if descriptors are short.
    pub clients_max: usize,
}

/// A node that runs.
pub struct Running {
    node: Arc<Node>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

/// What the cores of a node share: nothing on the way of a request but the targets of doorbells.
pub(crate) struct Node {
    mailboxes: Vec<Arc<Mailbox>>,
    /// By core; set before any core serves.
    rings: Vec<AtomicI32>,
    working: AtomicUsize,
    exit_code: AtomicI32,
    /// Signalled when the last core is done.
    finished: OwnedFd,
    supervised: Supervised,
}

impl Node {
    /// The node serves.
    pub(crate) fn say_ready(&self) {
        process::say_ready(self.supervised);
    }

    pub(crate) fn ring_of(&self, shard: ShardId) -> RawFd {
        self.rings[usize::from(shard.0)].load(Ordering::Relaxed)
    }

    /// One more core has asked for exit. The others are told to stop; after the last, all leave.
    pub(crate) fn core_is_done(&self, code: i32) {
        // The first code above zero wins.
        let _ = self.exit_code.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
        self.ask_to_stop();
        if self.working.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailboxes.iter().for_each(|mailbox| mailbox.tell_to_leave());
            signal(self.finished.as_fd());
        }
    }

    pub(crate) fn cores(&self) -> usize {
        self.mailboxes.len()
    }

    fn ask_to_stop(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.ask_to_stop());
    }
}

impl Running {
    /// The TCP addresses all cores listen on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Asks every core to shut down.
    pub fn stop(&self) {
        self.node.ask_to_stop();
    }

    /// Becomes readable when all cores are done.
    pub(crate) fn finished(&self) -> impl AsFd + '_ {
        self.node.finished.as_fd()
    }

    /// Waits for the end. Answers the exit code.
    pub fn wait(self) -> i32 {
        for thread in self.threads {
            thread.join().expect("a core that panics ends the process");
        }
        self.node.exit_code.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Running({} cores on {:?})", self.threads.len(), self.addresses)
    }
}

/// How many cores a node with these settings has.
pub fn core_count(settings: &Settings) -> usize {
    // Both the affinity mask and the CPU quota of the control group count here.
    let allowed = thread::available_parallelism().map_or(1, usize::from);
    settings.threads.unwrap_or(allowed).clamp(1, 256)
}

/// Starts a node: binds, then builds each core on its own thread with `make_core`, and returns once all serve.
/// The error is one line for the operator.
pub fn start<C, F>(settings: &Settings, make_core: F) -> Result<Running, String>
where
    C: Core + 'static,
    F: Fn(CoreSeat) -> C + Send + Sync + 'static,
{
    let cores = core_count(settings);
    let listeners = bind_all(settings, cores)?;
    let io = |error: std::io::Error| format!("could not start: {error}");
    let mailboxes = (0..cores).map(|_| Mailbox::new().map(Arc::new)).collect::<Result<Vec<_>, _>>().map_err(io)?;
    let node = Arc::new(Node {
        mailboxes,
        rings: (0..cores).map(|_| AtomicI32::new(-1)).collect(),
        working: AtomicUsize::new(cores),
        exit_code: AtomicI32::new(0),
        finished: new_eventfd().map_err(io)?,
        supervised: settings.supervised,
    });
    let start = Arc::new(Start {
        make_core,
        resolver: Resolver::default(),
        settings: settings.clone(),
        cpus: cpus(settings, cores),
        failure: Mutex::new(None),
        all_built: Barrier::new(cores + 1),
        all_made: Barrier::new(cores),
        all_gone: Barrier::new(cores),
    });
    let mut threads = Vec::new();
    for (core, (mesh, listeners)) in
        mesh::build(cores, settings.mesh_batches).into_iter().zip(listeners.by_core).enumerate()
    {
        let (start, node) = (Arc::clone(&start), Arc::clone(&node));
        let thread = thread::Builder::new()
            .name(format!("tutti-{core}"))
            .spawn(move || run_core(core, &start, node, mesh, listeners))
            .map_err(io)?;
        threads.push(thread);
    }
    start.all_built.wait();
    if let Some(error) = start.take_failure() {
        return Err(error);
    }
    Ok(Running { node, threads, addresses: listeners.addresses })
}

/// What the threads need while they start and end.
struct Start<F> {
    make_core: F,
    resolver: Resolver,
    settings: Settings,
    /// By core: where to pin it, if at all.
    cpus: Vec<Option<core_affinity::CoreId>>,
    failure: Mutex<Option<String>>,
    all_built: Barrier,
    all_made: Barrier,
    all_gone: Barrier,
}

impl<F> Start<F> {
    fn fail(&self, error: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn take_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// With more threads than CPUs none is pinned: the scheduler shares better than we could.
fn cpus(settings: &Settings, cores: usize) -> Vec<Option<core_affinity::CoreId>> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let pins = settings.pin_threads && cores <= allowed.len();
    (0..cores).map(|core| if pins { Some(allowed[core]) } else { None }).collect()
}

fn run_core<C, F>(core: usize, start: &Start<F>, node: Arc<Node>, mesh: Mesh<C::Batch>, listeners: Vec<Listener>)
where
    C: Core + 'static,
    F: Fn(CoreSeat) -> C,
{
    signals::block_here();
    // Before anything is allocated, so that memory is local to the CPU.
    if let Some(cpu) = start.cpus[core]
        && !core_affinity::set_for_current(cpu)
    {
        tracing::warn!("could not pin core {core} to CPU {}", cpu.id);
    }
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(EXECUTOR_MEMORY_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(NEVER)
        .make();
    let built = match (executor, Net::new(listeners, start.settings.receive_buffers)) {
        (Ok(executor), Ok(net)) => Some((executor, net)),
        (Err(GlommioError::IoError(error)), _) | (_, Err(error)) => {
            start.fail(explain_start(core, node.rings.len(), &error));
            None
        }
        (Err(error), _) => {
            start.fail(format!("could not start core {core}: {error}"));
            None
        }
    };
    if let Some((_, net)) = &built {
        node.rings[core].store(net.ring.descriptor(), Ordering::Relaxed);
    }
    // Everyone's doorbell target is known after this, and so is everyone's failure.
    start.all_built.wait();
    let Some((executor, net)) = built.filter(|_| start.take_failure().is_none()) else { return };

    let settings = &start.settings;
    let mailbox = Arc::clone(&node.mailboxes[core]);
    let dials =
        Dials::new(start.resolver.clone(), Arc::clone(&mailbox), settings.dial_source, settings.tcp_keepalive_s);
    let shards = node.rings.len() as u16;
    let seat = CoreSeat { shard: ShardId(core as u16), shards, clients_max: settings.clients_max };
    let core = (start.make_core)(seat);
    // What is ready within a moment is ready for the first client.
    start.all_made.wait();
    let pump = Pump::new(Parts { core, net, mesh, dials, node, mailbox });
    let net = executor.run(pump.run());
    // A doorbell must not find somebody else's descriptor under this ring's number.
    start.all_gone.wait();
    drop(net);
}
