//! The hybrid logical clock of one core: mints stamps that grow, and follows what it hears within a limit.

use super::stamp::Hlc;

/// One per core. Every stamp a core mints is above all it minted before.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// The next reading: the wall clock, but above everything minted or followed before and above `floor` (what is
    /// overwritten, collected or flushed, and the last write of the same stream). A floor beyond the wall clock plus
    /// `drift_ms_max` is obeyed but not followed: overwriting what a peer with a fast clock wrote must not make our
    /// clock fast, or we would take deadlines for passed.
    pub fn mint(&mut self, wall_ms: u64, floor: Hlc, drift_ms_max: u64) -> Hlc {
        let reading = Hlc::at_ms(wall_ms).max(self.last.next());
        let minted = reading.max(floor.next());
        let limit = Hlc::at_ms(wall_ms.saturating_add(drift_ms_max));
        self.last = reading.max(minted.min(limit));
        minted
    }

    /// Follows a reading heard from a peer, but never beyond the wall clock plus `drift_ms_max`. Returns by how many
    /// milliseconds the reading was beyond the limit (0: it was not).
    pub fn observe(&mut self, heard: Hlc, wall_ms: u64, drift_ms_max: u64) -> u64 {
        if heard <= self.last {
            return 0;
        }
        let limit = Hlc::at_ms(wall_ms.saturating_add(drift_ms_max));
        self.last = self.last.max(heard.min(limit));
        heard.wall_ms().saturating_sub(limit.wall_ms())
    }

    /// The last reading minted or followed.
    pub fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::super::stamp::EPOCH_MS;
    use super::*;

    #[test]
    fn stamps_grow_when_the_wall_clock_jumps_back() {
        let mut clock = Clock::default();
        let first = clock.mint(EPOCH_MS + 5000, Hlc::ZERO, 1000);
        assert!(clock.mint(EPOCH_MS + 10, Hlc::ZERO, 1000) > first);
    }

    #[test]
    fn a_fast_peer_drags_the_clock_only_to_the_limit() {
        let mut clock = Clock::default();
        let wall = EPOCH_MS + 1_000_000;
        assert_eq!(clock.observe(Hlc::at_ms(wall + 500), wall, 1000), 0);
        assert_eq!(clock.last(), Hlc::at_ms(wall + 500));
        assert_eq!(clock.observe(Hlc::at_ms(wall + 61_000), wall, 1000), 60_000);
        assert_eq!(clock.last(), Hlc::at_ms(wall + 1000));
        let heard = Hlc::at_ms(wall + 61_000);
        assert!(clock.mint(wall, heard, 1000) > heard);
        assert!(clock.last() <= Hlc::at_ms(wall + 1000).next());
    }
}
