//! One string key or one hash field: a last-writer-wins register over per-origin counter slots.
//!
//! The visible number is the register's plus every slot's total, less what a reset (SET, DEL) had observed of that
//! slot. Register, slots and observations are each joined by maximum, so the whole is a product of lattices and
//! converges by construction. Observations of *every* reset count, also of one that lost the register to a later
//! reset: an increment that came before some SET in its writer's eyes never comes back (this replaces rules 1 and 2 of
//! the design's E.7, which patched a state where only the winner's observations were kept).

use std::cmp::Ordering;

use smallvec::SmallVec;
use thin_vec::ThinVec;

use super::op::Observations;
use super::origins::OriginIdx;
use super::realm::Realm;
use super::stamp::{Hlc, Stamp};
use super::total::Total;
use crate::base::text::parse_i64;

/// What one origin has added since it opened the epoch. Only that origin writes it, so a later `last` has all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotCount {
    /// Who adds.
    pub origin: OriginIdx,
    /// Its last increment; with `origin` the slot's dot.
    pub last: Hlc,
    /// Its first increment since its earlier ones were wiped.
    pub epoch: Hlc,
    /// The sum since then.
    pub total: Total,
}

/// How much of an origin's slot a reset had seen and wiped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observed {
    /// The slot as the reset saw it.
    pub slot: SlotCount,
    /// The reset that saw it: needed to know when every member has heard of it. Zero: all have, and it is kept only
    /// because the slot's owner went on counting in the same epoch, so that the difference is still needed.
    pub by: Stamp,
}

/// What a reader sees of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visible<'a> {
    /// Nothing.
    Absent,
    /// The register's bytes.
    Bytes(&'a [u8]),
    /// A number in units of 10^-17 (`Total::print`).
    Number(i128),
}

/// See the file's head.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Stamp of the register; zero when it was never written.
    pub stamp: Stamp,
    /// The register; `None` after a delete or before the first write.
    pub value: Option<Box<[u8]>>,
    /// One per origin that incremented, in the order they were first heard of.
    pub slots: SmallVec<[SlotCount; 1]>,
    /// One per origin of which a reset wiped something. Rare, so it has no room of its own in the cell.
    pub observed: ThinVec<Observed>,
}

impl Cell {
    /// What a reader sees. A register that is no number hides increments it has not observed.
    pub fn visible(&self) -> Visible<'_> {
        // Saturating addition does not commute; sums of one sign do.
        let (mut above, mut below) = (0i128, 0i128);
        let mut counted = false;
        for slot in &self.slots {
            if let Some(part) = self.unobserved(slot) {
                counted = true;
                let side = if part < 0 { &mut below } else { &mut above };
                *side = side.saturating_add(part);
            }
        }
        let sum = above.saturating_add(below);
        match (&self.value, counted) {
            (None, false) => Visible::Absent,
            (None, true) => Visible::Number(sum),
            (Some(bytes), false) => Visible::Bytes(bytes),
            (Some(bytes), true) => match Total::parse(bytes) {
                Some(base) => Visible::Number(sum.saturating_add(base.fixed())),
                None => Visible::Bytes(bytes),
            },
        }
    }

    /// The number a reader sees when it is made of whole increments none of which was reset, which is nearly always.
    /// `None` says nothing: ask [`Cell::visible`], which does the same with wider and slower numbers.
    #[inline]
    pub fn counted(&self) -> Option<i64> {
        if self.slots.is_empty() || !self.observed.is_empty() {
            return None;
        }
        let base = match &self.value {
            None => 0,
            Some(bytes) => parse_i64(bytes)?,
        };
        self.slots.iter().try_fold(base, |sum, slot| match slot.total {
            Total::Int(total) => sum.checked_add(total),
            Total::Fixed(_) => None,
        })
    }

    /// Whether a reader sees anything.
    pub fn is_live(&self) -> bool {
        self.value.is_some() || self.slots.iter().any(|slot| self.unobserved(slot).is_some())
    }

    /// Joins a write of the register. Equal stamps are one write; should they ever carry different bytes, the larger
    /// wins everywhere.
    pub fn join_register(&mut self, realm: &Realm, stamp: Stamp, value: Option<&[u8]>) -> bool {
        let wins = stamp == self.stamp && value > self.value.as_deref() || realm.origins.newer(stamp, self.stamp);
        if wins {
            self.stamp = stamp;
            self.value = value.map(Box::from);
        }
        wins
    }

    /// Joins an origin's slot.
    pub fn join_slot(&mut self, slot: SlotCount) -> bool {
        match self.slots.iter_mut().find(|known| known.origin == slot.origin) {
            None => self.slots.push(slot),
            Some(known) if slot.order(known) == Ordering::Greater => *known = slot,
            Some(_) => return false,
        }
        // An observation kept for the difference within an epoch has done its work when the next epoch opens.
        self.drop_needless();
        true
    }

    /// Joins what a reset had seen of a slot.
    pub fn join_observed(&mut self, realm: &Realm, seen: Observed) -> bool {
        let is_later = |slot: &SlotCount| slot.origin == seen.slot.origin && slot.epoch > seen.slot.epoch;
        if seen.by.is_zero() && self.slots.iter().any(is_later) {
            return false;
        }
        match self.observed.iter_mut().find(|known| known.slot.origin == seen.slot.origin) {
            None => self.observed.push(seen),
            Some(known) => {
                // Among resets that saw equally much the oldest is kept: it is the first that everyone has heard of.
                let older = || realm.origins.order(known.by, seen.by);
                let wins = seen.slot.last.cmp(&known.slot.last).then_with(older);
                if wins.then_with(|| seen.slot.order(&known.slot)) != Ordering::Greater {
                    return false;
                }
                *known = seen;
            }
        }
        true
    }

    /// Joins everything another copy of this cell knows.
    pub fn join(&mut self, realm: &Realm, other: &Self) -> bool {
        let mut changed = self.join_register(realm, other.stamp, other.value.as_deref());
        for slot in &other.slots {
            changed |= self.join_slot(*slot);
        }
        for seen in &other.observed {
            changed |= self.join_observed(realm, *seen);
        }
        changed
    }

    /// Drops the register if it is older than `clear`. Slots are wiped by observation only.
    pub fn clear(&mut self, realm: &Realm, clear: Stamp) {
        if realm.origins.newer(clear, self.stamp) {
            self.stamp = Stamp::ZERO;
            self.value = None;
        }
    }

    /// Keeps only writes that survive, counts included (FLUSHALL, the end of a deadline). What resets had observed
    /// stays until it is stable, and so is `by`, the write that drops the others: an owner that has not heard of it may
    /// still add to what they saw.
    pub fn keep(&mut self, by: Stamp, survives: &impl Fn(Stamp) -> bool) {
        if !survives(self.stamp) {
            self.stamp = Stamp::ZERO;
            self.value = None;
        }
        self.slots.retain(|slot| survives(slot.dot()));
        for seen in &mut self.observed {
            if seen.by.is_zero() && !is_needed(&self.slots, seen) {
                seen.by = by;
            }
        }
    }

    /// Drops observations that nobody waits for and no slot needs.
    pub(super) fn drop_needless(&mut self) {
        let slots = &self.slots;
        self.observed.retain(|seen| !seen.by.is_zero() || is_needed(slots, seen));
    }

    /// The origin's slot after adding `by` at `at`; `None` when its total would leave the range.
    pub fn incremented(&self, origin: OriginIdx, at: Hlc, by: Total) -> Option<SlotCount> {
        let own = self.slots.iter().find(|slot| slot.origin == origin);
        match own.filter(|slot| self.unobserved(slot).is_some()) {
            Some(slot) => Some(SlotCount { last: at, total: slot.total.checked_add(by)?, ..*slot }),
            None => Some(SlotCount { origin, last: at, epoch: at, total: by }),
        }
    }

    /// What a reset written here and now has to say it has seen: every slot that still counts. What earlier resets
    /// had seen need not be said again, because every reset's observations count everywhere.
    pub fn observations(&self) -> Observations {
        self.slots.iter().filter(|slot| self.unobserved(slot).is_some()).copied().collect()
    }

    /// Whether a reset written here and now has anything to say.
    pub fn is_counted(&self) -> bool {
        self.slots.iter().any(|slot| self.unobserved(slot).is_some())
    }

    /// The latest stamp in here: a new local write must be above it.
    pub fn newest(&self, realm: &Realm) -> Stamp {
        let dots = self.slots.iter().map(SlotCount::dot).chain(self.observed.iter().map(|seen| seen.by));
        dots.fold(self.stamp, |newest, dot| realm.origins.later(newest, dot))
    }

    /// The latest stamp of what a reader sees, zero if that is nothing. Unlike [`Cell::newest`] the same on every node
    /// with the same writes, whatever has been forgotten.
    pub fn newest_seen(&self, realm: &Realm) -> Stamp {
        let register = if self.value.is_some() { self.stamp } else { Stamp::ZERO };
        let counted = self.slots.iter().filter(|slot| self.unobserved(slot).is_some());
        counted.fold(register, |newest, slot| realm.origins.later(newest, slot.dot()))
    }

    /// Whether something in here can be forgotten once it is stable.
    pub fn has_garbage(&self) -> bool {
        self.value.is_none() && !self.stamp.is_zero() || self.observed.iter().any(|seen| !seen.by.is_zero())
    }

    /// Forgets what every member has heard of (`stable`): wiped slots with the observations that wiped them, a
    /// deleted register. A wiped slot goes only when the reset *and* the slot's own dot are stable (E.7 rule 3).
    /// `forget` is told the stamps that go. What is left to wait for says [`Cell::has_garbage`].
    pub fn collect(&mut self, stable: &impl Fn(Stamp) -> bool, forget: &mut impl FnMut(Stamp)) {
        let slots = &mut self.slots;
        self.observed.retain_mut(|seen| {
            if !stable(seen.by) || !stable(seen.slot.dot()) {
                return true;
            }
            forget(seen.by);
            forget(seen.slot.dot());
            seen.by = Stamp::ZERO;
            slots.retain(|slot| slot.origin != seen.slot.origin || slot.last > seen.slot.last);
            is_needed(slots, seen)
        });
        if self.value.is_none() && !self.stamp.is_zero() && stable(self.stamp) {
            forget(self.stamp);
            self.stamp = Stamp::ZERO;
        }
    }

    /// Nothing is kept, not even the memory of a delete.
    pub fn is_void(&self) -> bool {
        self.stamp.is_zero() && self.value.is_none() && self.slots.is_empty() && self.observed.is_empty()
    }

    /// Whether every stamp in here holds. Those of zero were never written.
    pub fn every_stamp(&self, holds: &impl Fn(Stamp) -> bool) -> bool {
        let holds = |stamp: Stamp| stamp.is_zero() || holds(stamp);
        holds(self.stamp)
            && self.slots.iter().all(|slot| holds(slot.dot()))
            && self.observed.iter().all(|seen| holds(seen.by) && holds(seen.slot.dot()))
    }

    /// Only a register: can be kept as a plain entry.
    pub fn is_register(&self) -> bool {
        self.slots.is_empty() && self.observed.is_empty()
    }

    /// Heap bytes beyond the cell itself.
    pub fn heap_bytes(&self) -> usize {
        let counts = if self.slots.spilled() { self.slots.capacity() * size_of::<SlotCount>() } else { 0 };
        self.value.as_ref().map_or(0, |value| value.len()) + counts + self.observed.capacity() * size_of::<Observed>()
    }

    /// The part of a slot that no reset has seen; `None` when all of it was seen.
    pub(super) fn unobserved(&self, slot: &SlotCount) -> Option<i128> {
        match self.observed.iter().find(|seen| seen.slot.origin == slot.origin) {
            None => Some(slot.total.fixed()),
            Some(seen) if slot.last <= seen.slot.last => None,
            Some(seen) if slot.epoch == seen.slot.epoch => Some(slot.total.fixed() - seen.slot.total.fixed()),
            Some(_) => Some(slot.total.fixed()),
        }
    }
}

// Whether the owner went on counting in the epoch that a reset saw: the difference is what counts.
fn is_needed(slots: &[SlotCount], seen: &Observed) -> bool {
    slots.iter().any(|slot| slot.origin == seen.slot.origin && slot.epoch == seen.slot.epoch)
}

impl SlotCount {
    /// The slot's last write as a stamp.
    pub fn dot(&self) -> Stamp {
        Stamp::new(self.last, self.origin)
    }

    // Only `last` ever decides: one dot is one write. The rest makes the order total whatever arrives.
    fn order(&self, other: &Self) -> Ordering {
        let last = self.last.cmp(&other.last).then(self.epoch.cmp(&other.epoch));
        last.then_with(|| self.total.fixed().cmp(&other.total.fixed()))
    }
}

// What an INCR has to fetch: with what a key adds it should stay within three cache lines.
const _: () = assert!(size_of::<SlotCount>() == 40 && size_of::<Cell>() <= 80);
