//! How many completions to wait for. Under dense traffic a short wait for several costs less than a sleep and a
//! wake-up for each few; under thin traffic it would only add latency.
//!
//! Measured (50 connections without pipelining, server and loader on busy CPUs, several rows): waiting for any
//! completion serves about 5 requests per sleep, at 11.0 to 16.6 us of CPU each; with this 10 to 15 per sleep, at
//! 6.9 to 10.2 us and 5 to 25 % more throughput. Of 50, 100 and 150 us of patience, with CPU per request against
//! redis-server's in the same run: HSET 0.70, 0.66, 0.66; INCR 0.78, 0.73, 0.73; throughput alike.
//!
//! The rule: half as many again as rounds bring on average, but never more than one of the last rounds did bring, so
//! that the aim can be reached; and only when the average says that traffic is dense.

/// The longest extra wait, and so the most latency this adds.
pub(crate) const PATIENCE_US: u32 = 100;

/// Rounds that bring fewer completions on average wait for any: a handful of clients never pays.
const DENSE: u32 = 5;

/// Averages are kept in sixteenths and move by an eighth of the difference.
const UNIT: u32 = 16;
const INERTIA: u32 = 8;

/// What recent rounds brought.
#[derive(Default)]
pub(crate) struct Patience {
    average: u32,
    /// The most a round brought, fading slowly.
    most: u32,
}

impl Patience {
    /// How many completions the next wait is for; 1: any.
    pub(crate) fn wanted(&self) -> u32 {
        if self.average < DENSE * UNIT {
            return 1;
        }
        (self.average * 3 / 2).min(self.most) / UNIT
    }

    /// A round brought `got` completions.
    pub(crate) fn learn(&mut self, got: u32) {
        let got = got * UNIT;
        self.average = (self.average * (INERTIA - 1) + got) / INERTIA;
        self.most = got.max(self.most - self.most / 64);
    }

    /// Something else than our own sockets sets the pace: wait for any completion until traffic is dense again.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_clients_never_wait_for_others() {
        let mut patience = Patience::default();
        for round in 0..1000 {
            patience.learn(1 + round % 5);
            assert_eq!(patience.wanted(), 1);
        }
    }

    #[test]
    fn dense_rounds_raise_the_aim_but_not_above_what_can_come() {
        let mut patience = Patience::default();
        for round in 0..100 {
            patience.learn(if round % 4 == 0 { 20 } else { 8 });
        }
        assert!((13..=18).contains(&patience.wanted()), "aims at {}", patience.wanted());
        for _ in 0..300 {
            patience.learn(8);
        }
        assert_eq!(patience.wanted(), 8);
        patience.forget();
        assert_eq!(patience.wanted(), 1);
    }
}
