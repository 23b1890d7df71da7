//! Version vectors: per origin and partition, the highest reading applied.
//!
//! Streams are gapless and in stamp order, so one number per origin and partition says exactly what has been seen.

use super::origins::OriginIdx;
use super::stamp::{Hlc, Stamp};

/// The rows of the partitions one shard owns (or, with range 0..256, of a whole node).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    first: usize,
    width: usize,
    // Row-major by origin, so that a new origin appends.
    rows: Vec<Hlc>,
}

impl Versions {
    /// Nothing seen, for partitions `first..end`.
    pub fn new(first: usize, end: usize) -> Self {
        Self { first, width: end - first, rows: Vec::new() }
    }

    /// The highest reading of `origin` applied in `partition`.
    pub fn get(&self, origin: OriginIdx, partition: usize) -> Hlc {
        self.rows.get(self.at(origin, partition)).copied().unwrap_or(Hlc::ZERO)
    }

    /// Whether a write has been applied.
    pub fn covers(&self, partition: usize, stamp: Stamp) -> bool {
        stamp.hlc() <= self.get(stamp.origin(), partition)
    }

    /// Raises one number; returns whether it grew.
    pub fn raise(&mut self, origin: OriginIdx, partition: usize, to: Hlc) -> bool {
        let at = self.at(origin, partition);
        if self.rows.len() <= at {
            if to == Hlc::ZERO {
                return false;
            }
            self.rows.resize((usize::from(origin.0) + 1) * self.width, Hlc::ZERO);
        }
        let grew = to > self.rows[at];
        if grew {
            self.rows[at] = to;
        }
        grew
    }

    /// How many origins have a row.
    pub fn origins(&self) -> usize {
        self.rows.len().checked_div(self.width).unwrap_or(0)
    }

    /// The partitions covered: first, and one past the last.
    pub fn range(&self) -> (usize, usize) {
        (self.first, self.first + self.width)
    }

    /// What is known of one partition: every origin with a reading above zero.
    pub fn column(&self, partition: usize) -> impl Iterator<Item = (OriginIdx, Hlc)> + Clone + '_ {
        (0..self.origins())
            .map(move |origin| (OriginIdx(origin as u16), self.get(OriginIdx(origin as u16), partition)))
            .filter(|&(_, hlc)| hlc > Hlc::ZERO)
    }

    /// Every number above zero.
    pub fn all(&self) -> impl Iterator<Item = (OriginIdx, usize, Hlc)> + '_ {
        let (first, width) = (self.first, self.width.max(1));
        self.rows
            .iter()
            .enumerate()
            .filter(|(_, hlc)| **hlc > Hlc::ZERO)
            .map(move |(at, &hlc)| (OriginIdx((at / width) as u16), first + at % width, hlc))
    }

    fn at(&self, origin: OriginIdx, partition: usize) -> usize {
        debug_assert!(partition >= self.first && partition < self.first + self.width);
        usize::from(origin.0) * self.width + partition - self.first
    }
}
