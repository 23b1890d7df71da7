//! What the runtime needs to know before it starts; `main` fills it from the configuration.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::values::Supervised;

/// Everything about threads and listeners. `Default` listens nowhere and uses every allowed core.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many cores, each with its own thread. None: as many as the affinity mask and the CPU quota allow.
    pub threads: Option<usize>,
    /// Pin each thread to a CPU of its own (ignored when there are more threads than CPUs).
    pub pin_threads: bool,
    /// Addresses to listen on as the `bind` directive takes them: names or addresses, `*`, `-` in front: optional.
    pub bind: Vec<String>,
    /// Where TCP clients connect.
    pub port: Port,
    /// A port of its own for each core, by core; missing or 0: none. Lets cluster clients reach the owner directly.
    pub core_ports: Vec<u16>,
    /// Length of each listener's queue of connections not yet accepted.
    pub tcp_backlog: u32,
    /// Seconds of silence before the kernel probes a TCP peer; 0: never.
    pub tcp_keepalive_s: u32,
    /// Unix socket to listen on, served by core 0.
    pub unix_socket: Option<PathBuf>,
    /// Mode bits of the Unix socket; None: as the umask has it.
    pub unix_socket_mode: Option<u32>,
    /// Local address of outgoing connections; None: the kernel chooses.
    pub dial_source: Option<IpAddr>,
    /// Who is told that the node is ready.
    pub supervised: Supervised,
    /// Ask the kernel for no huge pages.
    pub disable_thp: bool,
    /// How many clients the core will let in; the limit of open files is raised to fit.
    pub clients_max: usize,
    /// Batches one ring of the mesh holds.
    pub mesh_batches: usize,
    /// Receive buffers of 16 KiB per core; a power of two.
    pub receive_buffers: u16,
}

/// The TCP port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// No TCP (Redis: `port 0`).
    None,
    /// One the kernel picks; ask [`super::Running::addresses`] which. For tests.
    Any,
    /// This one.
    Number(u16),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: None,
            pin_threads: true,
            bind: vec!["127.0.0.1".into(), "-::1".into()],
            port: Port::None,
            core_ports: Vec::new(),
            tcp_backlog: 511,
            tcp_keepalive_s: 300,
            unix_socket: None,
            unix_socket_mode: None,
            dial_source: None,
            supervised: Supervised::No,
            disable_thp: false,
            clients_max: 10_000,
            mesh_batches: super::mesh::RING_BATCHES,
            receive_buffers: super::buffers::BUFFER_COUNT,
        }
    }
}
