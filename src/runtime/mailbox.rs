//! What threads without a ring (signals, resolver) leave for a core, and how they wake it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// One core's mailbox. Every call may come from any thread.
pub(crate) struct Mailbox {
    /// Watched by the core's ring.
    eventfd: OwnedFd,
    /// The node was asked to stop.
    stop: AtomicBool,
    /// All cores are done: leave.
    leave: AtomicBool,
    resolved: Mutex<Vec<Resolved>>,
    /// Ends of CONFIG REWRITE.
    rewritten: Mutex<Vec<Result<(), String>>>,
}

/// The end of a name look-up.
pub(crate) struct Resolved {
    /// The dial that asked.
    pub(crate) dial: u64,
    pub(crate) result: Result<Vec<SocketAddr>, String>,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            eventfd: new_eventfd()?,
            stop: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            resolved: Mutex::new(Vec::new()),
            rewritten: Mutex::new(Vec::new()),
        })
    }

    /// For the core's ring to watch.
    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(crate) fn tell_to_leave(&self) {
        self.leave.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_told_to_leave(&self) -> bool {
        self.leave.load(Ordering::Acquire)
    }

    pub(crate) fn put_resolved(&self, resolved: Resolved) {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).push(resolved);
        self.wake();
    }

    pub(crate) fn take_resolved(&self) -> Vec<Resolved> {
        std::mem::take(&mut *self.resolved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn put_rewritten(&self, result: Result<(), String>) {
        self.rewritten.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        self.wake();
    }

    pub(crate) fn take_rewritten(&self) -> Vec<Result<(), String>> {
        std::mem::take(&mut *self.rewritten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self) {
        signal(self.eventfd());
    }
}

/// An eventfd that blocking reads may wait for.
pub(crate) fn new_eventfd() -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; a descriptor it answers is new and ours.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Adds one to an eventfd.
pub(crate) fn signal(eventfd: BorrowedFd<'_>) {
    let one = 1u64;
    // SAFETY: the kernel reads the eight bytes of `one`. It can only block after 2^64 - 2 unread signals.
    let written = unsafe { libc::write(eventfd.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    debug_assert_eq!(written, 8, "signalling an eventfd: {}", io::Error::last_os_error());
}
