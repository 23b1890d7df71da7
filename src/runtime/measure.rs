//! What the kernel and the allocator say about the process, for INFO and `maxmemory`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::mem::count;
use crate::worker::port::Measured;

/// One core's way of asking; about three microseconds a reading.
pub(crate) struct Gauge {
    /// `None` where /proc is not mounted.
    statm: Option<File>,
    page_bytes: usize,
    system_bytes: u64,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Self {
            statm: File::open("/proc/self/statm").ok(),
            page_bytes: positive(libc::_SC_PAGESIZE).max(1) as usize,
            system_bytes: positive(libc::_SC_PHYS_PAGES) * positive(libc::_SC_PAGESIZE),
        }
    }

    pub(crate) fn read(&self) -> Measured {
        let mut measured = Measured {
            used_bytes: count::used_bytes(),
            rss_bytes: self.rss_bytes(),
            system_bytes: self.system_bytes,
            ..Measured::default()
        };
        (measured.cpu_user_us, measured.cpu_system_us) = cpu_us(libc::RUSAGE_SELF);
        (measured.thread_user_us, measured.thread_system_us) = cpu_us(libc::RUSAGE_THREAD);
        measured
    }

    fn rss_bytes(&self) -> usize {
        let mut text = [0; 128];
        let Some(read) = self.statm.as_ref().and_then(|statm| statm.read_at(&mut text, 0).ok()) else { return 0 };
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * self.page_bytes
    }
}

fn positive(name: libc::c_int) -> u64 {
    // SAFETY: takes and returns numbers only.
    u64::try_from(unsafe { libc::sysconf(name) }).unwrap_or(0)
}

fn cpu_us(who: libc::c_int) -> (u64, u64) {
    // SAFETY: a structure of numbers, for which all zeros is a value; the kernel writes to it only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::getrusage(who, &raw mut usage) };
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    (us(usage.ru_utime), us(usage.ru_stime))
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_running_process_has_memory_and_has_used_the_processor() {
        let measured = Gauge::new().read();
        assert!(measured.rss_bytes > 100_000, "{measured:?}");
        assert!(measured.system_bytes > measured.rss_bytes as u64);
        // The thread is asked after the process and has run on in between, and the kernel rounds both.
        assert!(measured.cpu_user_us + 100_000 >= measured.thread_user_us, "{measured:?}");
    }
}
