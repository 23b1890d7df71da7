//! Counters that tie a test to the path it is there for. Compiled away outside tests.

#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};

/// A path that is hard to reach and therefore easy to miss.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mark {
    /// A receive found no buffer.
    OutOfBuffers,
    /// A `send_now` was cut short.
    ShortSend,
    /// A `send_now` found no room at all.
    NoRoom,
    /// A received completion was kept because the mesh was full.
    Held,
    /// The pump slept inside glommio.
    SleptInGlommio,
}

#[cfg(test)]
static COUNTS: [AtomicUsize; 5] = [const { AtomicUsize::new(0) }; 5];

/// Counts one passage.
#[inline]
pub(crate) fn hit(mark: Mark) {
    #[cfg(test)]
    COUNTS[mark as usize].fetch_add(1, Ordering::Relaxed);
    #[cfg(not(test))]
    let _ = mark;
}

/// How often the path was taken by any test of this process so far.
#[cfg(test)]
pub(crate) fn count(mark: Mark) -> usize {
    COUNTS[mark as usize].load(Ordering::Relaxed)
}
