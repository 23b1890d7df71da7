//! Counting and timing: error codes, commands per second, how long commands take, the slow log's entries.

use std::collections::{BTreeMap, VecDeque};

use super::super::Worker;
use super::super::control::{CoreStats, SlowEntry};
use super::super::session::Session;
use crate::base::time::Now;
use crate::command::spec::{FAST, Spec};
use crate::resp::parse::Argv;

/// One in this many of the quickest commands is timed: two looks at the clock cost as much as a GET does.
const SAMPLE: u64 = 16;

/// More error codes than this are not told apart: a script could make up any number.
const CODES_MAX: usize = 128;

/// Redis' bounds of an entry of the slow log.
const SLOW_ARGS_MAX: usize = 32;
const SLOW_ARG_BYTES_MAX: usize = 128;

/// Rates are means over this many ticks of 100 ms.
const TICKS: usize = 16;

/// What one core has seen beside its counters.
#[derive(Default)]
pub struct Observed {
    /// Error replies by code word.
    pub errors_by_code: BTreeMap<String, u64>,
    /// Slow commands, newest first.
    pub slow: VecDeque<SlowEntry>,
    slow_count: u64,
    sampled: u64,
    last_tick_us: u64,
    last_totals: [u64; 5],
    samples: VecDeque<[u64; 5]>,
    slot: usize,
}

impl Observed {
    /// CONFIG RESETSTAT. The slow log has its own reset.
    pub fn reset(&mut self) {
        self.errors_by_code.clear();
        self.samples.clear();
        self.last_totals = [0; 5];
    }

    /// Commands, bytes in, bytes out, link bytes in and out: per second, of late.
    pub fn rates(&self) -> [u64; 5] {
        let mut sums = [0u64; 5];
        for sample in &self.samples {
            (0..5).for_each(|at| sums[at] += sample[at]);
        }
        sums.map(|sum| sum / self.samples.len().max(1) as u64)
    }

    /// Time has passed; answers how much, microseconds.
    pub(super) fn tick(&mut self, now: Now, stats: &CoreStats) -> u64 {
        let elapsed_us = now.mono_us.saturating_sub(self.last_tick_us);
        // Timers make ticks come early; a sample wants its time.
        if elapsed_us < 90_000 {
            return 0;
        }
        self.last_tick_us = now.mono_us;
        let totals = [stats.commands, stats.net_in, stats.net_out, stats.repl_in, stats.repl_out];
        let mut rates = [0; 5];
        for (at, rate) in rates.iter_mut().enumerate() {
            *rate = totals[at].saturating_sub(self.last_totals[at]).saturating_mul(1_000_000) / elapsed_us;
        }
        self.last_totals = totals;
        self.samples.push_back(rates);
        if self.samples.len() > TICKS {
            self.samples.pop_front();
        }
        elapsed_us
    }

    /// Goes round all slots.
    pub(super) fn next_slot(&mut self, slots: usize) -> usize {
        self.slot = (self.slot + 1) % slots.max(1);
        self.slot
    }

    /// Forgets all but the newest so many slow commands.
    pub(super) fn keep_slow(&mut self, most: usize) {
        self.slow.truncate(most);
    }
}

impl Worker {
    /// Counts an error reply; `text` begins with its code word.
    #[cold]
    pub(in super::super) fn count_error(&mut self, text: &str) {
        self.stats.errors += 1;
        let code = text.split(' ').next().unwrap_or_default();
        let codes = &mut self.observed.errors_by_code;
        if let Some(count) = codes.get_mut(code) {
            *count += 1;
        } else if codes.len() < CODES_MAX {
            codes.insert(code.into(), 1);
        }
    }

    /// The time a command begins at, if this one is timed.
    #[inline]
    pub(in super::super) fn begin_measuring(&mut self, spec: &Spec) -> Option<u64> {
        self.observed.sampled += 1;
        (self.observed.sampled.is_multiple_of(SAMPLE) || !is_quick(spec)).then(self.stopwatch)
    }

    /// A timed command has run.
    #[expect(clippy::too_many_arguments, reason = "what an entry of the slow log says")]
    pub(in super::super) fn end_measuring(
        &mut self,
        index: usize,
        spec: &Spec,
        started_us: u64,
        session: Option<&Session>,
        argv: &Argv,
        buf: &[u8],
        now: Now,
    ) {
        let us = (self.stopwatch)().saturating_sub(started_us);
        self.command_stats[index].us += if is_quick(spec) { us * SAMPLE } else { us };
        let limit_us = self.config.slowlog_log_slower_than;
        if limit_us >= 0 && us >= limit_us as u64 && self.config.slowlog_max_len > 0 {
            self.log_slow(us, spec, session, argv, buf, now);
        }
    }

    // Without a session the client is on another core.
    #[cold]
    fn log_slow(
        &mut self,
        duration_us: u64,
        spec: &Spec,
        session: Option<&Session>,
        argv: &Argv,
        buf: &[u8],
        now: Now,
    ) {
        let is_secret = matches!(spec.name, "auth" | "hello" | "config|set");
        let shown = |(at, arg): (usize, &[u8])| match arg.len().checked_sub(SLOW_ARG_BYTES_MAX) {
            _ if is_secret && at > 0 => b"(redacted)".to_vec(),
            Some(more) if more > 0 => {
                let mut arg = arg[..SLOW_ARG_BYTES_MAX].to_vec();
                arg.extend_from_slice(format!("... ({more} more bytes)").as_bytes());
                arg
            }
            _ => arg.to_vec(),
        };
        let most = if argv.len() > SLOW_ARGS_MAX { SLOW_ARGS_MAX - 1 } else { argv.len() };
        let mut args: Vec<Vec<u8>> = argv.iter(buf).take(most).enumerate().map(shown).collect();
        if argv.len() > most {
            args.push(format!("... ({} more arguments)", argv.len() - most).into_bytes());
        }
        let id = self.observed.slow_count * self.cores() as u64 + u64::from(self.id.0);
        self.observed.slow_count += 1;
        self.observed.slow.push_front(SlowEntry {
            id,
            at_s: now.wall_ms / 1000,
            duration_us,
            args,
            addr: session.map_or_else(String::new, |session| session.endpoint.remote.clone()),
            name: session.map_or_else(String::new, |session| session.name.clone()),
        });
        self.observed.keep_slow(self.config.slowlog_max_len as usize);
    }
}

// Constant time on one key: worth a sample only. SET is as quick, though Redis does not call it so.
fn is_quick(spec: &Spec) -> bool {
    spec.flags.has(FAST) || spec.name == "set"
}
