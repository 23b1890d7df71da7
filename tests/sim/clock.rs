//! The wall clock of one node: skewed, drifting, and moved by hand.

/// Unix milliseconds when a run begins.
const BEGIN_MS: i64 = 1_770_000_000_000;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// What it is ahead of true time, microseconds, at `since_us`.
    ahead_us: i64,
    /// What it gains on true time, parts per million.
    drift_ppm: i64,
    since_us: u64,
    /// The most it was ahead when somebody set it, microseconds.
    most_ahead_us: i64,
}

impl Clock {
    pub fn new(skew_ms: i64, drift_ppm: i64) -> Self {
        Self { ahead_us: skew_ms * 1000, drift_ppm, since_us: 0, most_ahead_us: 0 }
    }

    /// What it is ahead of true time, microseconds.
    pub fn ahead_us(&self, now_us: u64) -> i64 {
        self.ahead_us + (now_us - self.since_us) as i64 * self.drift_ppm / 1_000_000
    }

    pub fn wall_ms(&self, now_us: u64) -> u64 {
        (BEGIN_MS + (now_us as i64 + self.ahead_us(now_us)) / 1000) as u64
    }

    /// Somebody sets it.
    pub fn jump(&mut self, by_ms: i64, now_us: u64) {
        self.most_ahead_us = self.most_ahead_us(now_us);
        self.ahead_us = self.ahead_us(now_us) + by_ms * 1000;
        self.since_us = now_us;
    }

    /// The most it was ever ahead: stamps and deadlines may be.
    pub fn most_ahead_us(&self, now_us: u64) -> i64 {
        self.most_ahead_us.max(self.ahead_us(now_us))
    }

    /// Somebody sets it right, so far ahead of true time, for good.
    pub fn set_right(&mut self, ahead_us: i64, now_us: u64) {
        *self = Self { ahead_us, drift_ppm: 0, since_us: now_us, most_ahead_us: ahead_us };
    }
}
