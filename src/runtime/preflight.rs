//! Before anything starts: does this kernel let us do what the rings need? If not, one line says what to grant.
//!
//! Needed: Linux 6.1 (multishot accept and receive, provided-buffer rings, deferred task work, ring messages), with
//! io_uring allowed, and locked memory: see [`MEMLOCK_PER_CORE_BYTES`].

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::buffers::Buffers;
use super::process::raise_memlock_limit;
use super::ring::build_ring;

/// What one core locks: measured 170 KiB of rings (kernels before 6.14 do not count them), rounded up. glommio locks
/// up to 192 KiB more for file buffers, but only where the limit has room. All processes of a user share one limit.
pub const MEMLOCK_PER_CORE_BYTES: u64 = 256 * 1024;

/// glommio refuses to start below this, however little it needs.
const MEMLOCK_MIN_BYTES: u64 = 512 * 1024;

/// Checks everything, for `cores` cores. The error is one line for the operator.
pub fn check(cores: usize) -> Result<(), String> {
    check_memlock(cores)?;
    let ring = build_ring(8, 16).map_err(|error| explain_setup(&error))?;
    check_operations(&ring)?;
    check_buffers_and_sends(ring)
}

fn check_memlock(cores: usize) -> Result<(), String> {
    let limit = raise_memlock_limit().map_err(|error| format!("reading the limit of locked memory: {error}"))?;
    let needed = (MEMLOCK_PER_CORE_BYTES * cores as u64).max(MEMLOCK_MIN_BYTES);
    // Root (CAP_IPC_LOCK) is not charged, but glommio's own minimum holds for everyone.
    let needed = if may_lock_freely() { MEMLOCK_MIN_BYTES } else { needed };
    if limit >= needed {
        return Ok(());
    }
    Err(format!(
        "{cores} cores need {} KiB of locked memory but the limit is {} KiB: {}",
        needed / 1024,
        limit / 1024,
        grant_memlock(needed)
    ))
}

/// How to grant locked memory.
fn grant_memlock(bytes: u64) -> String {
    let kib = bytes.div_ceil(1024);
    format!("raise it with ulimit -l {kib} or LimitMEMLOCK={}K, or use fewer server-threads", kib)
}

/// CAP_IPC_LOCK, by the effective capabilities of this thread.
fn may_lock_freely() -> bool {
    const CAP_IPC_LOCK: u64 = 14;
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_some_and(|bits| bits & (1 << CAP_IPC_LOCK) != 0)
}

/// One line for a core whose rings could not be built although the check passed.
pub(crate) fn explain_start(core: usize, cores: usize, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            let needed = 2 * MEMLOCK_PER_CORE_BYTES * cores as u64;
            format!(
                "could not start core {core}: no locked memory left (other processes of this user count too): {}",
                grant_memlock(needed)
            )
        }
        _ => format!("could not start core {core}: {error}"),
    }
}

fn explain_setup(error: &io::Error) -> String {
    let reason = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring; Linux 6.1 or later is needed, built with it".into(),
        Some(libc::EINVAL) => "this kernel's io_uring is too old; Linux 6.1 or later is needed".into(),
        Some(libc::ENOMEM) => format!("not enough locked memory: {}", grant_memlock(MEMLOCK_MIN_BYTES)),
        Some(libc::EPERM | libc::EACCES) => explain_refusal(),
        _ => error.to_string(),
    };
    format!("io_uring is not usable: {reason}")
}

fn explain_refusal() -> String {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match disabled.trim() {
        "2" => "it is switched off; allow it with sysctl kernel.io_uring_disabled=0".into(),
        "1" => "it is allowed only to one group; join it (sysctl kernel.io_uring_group names it) or set sysctl \
                kernel.io_uring_disabled=0"
            .into(),
        _ => "refused, probably by a container's seccomp profile; allow io_uring_setup, io_uring_enter and \
              io_uring_register in it (docker run --security-opt seccomp=PROFILE)"
            .into(),
    }
}

fn check_operations(ring: &IoUring) -> Result<(), String> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| explain_setup(&error))?;
    let needed = [
        ("accept", opcode::AcceptMulti::CODE),
        ("receive", opcode::RecvMulti::CODE),
        ("send", opcode::Send::CODE),
        ("connect", opcode::Connect::CODE),
        ("poll", opcode::PollAdd::CODE),
        ("cancel", opcode::AsyncCancel2::CODE),
        ("close", opcode::Close::CODE),
        ("ring messages", opcode::MsgRingData::CODE),
    ];
    let params = ring.params();
    let features = [
        ("completions that are never dropped", params.is_feature_nodrop()),
        ("waits with a limit", params.is_feature_ext_arg()),
        ("silent completions", params.is_feature_skip_cqe_on_success()),
    ];
    let missing = needed
        .into_iter()
        .filter(|&(_, code)| !probe.is_supported(code))
        .map(|(name, _)| name)
        .chain(features.into_iter().filter(|&(_, present)| !present).map(|(name, _)| name));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("io_uring is not usable: this kernel lacks {}; Linux 6.1 or later is needed", missing.join(", ")))
}

/// Tries provided buffers, and what [`super::ring::SocketRing::send_now`] relies on: a send that must not wait and is
/// cut short says how much it sent; one that is not says nothing.
fn check_buffers_and_sends(mut ring: IoUring) -> Result<(), String> {
    let buffers = Buffers::register(&ring, 4, 4096).map_err(|error| explain_setup(&error))?;
    let fail = |error: io::Error| format!("io_uring is not usable: {error}");
    let (writer, _reader) = UnixStream::pair().map_err(fail)?;
    let bytes = vec![0u8; 8 << 20];
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;
    let mut results = Vec::new();
    for len in [1, bytes.len()] {
        let send = opcode::Send::new(types::Fd(writer.as_raw_fd()), bytes.as_ptr(), len as u32).flags(flags).build();
        // SAFETY: `bytes` outlives the ring, which is dropped at the end of this function, before it.
        unsafe { ring.submission().push(&send.flags(squeue::Flags::SKIP_SUCCESS)) }
            .map_err(|_| "io_uring is not usable: its queue is full from the start".to_owned())?;
        ring.submit().map_err(fail)?;
        results.extend(ring.completion().map(|entry| entry.result()));
    }
    drop(ring);
    drop(buffers);
    match results[..] {
        [short] if short > 0 && (short as usize) < bytes.len() => Ok(()),
        _ => Err(format!("io_uring is not usable: short sends are reported as {results:?}; Linux 6.1 is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes_or_is_told_why_in_one_line() {
        if let Err(reason) = check(1) {
            assert!(!reason.contains('\n'), "{reason}");
            panic!("{reason}");
        }
    }
}
