//! What a worker and the world say to each other. The runtime (or the simulator) calls a [`Core`]; a core never
//! calls out, it leaves [`Action`]s, output bytes and batches to be fetched at the end of the tick.

use std::path::PathBuf;
use std::sync::Arc;

use crate::base::ids::{ConnId, ShardId};
use crate::base::time::Now;
use crate::config::Config;

/// Everything one core decides. All calls run to completion; none blocks, sleeps or does I/O.
pub trait Core {
    /// What crosses the mesh to another core of this node: all that was found for it in one tick.
    type Batch: Send + 'static;

    /// A client connected. The low 20 bits of `conn.0` are a dense, reused slot number, good for indexing. `local` tells a Unix socket or loopback address from others (protected mode).
    fn accepted(&mut self, conn: ConnId, peer: &Endpoint, now: Now);

    /// A [`Action::Dial`] ended: connected as `conn`, or failed with a one-line reason.
    fn dialed(&mut self, dial: DialId, result: Result<(ConnId, Endpoint), String>, now: Now);

    /// Bytes that [`Core::data`] will bring soon: a look at them gets the memory they need on its way. Decides nothing
    /// and may be left out. False: enough has been seen, bring what was shown.
    fn foresee(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        let _ = (conn, bytes);
        false
    }

    /// What was shown comes now.
    fn foreseen(&mut self) {}

    /// Bytes arrived. They may be of any length and cut anywhere; the slice is only valid during the call. After a
    /// pause, what the kernel had handed over before it heard of it still comes.
    fn data(&mut self, conn: ConnId, bytes: &[u8], now: Now);

    /// The kernel took `bytes` of this connection's output (slow readers are judged by what is still unsent). For an
    /// output of up to 16 KiB that was taken whole this may be told only with the next event of any kind; whoever
    /// produces more upon `sent` keeps more than that unsent.
    fn sent(&mut self, conn: ConnId, bytes: usize, now: Now);

    /// The peer closed its sending side (`half` true: replies may still be delivered, and the core must ask for the
    /// close) or the connection is gone (`half` false: nothing more is said about it or heard of it).
    fn closed(&mut self, conn: ConnId, half: bool, now: Now);

    /// A batch from another core. Never refused: bounds are kept by the sender.
    fn receive(&mut self, from: ShardId, batch: Self::Batch, now: Now);

    /// Periodic work, called about every 100 ms and whenever [`Core::wake_at_us`] is reached. Bounded to 200 us.
    fn tick(&mut self, now: Now);

    /// Bounded background work (expiry, snapshot slices, collection). Called once per pump round while it answers
    /// true; each call takes at most 200 us.
    fn background(&mut self, now: Now) -> bool;

    /// When, on `Now::mono_us`, `tick` must be called at the latest. `u64::MAX`: no wish.
    fn wake_at_us(&self) -> u64;

    /// Moves the list of connections that have gained output since the last call into `into`.
    fn take_dirty(&mut self, into: &mut Vec<ConnId>);

    /// Swaps the connection's output with `empty` (an empty buffer whose capacity is reused).
    /// `empty` stays empty when the connection has none or is unknown.
    fn take_output(&mut self, conn: ConnId, empty: &mut Vec<u8>);

    /// The batch for `to`, if anything was found for it. Called once per tick and target while the ring to it has
    /// room; while it has none the core keeps collecting and the runtime stops reading sockets.
    fn take_batch(&mut self, to: ShardId) -> Option<Self::Batch>;

    /// Moves what the core asks of the world into `into`, in order.
    fn take_actions(&mut self, into: &mut Vec<Action>);

    /// A step on a file ended.
    fn file_event(&mut self, file: FileId, event: FileEvent, now: Now) {
        let _ = (file, event, now);
    }

    /// What the process has taken of memory and processors; told before every [`Core::tick`].
    fn measured(&mut self, measured: &Measured) {
        let _ = measured;
    }

    /// An [`Action::RewriteConfig`] ended, with a one-line reason if it failed. They end in any order.
    fn config_rewritten(&mut self, result: Result<(), String>, now: Now) {
        let _ = (result, now);
    }

    /// The node was asked to stop (signal, or another core's [`Action::Exit`]). True: the core has something to
    /// finish and asks for [`Action::Exit`] when it has; until all cores have, it keeps being called. False: nothing
    /// to finish.
    fn shutdown(&mut self, now: Now) -> bool {
        let _ = now;
        false
    }
}

/// See [`Core::measured`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    /// Bytes the allocator has given out, by all threads.
    pub used_bytes: usize,
    /// Resident set size.
    pub rss_bytes: usize,
    /// Memory of the machine.
    pub system_bytes: u64,
    /// Processor time of the process in user mode, microseconds.
    pub cpu_user_us: u64,
    /// The same in the kernel.
    pub cpu_system_us: u64,
    /// This core's part of `cpu_user_us`.
    pub thread_user_us: u64,
    /// This core's part of `cpu_system_us`.
    pub thread_system_us: u64,
}

/// Numbers a dial so that its end can be told from others'.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DialId(pub u64);

/// The two ends of a connection as text and facts a core needs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// `ip:port` (IPv6 in brackets), or the path of a Unix socket followed by `:0`, as CLIENT LIST prints `addr`.
    pub remote: String,
    /// The same for our end, as CLIENT LIST prints `laddr`.
    pub local: String,
    /// The remote end is a Unix socket or a loopback address.
    pub is_local: bool,
    /// The file descriptor, for CLIENT LIST only.
    pub fd: i32,
}

/// What a core asks of the world.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Send what is already in the output, then close. The core may forget the connection at once: after this and
    /// after [`Action::Close`] nothing is said about it from the next round on (bytes that had arrived in this round
    /// may still come; the id is never used again).
    CloseAfterFlush(ConnId),
    /// Close at once; unsent output is dropped.
    Close(ConnId),
    /// Stop delivering this connection's bytes (its kernel buffer fills and the sender feels it).
    PauseReading(ConnId),
    /// Deliver again.
    ResumeReading(ConnId),
    /// Resolve and connect beside the data path, giving up after `timeout_ms`; answered by [`Core::dialed`].
    Dial {
        /// Comes back in the answer.
        dial: DialId,
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Bound on resolving and connecting together.
        timeout_ms: u64,
    },
    /// One step on a file, done beside the data path; answered by [`Core::file_event`] once.
    File {
        /// Chosen by the core, unused until the file has ended (committed, abandoned or failed).
        file: FileId,
        /// What to do.
        step: FileStep,
    },
    /// Apply what concerns the process: log level, open files.
    Reconfigured(Arc<Config>),
    /// Put this configuration into its file (`config_file`); answered by [`Core::config_rewritten`].
    RewriteConfig(Arc<Config>),
    /// The node has its data and serves: tell the supervisor.
    Ready,
    /// This core is done: stop the process with this exit code once all cores are (the others are told to
    /// [`Core::shutdown`]) and outputs are flushed. The first code above zero wins.
    Exit(i32),
}

/// Numbers a file that a core has open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u64);

/// A step on a file. The first is one of the opening ones. A core asks for one step at a time and file and waits for
/// its end: that bounds what a slow disk piles up in memory.
#[derive(Clone, PartialEq, Debug)]
pub enum FileStep {
    /// Begin a new content for `path`. Nothing is seen there until [`FileStep::Commit`].
    Create(PathBuf),
    /// Open for reading from the start.
    Open(PathBuf),
    /// Open for appending at the end; made if missing.
    OpenToAppend(PathBuf),
    /// Write at the end. Slices of 64 to 256 KiB suit both the disk and the other work of the core.
    Append(Vec<u8>),
    /// Read up to this many bytes from where the last read ended.
    Read(usize),
    /// Make what was written survive a power cut.
    Sync,
    /// The end: synchronise; a created file takes the place of `path`, durably. Closes.
    Commit,
    /// The end: close; a created file is removed.
    Abandon,
}

/// How a step ended.
#[derive(Clone, PartialEq, Debug)]
pub enum FileEvent {
    /// Open, and so many bytes long.
    Opened(u64),
    /// Written.
    Appended,
    /// Read; empty at the end of the file.
    Read(Vec<u8>),
    /// Synchronised.
    Synced,
    /// Committed and closed.
    Committed,
    /// Closed.
    Abandoned,
    /// The step failed for this reason (one line, naming the path). The file is closed, a created one removed.
    Failed(String),
}
