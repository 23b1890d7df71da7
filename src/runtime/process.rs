//! What concerns the process as a whole: limits and the service manager.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::config::values::Supervised;

/// Descriptors beside clients: listeners, rings, logs, files, links (Redis reserves as many) and, per core, rings.
const RESERVED_FILES: u64 = 32;
const FILES_PER_CORE: u64 = 16;

/// Makes room for `clients_max` clients. Answers how many fit: fewer when the hard limit is in the way, which is also
/// logged.
pub fn raise_file_limit(clients_max: usize, cores: usize) -> usize {
    let beside = RESERVED_FILES + FILES_PER_CORE * cores as u64;
    let wanted = clients_max as u64 + beside;
    let Ok((soft, hard)) = limit(libc::RLIMIT_NOFILE) else { return clients_max };
    if soft >= wanted {
        return clients_max;
    }
    // Root may raise the hard limit too; others get what it allows.
    let reached = if set_limit(libc::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        wanted
    } else if set_limit(libc::RLIMIT_NOFILE, hard.min(wanted), hard).is_ok() {
        hard.min(wanted)
    } else {
        soft
    };
    let clients = reached.saturating_sub(beside).max(1) as usize;
    if clients < clients_max {
        tracing::warn!(
            "maxclients {clients_max} needs {wanted} open files but the limit is {hard}: {clients} clients fit; \
             raise it with ulimit -n {wanted} or LimitNOFILE={wanted}"
        );
    }
    clients.min(clients_max)
}

/// No huge pages for this process from now on: the kernel clears them when they are first touched, and a step of a
/// growing table then takes tens of milliseconds instead of at most 156 us (measured at 10 million keys).
pub(crate) fn disable_huge_pages() {
    // SAFETY: a plain system call without pointers.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } != 0 {
        tracing::warn!("disable-thp: the kernel refused: {}", io::Error::last_os_error());
    }
}

/// Raises the soft limit of locked memory to the hard one. Answers the result in bytes.
pub(crate) fn raise_memlock_limit() -> io::Result<u64> {
    let (soft, hard) = limit(libc::RLIMIT_MEMLOCK)?;
    if soft < hard && set_limit(libc::RLIMIT_MEMLOCK, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

/// Tells the supervisor that the node serves.
pub fn say_ready(supervised: Supervised) {
    match supervised {
        Supervised::No => {}
        // What Upstart's `expect stop` waits for; who does not wait for it must not be stopped.
        Supervised::Upstart | Supervised::Auto if std::env::var_os("UPSTART_JOB").is_some() => {
            // SAFETY: a plain system call; the supervisor lets the process run on.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        Supervised::Upstart => tracing::warn!("supervised upstart, but UPSTART_JOB is not set: nobody is told"),
        Supervised::Systemd if std::env::var_os("NOTIFY_SOCKET").is_none() => {
            tracing::warn!("supervised systemd, but NOTIFY_SOCKET is not set: nobody is told");
        }
        Supervised::Systemd | Supervised::Auto => notify("STATUS=Ready to accept connections\nREADY=1"),
    }
}

/// Tells the supervisor that the end has begun.
pub fn say_stopping(supervised: Supervised) {
    if matches!(supervised, Supervised::Systemd | Supervised::Auto) {
        notify("STOPPING=1");
    }
}

fn notify(state: &str) {
    if let Err(error) = sd_notify(state) {
        tracing::warn!("could not tell systemd {state}: {error}");
    }
}

// Without NOTIFY_SOCKET: nothing.
fn sd_notify(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let path = path.into_encoded_bytes();
    let address = match path.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(std::path::Path::new(
            std::str::from_utf8(&path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        ))?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

type Resource = libc::__rlimit_resource_t;

fn limit(resource: Resource) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to `limit` only.
    let result = unsafe { libc::getrlimit(resource, &raw mut limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((limit.rlim_cur, limit.rlim_max)) }
}

fn set_limit(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads `limit` only.
    let result = unsafe { libc::setrlimit(resource, &raw const limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_limit_that_suffices_is_left_alone() {
        assert_eq!(raise_file_limit(1, 1), 1);
    }
}
