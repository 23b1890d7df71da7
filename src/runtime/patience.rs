//! How many completions to wait for. Under dense traffic a short wait for several costs less than a sleep and a
//! wake-up for each few; under thin traffic it would only add latency.
//!
//! Measured (50 connections without pipelining, server and loader on busy CPUs, several rows): waiting for any
//! completion serves about 5 requests per sleep, at 11.0 to 16.6 us of CPU each; with this 10 to 15 per sleep, at
//! 6.9 to 10.2 us and 5 to 25 % more throughput. Of 50, 100 and 150 us of patience, with CPU per request against
//! redis-server's in the same run: HSET 0.70, 0.66, 0.66; INCR 0.78, 0.73, 0.73; throughput alike.
//!
//! The rule: half as many again as rounds bring on average, but never more than one of the last rounds did bring, so
//! that the aim can be reached; only when the average says that traffic is dense; and only while the processor is
//! loaded but not full.
//!
//! A processor with time to spare answers at once: at 40,000 requests a second, a third of what it can do, patience
//! had made the median latency 160 us where redis-server has 32. On a full one completions pile up while it works, and
//! waiting for more only takes time from both sides: with a loader that costs less than the server, 128,000 requests a
//! second with patience and 152,000 without, at the same CPU each.

use std::ops::RangeInclusive;

/// The longest extra wait, and so the most latency this adds.
pub(crate) const PATIENCE_US: u32 = 100;

/// Rounds that bring fewer completions on average wait for any: a handful of clients never pays.
const DENSE: u32 = 5;

/// Shares of the processor, in per cent, between which there is patience. It spares about a third, so it ends well
/// below where it begins, and as what it spares is missing in the share, it begins again well below where it ends.
const LOADED: RangeInclusive<u64> = 55..=75;
const STILL_LOADED: RangeInclusive<u64> = 40..=75;

/// How often the share is measured, microseconds.
const MEASURED_EVERY_US: u64 = 10_000;

/// Averages are kept in sixteenths and move by an eighth of the difference.
const UNIT: u32 = 16;
const INERTIA: u32 = 8;

/// What recent rounds brought.
#[derive(Default)]
pub(crate) struct Patience {
    average: u32,
    /// The most a round brought, fading slowly.
    most: u32,
    /// The processor is loaded, but not full.
    is_loaded: bool,
    /// When that was last looked at, and what the thread had taken of the processor by then, microseconds.
    measured: (u64, u64),
}

impl Patience {
    /// How many completions the next wait is for; 1: any.
    pub(crate) fn wanted(&self) -> u32 {
        if !self.is_loaded || self.average < DENSE * UNIT {
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

    /// Looks at the processor time taken, which `cpu_us` reads, once in a while.
    pub(crate) fn measure(&mut self, mono_us: u64, cpu_us: impl FnOnce() -> u64) {
        let (since_us, taken_us) = self.measured;
        let passed_us = mono_us.saturating_sub(since_us);
        if passed_us < MEASURED_EVERY_US {
            return;
        }
        let cpu_us = cpu_us();
        let share = cpu_us.saturating_sub(taken_us) * 100 / passed_us;
        self.is_loaded = if self.is_loaded { STILL_LOADED } else { LOADED }.contains(&share);
        self.measured = (mono_us, cpu_us);
    }

    /// Something else than our own sockets sets the pace: wait for any completion until traffic is dense again.
    pub(crate) fn forget(&mut self) {
        (self.average, self.most) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded() -> Patience {
        Patience { is_loaded: true, ..Patience::default() }
    }

    #[test]
    fn only_a_loaded_processor_that_is_not_full_waits() {
        let mut patience = Patience::default();
        let (mut mono_us, mut cpu_us) = (0, 0);
        let mut work = |patience: &mut Patience, share: u64| {
            mono_us += MEASURED_EVERY_US;
            cpu_us += MEASURED_EVERY_US * share / 100;
            patience.measure(mono_us, || cpu_us);
            patience.learn(20);
            patience.wanted() > 1
        };
        let shares =
            [(0, false), (50, false), (65, true), (50, true), (42, true), (35, false), (50, false), (75, true)];
        for (share, waits) in shares.into_iter().chain([(80, false), (95, false), (70, true)]) {
            assert_eq!(work(&mut patience, share), waits, "after {share} %");
        }
    }

    #[test]
    fn few_clients_never_wait_for_others() {
        let mut patience = loaded();
        for round in 0..1000 {
            patience.learn(1 + round % 5);
            assert_eq!(patience.wanted(), 1);
        }
    }

    #[test]
    fn dense_rounds_raise_the_aim_but_not_above_what_can_come() {
        let mut patience = loaded();
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
