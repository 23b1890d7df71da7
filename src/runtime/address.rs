//! Socket addresses as the kernel, `CLIENT LIST` and protected mode want them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::{io, mem};

use crate::worker::port::Endpoint;

/// A socket address in the kernel's layout.
pub(crate) struct RawAddress {
    storage: libc::sockaddr_storage,
    pub(crate) len: libc::socklen_t,
}

impl RawAddress {
    pub(crate) fn new(address: SocketAddr) -> Self {
        // SAFETY: all-zero bytes are a valid `sockaddr_storage` (an unspecified family).
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let len = match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: `sockaddr_storage` is at least as large and as aligned as every socket address.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
                size_of::<libc::sockaddr_in>()
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
                size_of::<libc::sockaddr_in6>()
            }
        };
        Self { storage, len: len as libc::socklen_t }
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    /// The internet address, if it is one.
    fn parse(&self) -> Option<SocketAddr> {
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says that this is what the storage holds.
                let raw = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let raw = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id)))
            }
            _ => None,
        }
    }
}

/// Opens a stream socket of the address's family.
pub(crate) fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    open_socket(family)
}

/// Opens a stream socket.
pub(crate) fn open_socket(family: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; a descriptor it answers is new and ours.
    unsafe {
        let fd = libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Sets an integer option.
pub(crate) fn set_option(socket: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`, which lives through the call.
    let result = unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// No delay, and probes after `keepalive_s` of silence (0: none). On a listener: for all it will accept.
pub(crate) fn tune(socket: RawFd, keepalive_s: u32) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if keepalive_s > 0 {
        // As Redis: probe after the interval, then at a third of it, and give up after three.
        let seconds = keepalive_s.min(i16::MAX as u32) as i32;
        set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds)?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, (seconds / 3).max(1))?;
        set_option(socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3)?;
    }
    Ok(())
}

/// The local internet address of a socket.
pub(crate) fn local_address(socket: RawFd) -> Option<SocketAddr> {
    query(socket, libc::getsockname)
}

/// Describes both ends of an internet connection.
pub(crate) fn tcp_endpoint(socket: RawFd) -> Endpoint {
    let remote = query(socket, libc::getpeername);
    Endpoint {
        remote: text(remote),
        local: text(local_address(socket)),
        is_local: remote.is_some_and(|remote| remote.ip().to_canonical().is_loopback()),
        fd: socket,
    }
}

/// Describes a connection through a Unix socket: such clients have no name, so both ends show the path.
pub(crate) fn unix_endpoint(socket: RawFd, path: &str) -> Endpoint {
    Endpoint { remote: format!("{path}:0"), local: format!("{path}:0"), is_local: true, fd: socket }
}

/// `ip:port` as Redis prints it; an IPv4 address mapped into IPv6 shows as what it is.
fn text(address: Option<SocketAddr>) -> String {
    // Redis prints this when the peer is gone before it could be asked.
    address.map_or_else(|| "?:0".into(), |address| canonical(address).to_string())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

type NameCall = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn query(socket: RawFd, call: NameCall) -> Option<SocketAddr> {
    // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
    let mut raw = RawAddress { storage: unsafe { mem::zeroed() }, len: 0 };
    raw.len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of the storage.
    let result = unsafe { call(socket, (&raw mut raw.storage).cast(), &raw mut raw.len) };
    if result < 0 { None } else { raw.parse() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_address_round_trips_and_mapped_addresses_show_as_ipv4() {
        for address in ["127.0.0.1:6379", "[::1]:6379", "[fe80::1]:1"] {
            let address: SocketAddr = address.parse().expect("a literal");
            assert_eq!(RawAddress::new(address).parse(), Some(address));
        }
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:7000".parse().expect("a literal");
        assert_eq!(text(Some(mapped)), "10.0.0.1:7000");
    }
}
