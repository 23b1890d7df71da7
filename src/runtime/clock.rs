//! The only clock of the server. A pump reads it once per round and hands the reading down as an argument.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::base::time::Now;

/// What `mono_us` counts from: one instant for all cores, so that readings can be compared across them.
static PROCESS_START: OnceLock<Instant> = OnceLock::new();

/// Reads both clocks. Neither reading enters the kernel (vDSO): about 50 ns together.
pub fn now() -> Now {
    let start = *PROCESS_START.get_or_init(Instant::now);
    // A wall clock before 1970 reads as 1970: stamps and deadlines are unsigned.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { wall_ms: wall.as_millis() as u64, mono_us: start.elapsed().as_micros() as u64 }
}

/// `Now::mono_us` alone, for how long things take.
pub fn mono_us() -> u64 {
    PROCESS_START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_reading_never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next.mono_us >= last.mono_us);
            last = next;
        }
        assert!(last.wall_ms > 1_600_000_000_000, "wall clock reads {}", last.wall_ms);
    }
}
