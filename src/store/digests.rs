//! A digest per database and slot, kept up to date by every write, so that two nodes can compare without reading
//! their keys. What counts for how much says `merge::digest`.
//!
//! Sums of 64 bits: adding and taking away commute, so the order of writes does not matter, and whatever is cut off
//! with its table (a flush) is cut off here by a zero. They lie apart from the tables in 8 bytes a slot, 128 KiB for a
//! whole node, which second-level caches hold.

use crate::base::ids::Db;
use crate::mem::prefetch::prefetch;

/// See the file's head.
pub struct Digests {
    /// Switched off, for measuring what they cost: the sums then mean nothing.
    is_off: bool,
    slots: usize,
    /// By database and slot, up to the last database that holds a key.
    sums: Vec<u64>,
}

impl Digests {
    /// All zero, for so many slots.
    pub fn new(slots: usize) -> Self {
        Self { is_off: false, slots, sums: Vec::new() }
    }

    /// Whether they are kept.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.is_off
    }

    /// Keeps them no more, or again, from zero.
    pub fn switch(&mut self, on: bool) {
        self.is_off = !on;
        self.sums.clear();
    }

    /// A key of a slot counted for `before` and counts for `after`.
    #[inline]
    pub fn shift(&mut self, db: Db, slot: usize, before: u64, after: u64) {
        let change = after.wrapping_sub(before);
        let at = usize::from(db.0) * self.slots + slot;
        match self.sums.get_mut(at) {
            Some(sum) => *sum = sum.wrapping_add(change),
            None if change != 0 => *self.grown(at) = change,
            None => {}
        }
    }

    /// Asks for the memory of a slot's sum without waiting for it.
    #[inline]
    pub fn prefetch(&self, db: Db, slot: usize) {
        if let Some(sum) = self.sums.get(usize::from(db.0) * self.slots + slot) {
            prefetch(sum, size_of::<u64>());
        }
    }

    /// Sets a slot's sum to what was counted.
    pub fn set(&mut self, db: Db, slot: usize, sum: u64) {
        if sum != self.get(db, slot) {
            *self.grown(usize::from(db.0) * self.slots + slot) = sum;
        }
    }

    /// A slot's sum.
    #[inline]
    pub fn get(&self, db: Db, slot: usize) -> u64 {
        self.sums.get(usize::from(db.0) * self.slots + slot).copied().unwrap_or(0)
    }

    #[cold]
    fn grown(&mut self, at: usize) -> &mut u64 {
        if at >= self.sums.len() {
            self.sums.resize((at / self.slots + 1) * self.slots, 0);
        }
        &mut self.sums[at]
    }
}
