//! SIGTERM and SIGINT: the first asks the node to stop, the second ends the process at once.
//!
//! The handler only counts and writes to an eventfd. Core threads block both signals, so a signal never interrupts
//! a ring; some other thread takes it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use super::mailbox::new_eventfd;

static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The first of them.
static FIRST: AtomicI32 = AtomicI32::new(0);

/// Where the handler writes. Never closed once set: a late signal may still use it.
static WAKE: AtomicI32 = AtomicI32::new(-1);

const STOPPING: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// Takes the two signals over for this process, and ignores SIGHUP as Redis does.
pub(crate) fn install() -> io::Result<()> {
    if WAKE.load(Ordering::Acquire) < 0 {
        WAKE.store(new_eventfd()?.into_raw_fd(), Ordering::Release);
    }
    let handler: extern "C" fn(libc::c_int) = handle;
    set_handler(libc::SIGHUP, libc::SIG_IGN)?;
    STOPPING.iter().try_for_each(|&signal| set_handler(signal, handler as libc::sighandler_t))
}

/// Keeps the two signals away from the calling thread and those it starts.
pub(crate) fn block_here() {
    // SAFETY: the set is initialised by `sigemptyset` before use; no other memory is involved.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in STOPPING {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Waits for a stopping signal or for `other` to become readable. Answers the signal's name if one came.
pub(crate) fn wait(other: BorrowedFd<'_>) -> Option<&'static str> {
    let readable = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut watched = [readable(WAKE.load(Ordering::Acquire)), readable(other.as_raw_fd())];
    loop {
        if RECEIVED.load(Ordering::Acquire) > 0 {
            let is_term = FIRST.load(Ordering::Acquire) == libc::SIGTERM;
            return Some(if is_term { "SIGTERM" } else { "SIGINT" });
        }
        // SAFETY: the kernel writes only to the two entries.
        let ready = unsafe { libc::poll(watched.as_mut_ptr(), 2, -1) };
        if ready > 0 && watched[1].revents != 0 {
            return None;
        }
    }
}

fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`; the handler only uses calls that are safe in a handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn handle(signal: libc::c_int) {
    let _ = FIRST.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Relaxed);
    if RECEIVED.fetch_add(1, Ordering::AcqRel) > 0 {
        // SAFETY: `_exit` is safe in a handler. The status is the shell's for a death by this signal.
        unsafe { libc::_exit(128 + signal) };
    }
    let one = 1u64;
    // SAFETY: `write` is safe in a handler; the descriptor is never closed, and errno is put back for whoever was
    // interrupted.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WAKE.load(Ordering::Acquire), (&raw const one).cast(), size_of::<u64>());
        *libc::__errno_location() = errno;
    }
}
