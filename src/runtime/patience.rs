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
//! waiting for more takes time from both sides: with a loader that costs less than the server, 128,000 requests a second
//! with patience and 152,000 without, at the same CPU each. There the aim is half of the connections or less, so that
//! the other half keeps both sides busy, and only where rounds have brought as many: 2 % less CPU for 3 % fewer requests.

/// The longest extra wait, and so the most latency this adds.
pub(crate) const PATIENCE_US: u32 = 100;

/// Rounds that bring fewer completions on average wait for any: a handful of clients never pays.
const DENSE: u32 = 5;

/// Shares of the processor, in per cent, at which the load begins and ceases to count as dense, and as full. Patience
/// spares up to a third, so each ends well below where it begins.
const DENSE_FROM: u64 = 55;
const DENSE_TO: u64 = 40;
const FULL_FROM: u64 = 76;
const FULL_TO: u64 = 60;

/// What a full processor aims at, at least and at most.
const MANY: u32 = 8;
const ENOUGH: u32 = 24;

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
    load: Load,
    /// When that was last looked at, and what the thread had taken of the processor by then, microseconds.
    measured: (u64, u64),
}

/// What share of the processor is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Load {
    #[default]
    Light,
    Dense,
    Full,
}

impl Patience {
    /// How many completions the next wait is for, with so many connections; 1: any.
    pub(crate) fn wanted(&self, connections: usize) -> u32 {
        let half = (connections / 2).min(ENOUGH as usize) as u32;
        match self.load {
            Load::Dense if self.average >= DENSE * UNIT => (self.average * 3 / 2).min(self.most) / UNIT,
            Load::Full if half >= MANY && self.most >= half * UNIT => half,
            _ => 1,
        }
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
        let (full, dense) = match self.load {
            Load::Light => (FULL_FROM, DENSE_FROM),
            Load::Dense => (FULL_FROM, DENSE_TO),
            Load::Full => (FULL_TO, DENSE_TO),
        };
        self.load = match share {
            share if share >= full => Load::Full,
            share if share >= dense => Load::Dense,
            _ => Load::Light,
        };
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

    fn under(load: Load) -> Patience {
        Patience { load, ..Patience::default() }
    }

    #[test]
    fn load_begins_higher_than_it_ends() {
        let mut patience = Patience::default();
        let (mut mono_us, mut cpu_us) = (0, 0);
        let mut measure = |share: u64| {
            mono_us += MEASURED_EVERY_US;
            cpu_us += MEASURED_EVERY_US * share / 100;
            patience.measure(mono_us, || cpu_us);
            patience.load
        };
        for share in [0, 50, 54] {
            assert_eq!(measure(share), Load::Light, "after {share} %");
        }
        for share in [60, 50, 41, 75] {
            assert_eq!(measure(share), Load::Dense, "after {share} %");
        }
        for share in [80, 61, 99] {
            assert_eq!(measure(share), Load::Full, "after {share} %");
        }
        assert_eq!(measure(50), Load::Dense);
        assert_eq!(measure(39), Load::Light);
        assert_eq!(measure(80), Load::Full);
        assert_eq!(measure(10), Load::Light);
    }

    #[test]
    fn a_processor_with_time_to_spare_answers_at_once() {
        let mut patience = under(Load::Light);
        (0..100).for_each(|_| patience.learn(40));
        assert_eq!(patience.wanted(50), 1);
    }

    #[test]
    fn a_full_processor_waits_for_half_of_its_connections_if_so_many_come() {
        let mut patience = under(Load::Full);
        patience.learn(20);
        assert_eq!(patience.wanted(40), 20);
        assert_eq!(patience.wanted(41), 20);
        assert_eq!(patience.wanted(10), 1, "five are not many");
        assert_eq!(patience.wanted(1000), 1, "most of them are idle");
        patience.learn(ENOUGH);
        assert_eq!(patience.wanted(1000), ENOUGH);
        (0..1000).for_each(|_| patience.learn(15));
        assert_eq!(patience.wanted(40), 1, "it has not come to twenty of late");
    }

    #[test]
    fn few_clients_never_wait_for_others() {
        for load in [Load::Dense, Load::Full] {
            let mut patience = under(load);
            for round in 0..1000 {
                patience.learn(1 + round % 5);
                assert_eq!(patience.wanted(50), 1);
            }
        }
    }

    #[test]
    fn dense_rounds_raise_the_aim_but_not_above_what_can_come() {
        let mut patience = under(Load::Dense);
        for round in 0..100 {
            patience.learn(if round % 4 == 0 { 20 } else { 8 });
        }
        assert!((13..=18).contains(&patience.wanted(50)), "aims at {}", patience.wanted(50));
        for _ in 0..300 {
            patience.learn(8);
        }
        assert_eq!(patience.wanted(50), 8);
        patience.forget();
        assert_eq!(patience.wanted(50), 1);
    }
}
