//! Listening sockets: made before the cores start, so that a port in use ends the program with one line.
//!
//! Every core has its own socket on every address (`SO_REUSEPORT`): the kernel spreads connections, and no core ever
//! hands an accepted one to another. What is set on a listener (no delay, keepalive) is inherited by what it accepts.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::address::{RawAddress, local_address, set_option, stream_socket, tcp_endpoint, tune, unix_endpoint};
use super::settings::{Port, Settings};
use crate::worker::port::Endpoint;

/// How often a port that is taken is asked for again, and how long between.
const PORT_TRIES: u32 = 50;
const PORT_PAUSE: Duration = Duration::from_millis(40);

/// One listening socket of one core.
pub(crate) struct Listener {
    pub(crate) socket: OwnedFd,
    /// The path of a Unix socket; none for TCP.
    path: Option<String>,
    /// The multishot accept is in flight.
    pub(crate) is_armed: bool,
    /// After a failed accept: not before this time.
    pub(crate) retry_at_us: u64,
}

/// All listeners of a node.
pub(crate) struct Listeners {
    /// By core.
    pub(crate) by_core: Vec<Vec<Listener>>,
    /// The shared TCP addresses that were bound, for logs and tests.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Listener {
    fn new(socket: OwnedFd, path: Option<String>) -> Self {
        Self { socket, path, is_armed: false, retry_at_us: 0 }
    }

    /// Describes a connection accepted here.
    pub(crate) fn endpoint(&self, socket: i32) -> Endpoint {
        match &self.path {
            Some(path) => unix_endpoint(socket, path),
            None => tcp_endpoint(socket),
        }
    }
}

impl Listener {
    /// Removes the file of a Unix socket, as Redis does when it stops.
    pub(crate) fn remove_path(&self) {
        if let Some(path) = &self.path {
            // Somebody else may have removed it already; there is nothing to do about other errors at this point.
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds everything `settings` asks for, for `cores` cores. The error is one line for the operator.
pub(crate) fn bind_all(settings: &Settings, cores: usize) -> Result<Listeners, String> {
    let mut listeners = Listeners { by_core: (0..cores).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    let wanted = match settings.port {
        Port::None => None,
        Port::Any => Some(0),
        Port::Number(port) => Some(port),
    };
    if let Some(port) = wanted {
        bind_shared(settings, port, &mut listeners)?;
    }
    for (core, &port) in settings.core_ports.iter().enumerate().take(cores).filter(|(_, port)| **port != 0) {
        for host in &settings.bind {
            for address in resolve(host, port)? {
                let bound = is_free(address).and_then(|()| listen(address, settings));
                match bound {
                    Ok(socket) => listeners.by_core[core].push(Listener::new(socket, None)),
                    Err(error) if may_skip(host, &error) => {}
                    Err(error) => return Err(format!("could not listen on {address} for core {core}: {error}")),
                }
            }
        }
    }
    if let Some(path) = &settings.unix_socket {
        let socket = listen_unix(path, settings)
            .map_err(|error| format!("could not listen on Unix socket {}: {error}", path.display()))?;
        listeners.by_core[0].push(Listener::new(socket, Some(path.display().to_string())));
    }
    Ok(listeners)
}

fn bind_shared(settings: &Settings, port: u16, listeners: &mut Listeners) -> Result<(), String> {
    let mut port = port;
    for host in &settings.bind {
        for address in resolve(host, port)? {
            match bind_on_every_core(address, settings, listeners) {
                // Port 0: all further addresses share the number that the first one got.
                Ok(bound) => {
                    listeners.addresses.push(bound);
                    port = bound.port();
                }
                Err(error) if may_skip(host, &error) => {}
                Err(error) => return Err(format!("could not listen on {address}: {error}")),
            }
        }
    }
    if listeners.addresses.is_empty() {
        return Err(format!("could not listen on any of: {}", settings.bind.join(" ")));
    }
    Ok(())
}

fn bind_on_every_core(address: SocketAddr, settings: &Settings, listeners: &mut Listeners) -> io::Result<SocketAddr> {
    if address.port() != 0 {
        is_free(address)?;
    }
    let first = listen(address, settings)?;
    let bound = local_address(first.as_raw_fd()).ok_or_else(|| io::Error::other("socket has no address"))?;
    let mut sockets = vec![first];
    for _ in 1..listeners.by_core.len() {
        sockets.push(listen(bound, settings)?);
    }
    for (core, socket) in listeners.by_core.iter_mut().zip(sockets) {
        core.push(Listener::new(socket, None));
    }
    Ok(bound)
}

/// `SO_REUSEPORT` would let a second server join a port silently and steal half of its clients. A bind without it
/// fails when anyone listens there. Asked again for a while: the kernel takes the rings of a killed process apart after
/// its end, and until then its sockets stand.
fn is_free(address: SocketAddr) -> io::Result<()> {
    for _ in 0..PORT_TRIES {
        match try_to_listen(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::sleep(PORT_PAUSE),
            result => return result,
        }
    }
    try_to_listen(address)
}

fn try_to_listen(address: SocketAddr) -> io::Result<()> {
    let socket = stream_socket(address)?;
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    bind(&socket, address)?;
    start_listening(&socket, 1)
}

fn listen(address: SocketAddr, settings: &Settings) -> io::Result<OwnedFd> {
    let socket = stream_socket(address)?;
    let fd = socket.as_raw_fd();
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    set_option(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    tune(fd, settings.tcp_keepalive_s)?;
    bind(&socket, address)?;
    start_listening(&socket, settings.tcp_backlog)?;
    Ok(socket)
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        // As Redis: `*` and `::` are two listeners, each for its own family.
        set_option(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    bind_socket(socket, address)
}

/// Gives a socket its local address.
pub(crate) fn bind_socket(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let raw = RawAddress::new(address);
    // SAFETY: the kernel reads `len` bytes of the address, which lives through the call.
    let result = unsafe { libc::bind(socket.as_raw_fd(), raw.as_ptr(), raw.len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn start_listening(socket: &OwnedFd, backlog: u32) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor we own.
    let result = unsafe { libc::listen(socket.as_raw_fd(), backlog.min(i32::MAX as u32) as i32) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The addresses a `bind` entry stands for: `*` is every IPv4 address and `::*` every IPv6 address, as in Redis 7.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let name = host.strip_prefix('-').unwrap_or(host);
    match name {
        "*" => Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)]),
        "::*" => Ok(vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)]),
        _ => match (name, port).to_socket_addrs() {
            Ok(addresses) => Ok(addresses.collect()),
            Err(_) if host.starts_with('-') => Ok(Vec::new()),
            Err(error) => Err(format!("could not resolve bind address {name}: {error}")),
        },
    }
}

/// Optional entries may be missing from the machine.
fn may_skip(host: &str, error: &io::Error) -> bool {
    let missing = matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ENOPROTOOPT)
    );
    missing && host.starts_with('-')
}

fn listen_unix(path: &Path, settings: &Settings) -> io::Result<OwnedFd> {
    remove_stale(path)?;
    let socket = OwnedFd::from(UnixListener::bind(path)?);
    if let Some(mode) = settings.unix_socket_mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    // The standard library listens with a backlog of its own; listening again only changes that number.
    start_listening(&socket, settings.tcp_backlog)?;
    Ok(socket)
}

/// Removes a socket file that nobody serves. Anything else in its place is left alone, and bind reports it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if is_socket && UnixStream::connect(path).is_err_and(refused) { fs::remove_file(path) } else { Ok(()) }
}
