//! How far the clock of the node at the other end of a connection is from ours.
//!
//! Every heartbeat says what time it was when it was sent. It arrives late by what it took on its way, so the most of
//! the last few samples is the best: a lower bound of the offset, short of it by the quickest way taken. A clock that
//! is ahead is never hidden, and one that is behind by more than a busy link's delay is not either.

/// Samples looked back on: the last so many seconds.
const SAMPLES: usize = 8;

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub struct Offset {
    samples: [i64; SAMPLES],
    count: usize,
    is_beyond: bool,
}

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is beyond the limit now.
    Beyond(i64),
    /// It is within the limit again.
    Within(i64),
}

impl Offset {
    /// A heartbeat sent at `theirs_ms` arrived at `ours_ms`, Unix milliseconds. Returns whether the offset has passed
    /// the limit either way since the last one.
    pub fn note(&mut self, theirs_ms: u64, ours_ms: u64, limit_ms: u64) -> Option<Change> {
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        self.samples[self.count % SAMPLES] = ms(theirs_ms).saturating_sub(ms(ours_ms));
        self.count += 1;
        let offset = self.ms();
        let is_beyond = offset.unsigned_abs() > limit_ms;
        // One that is late may have been delayed: it takes all samples to say so.
        if is_beyond == self.is_beyond || offset < 0 && is_beyond && self.count < SAMPLES {
            return None;
        }
        self.is_beyond = is_beyond;
        Some(if is_beyond { Change::Beyond(offset) } else { Change::Within(offset) })
    }

    /// The other clock less ours, milliseconds; 0 before the first sample.
    pub fn ms(&self) -> i64 {
        self.samples[..self.count.min(SAMPLES)].iter().copied().max().unwrap_or(0)
    }

    /// Whether it was beyond the limit when last noted.
    pub fn is_beyond(&self) -> bool {
        self.is_beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_ahead_is_told_at_once_and_told_when_it_is_right_again() {
        let mut offset = Offset::default();
        assert_eq!(offset.note(10_000, 10_020, 1000), None);
        assert_eq!(offset.ms(), -20);
        assert_eq!(offset.note(16_000, 11_010, 1000), Some(Change::Beyond(4990)));
        for second in 12..19 {
            assert_eq!(offset.note(second * 1000, second * 1000 + 5, 1000), None);
        }
        assert_eq!(offset.note(19_000, 19_005, 1000), Some(Change::Within(-5)));
        assert!(!offset.is_beyond());
    }

    #[test]
    fn a_clock_behind_is_told_once_no_delay_explains_it() {
        let mut offset = Offset::default();
        let told: Vec<_> = (0..20).filter_map(|n| offset.note(n * 1000, n * 1000 + 5000 + n % 3, 1000)).collect();
        assert_eq!(told, [Change::Beyond(-5000)]);
        // A node that was stopped for a while gets all heartbeats late, but the next ones in time.
        let mut offset = Offset::default();
        let delays = [3, 2, 5000, 4000, 3000, 2000, 1001, 7, 3, 3];
        assert!(
            delays
                .iter()
                .enumerate()
                .all(|(n, late)| offset.note(n as u64 * 1000, n as u64 * 1000 + late, 1000).is_none())
        );
    }
}
