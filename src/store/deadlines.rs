//! When keys fall due: a wheel of buckets of coarse time, to which a write appends and from which nothing is removed.
//!
//! An entry whose key has gone or has another deadline by now is stale: it is passed over when it falls due, and before
//! that whenever stale entries outnumber the others (the keyspace, which knows the keys, asks [`Deadlines::suspect`]).
//! So rewriting a deadline costs an append and about two looks, taken together with
//! those of others, and memory stays within three entries per key.
//!
//! Level 0 has 64 buckets of 64 ms, each level above buckets 64 times as wide. A bucket whose time comes is dealt to
//! the levels below it in slices; what falls due within the present 64 ms is sorted.

use std::collections::BTreeSet;

use crate::base::ids::{Db, Slot};
use crate::base::time::DeadlineMs;

/// Milliseconds of a bucket of level 0, as a power of two.
const TICK_BITS: u32 = 6;

/// Buckets per level, as a power of two: which of them hold anything is one word.
const LEVEL_BITS: u32 = 6;

const BUCKETS: usize = 1 << LEVEL_BITS;

/// Enough for every number of milliseconds there is.
const LEVELS: usize = 10;

/// Entries of one allocation: a bucket of millions grows without being moved.
const CHUNK: usize = 512;

/// So many entries are looked at together: looked up one by one, each would wait for memory.
pub const SUSPECTS: usize = 16;

/// Dealing an entry to a lower level is cheaper than looking a key up by about this much.
const DEALT_PER_LOOK: usize = 16;

/// A key that falls due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Due {
    /// When.
    pub at: DeadlineMs,
    /// The key's hash under the realm's seed.
    pub hash: u64,
    /// The key's slot.
    pub slot: Slot,
    /// Its database.
    pub db: Db,
}

/// See the file's head.
pub struct Deadlines {
    /// Everything before this tick has been given out or is in `near`.
    tick: u64,
    /// What falls due in this tick, or fell due before it.
    near: BTreeSet<Due>,
    levels: Vec<Level>,
    /// A bucket whose time has come and that is being dealt to lower levels.
    dealt: Bucket,
    /// Entries in `levels` and `dealt`.
    len: usize,
    /// Where [`Deadlines::suspect`] goes on: bucket, and how many of its entries are left.
    suspect: (usize, usize),
}

struct Level {
    /// Which buckets hold anything.
    held: u64,
    buckets: Vec<Bucket>,
}

/// A list whose last chunk alone is not full.
#[derive(Default)]
struct Bucket {
    chunks: Vec<Vec<Due>>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            tick: 0,
            near: BTreeSet::new(),
            levels: (0..LEVELS).map(|_| Level { held: 0, buckets: Vec::new() }).collect(),
            dealt: Bucket::default(),
            len: 0,
            suspect: (0, usize::MAX),
        }
    }
}

impl Deadlines {
    /// Adds an entry. The same one twice in a row is kept once.
    #[inline]
    pub fn push(&mut self, due: Due) {
        let tick = due.at >> TICK_BITS;
        if tick <= self.tick {
            self.near.insert(due);
            return;
        }
        let (level, bucket) = self.place(tick);
        let level = &mut self.levels[level];
        if level.buckets.is_empty() {
            level.buckets.resize_with(BUCKETS, Bucket::default);
        }
        level.held |= 1 << bucket;
        if level.buckets[bucket].last() != Some(&due) {
            level.buckets[bucket].push(due);
            self.len += 1;
        }
    }

    /// Takes the first entry that is due at `time_ms`, in their order but for what was added too late for it. Every call and every few entries dealt to a lower level cost
    /// one of `looks`; `None` without any left says nothing.
    pub fn pop(&mut self, time_ms: u64, looks: &mut usize) -> Option<Due> {
        let mut dealt = 0;
        loop {
            if *looks == 0 {
                return None;
            }
            // In order: what is still being dealt lies within the present tick or behind it.
            let is_first = |at| self.dealt.is_empty() || at >> TICK_BITS < self.tick;
            if self.near.first().is_some_and(|due| due.at <= time_ms && is_first(due.at)) {
                *looks -= 1;
                return self.near.pop_first();
            }
            if let Some(due) = self.dealt.pop() {
                self.len -= 1;
                self.push(due);
                dealt += 1;
                if dealt == DEALT_PER_LOOK {
                    dealt = 0;
                    *looks -= 1;
                }
                continue;
            }
            if !self.turn(time_ms >> TICK_BITS) {
                return None;
            }
            *looks -= 1;
        }
    }

    /// No entry is due before this Unix millisecond.
    pub fn first_ms(&self) -> u64 {
        let later = match (self.dealt.is_empty(), self.len) {
            (false, _) => self.tick << TICK_BITS,
            (true, 0) => u64::MAX,
            (true, _) => (self.tick + 1) << TICK_BITS,
        };
        self.near.first().map_or(later, |due| due.at.min(later))
    }

    /// How many entries there are, stale ones included.
    pub fn len(&self) -> usize {
        self.len + self.near.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that may be stale, others each time, all of them in turn; returns how many. Not of those that are about
    /// to fall due.
    pub fn suspect(&mut self, into: &mut [Due; SUSPECTS]) -> usize {
        // At most two steps per level: to it, and to its first bucket that holds anything.
        for _ in 0..2 * LEVELS + 2 {
            let (at, end) = self.suspect;
            let (level, bucket) = (at / BUCKETS, at % BUCKETS);
            let held = self.levels[level].held >> bucket;
            if held & 1 == 1 && end > 0 {
                let bucket = &self.levels[level].buckets[bucket];
                self.suspect.1 = end.min(bucket.len());
                return bucket.copy_before(self.suspect.1, into);
            }
            // The next bucket of this level that holds anything, or the next level. From its end, or we might run after
            // what is added there for ever.
            let next = (held >> 1).trailing_zeros() as usize;
            let next = if held >> 1 == 0 { (level + 1) % LEVELS * BUCKETS } else { at + 1 + next };
            self.suspect = (next, usize::MAX);
        }
        0
    }

    /// Judges the `count` entries that [`Deadlines::suspect`] has just answered: a bit for each that is stale.
    pub fn judge(&mut self, count: usize, stale: u32) {
        let (at, end) = self.suspect;
        let level = &mut self.levels[at / BUCKETS];
        let Some(bucket) = level.buckets.get_mut(at % BUCKETS) else { return };
        // From the last, so that what takes the place of one that goes is none of them.
        for nth in (0..count).rev().filter(|nth| stale >> nth & 1 == 1) {
            bucket.swap_remove(end - count + nth);
            self.len -= 1;
        }
        self.suspect.1 = end - count;
        if bucket.is_empty() {
            level.held &= !(1 << (at % BUCKETS));
        }
    }

    /// Everything there is, to be given up; nothing is left here.
    pub fn take(&mut self) -> Self {
        let empty = Self { tick: self.tick, ..Self::default() };
        std::mem::replace(self, empty)
    }

    /// Gives memory back in a small step. False: there is none left.
    pub fn free_some(&mut self) -> bool {
        self.near.clear();
        let buckets = self.levels.iter_mut().flat_map(|level| &mut level.buckets);
        buckets.chain([&mut self.dealt]).any(|bucket| bucket.chunks.pop().is_some())
    }

    // The lowest level at which this tick and the present one lie in different buckets.
    fn place(&self, tick: u64) -> (usize, usize) {
        let differing = (tick ^ self.tick).ilog2();
        let level = differing / LEVEL_BITS;
        (level as usize, (tick >> (level * LEVEL_BITS)) as usize % BUCKETS)
    }

    // Goes on to the next tick in which anything may fall due, or to `tick`. False: there is nothing until then.
    fn turn(&mut self, tick: u64) -> bool {
        for at in 0..LEVELS {
            let shift = at as u32 * LEVEL_BITS;
            // What is held at a level lies ahead of the present bucket, with the same bits above.
            let present = (self.tick >> shift) as usize % BUCKETS;
            let ahead = self.levels[at].held & (u64::MAX << present);
            if ahead == 0 {
                continue;
            }
            let bucket = ahead.trailing_zeros() as usize;
            let start = (self.tick >> shift >> LEVEL_BITS << LEVEL_BITS | bucket as u64) << shift;
            if start > tick {
                break;
            }
            self.tick = start;
            self.dealt = std::mem::take(&mut self.levels[at].buckets[bucket]);
            self.levels[at].held &= !(1 << bucket);
            return true;
        }
        self.tick = self.tick.max(tick);
        false
    }
}

impl Bucket {
    fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn last(&self) -> Option<&Due> {
        self.chunks.last()?.last()
    }

    fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    // The last ones before `end`, no more than its chunk has; returns how many.
    fn copy_before(&self, end: usize, into: &mut [Due]) -> usize {
        let chunk = &self.chunks[(end - 1) / CHUNK][..(end - 1) % CHUNK + 1];
        let count = chunk.len().min(into.len());
        into[..count].copy_from_slice(&chunk[chunk.len() - count..]);
        count
    }

    fn push(&mut self, due: Due) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(due),
            // Most buckets hold little: the first chunk grows, the others are there at once.
            None => self.chunks.push(vec![due]),
            Some(_) => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(due);
                self.chunks.push(chunk);
            }
        }
    }

    fn pop(&mut self) -> Option<Due> {
        let chunk = self.chunks.last_mut()?;
        let due = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        due
    }

    fn swap_remove(&mut self, at: usize) {
        let last = self.pop().expect("there is an entry to be removed");
        if let Some(place) = self.chunks.get_mut(at / CHUNK).and_then(|chunk| chunk.get_mut(at % CHUNK)) {
            *place = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn due(at: u64, hash: u64) -> Due {
        Due { at, hash, slot: Slot(1), db: Db(0) }
    }

    #[test]
    fn entries_come_in_order_and_on_time_however_far_ahead_they_were() {
        const START_MS: u64 = 1_770_000_000_000;
        let mut rng = Rng::new(3);
        let (mut wheel, mut truth) = (Deadlines::default(), BTreeSet::new());
        let mut time_ms = START_MS;
        for step in 0..20_000 {
            let ahead = 1 << rng.below(40);
            let entry = due(time_ms + rng.below(ahead), step);
            wheel.push(entry);
            truth.insert(entry);
            if rng.chance(4) {
                let pace = 1 << rng.below(30);
                time_ms += rng.below(pace);
                // However the work is cut into slices.
                while wheel.first_ms() <= time_ms {
                    if let Some(entry) = wheel.pop(time_ms, &mut { 1 + rng.below(8) as usize }) {
                        assert!(entry.at <= time_ms && truth.pop_first() == Some(entry), "{entry:?}");
                    }
                }
                assert!(truth.first().is_none_or(|first| first.at >= wheel.first_ms() && first.at > time_ms));
                assert_eq!(wheel.len(), truth.len());
            }
        }
        assert!(truth.len() > 1000, "some are far ahead");
        while wheel.pop(u64::MAX - 1, &mut { usize::MAX }).is_some() {}
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_call_costs_no_more_than_it_may() {
        let mut wheel = Deadlines::default();
        (0..100_000).for_each(|hash| wheel.push(due(1_770_000_000_000, hash)));
        let mut calls = 0;
        let mut found = 0;
        while !wheel.is_empty() {
            let mut looks = 64;
            while wheel.pop(1_770_000_000_000, &mut looks).is_some() {
                found += 1;
            }
            calls += 1;
            assert!(wheel.is_empty() || wheel.first_ms() <= 1_770_000_000_000);
        }
        assert_eq!(found, 100_000);
        assert!(calls > 100_000 / 64, "{calls}");
    }

    #[test]
    fn every_entry_is_suspected_in_turn_and_stale_ones_go() {
        let mut wheel = Deadlines::default();
        (0..3000).for_each(|hash| wheel.push(due(100 + hash * 1000, hash)));
        let (mut looks, mut found) = (0, [due(0, 0); SUSPECTS]);
        while wheel.len() > 1000 && looks < 6000 {
            let count = wheel.suspect(&mut found);
            let stale = (0..count).filter(|&nth| found[nth].hash % 3 != 0).fold(0, |bits, nth| bits | 1 << nth);
            wheel.judge(count, stale);
            looks += count.max(1);
        }
        assert_eq!(wheel.len(), 1000, "after {looks} looks");
        let mut left = 0;
        while let Some(entry) = wheel.pop(u64::MAX - 1, &mut { usize::MAX }) {
            assert_eq!(entry.hash % 3, 0);
            left += 1;
        }
        assert_eq!((left, wheel.suspect(&mut found)), (1000, 0));
    }
}
