//! Everything one key holds: the lattice that two nodes join when they meet.
//!
//! A key is a product of parts: a clear stamp (DEL, SET: everything older is gone, whatever its type), a deadline
//! register, a string cell and a hash. Concurrent writes of two types keep both parts; readers see the part with the
//! newest write, and the next SET or DEL clears the other. So a clash of types needs no rule of its own.

use super::cell::{Cell, Observed, SlotCount, Visible};
use super::hash::Hash;
use super::op::{Observations, Op, SetDeadline};
use super::realm::Realm;
use super::stamp::{Hlc, Stamp};
use super::waste::Waste;
use crate::base::time::DeadlineMs;
use crate::mem::entry::View;

/// When a key stops being visible, and who said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deadline {
    /// The write that set it.
    pub stamp: Stamp,
    /// Unix milliseconds; `None`: the key stays.
    pub at: Option<DeadlineMs>,
}

impl Deadline {
    /// Whether a write stays when the deadline `at`, set by the write `by`, ends for good: it was written after that
    /// time by a node that had not heard of the deadline.
    #[inline]
    pub fn outlived_by(realm: &Realm, by: Stamp, at: DeadlineMs, stamp: Stamp) -> bool {
        stamp.hlc() >= Hlc::at_ms(at) && realm.origins.newer(stamp, by)
    }
}

/// See the file's head. Keys that are only a string register are kept packed and unpacked into this when needed.
#[derive(Default)]
pub struct KeyState {
    /// Registers older than this are gone.
    pub clear: Stamp,
    /// The deadline register, if it was written after `clear` (else it is `{clear, none}`).
    pub deadline: Option<Deadline>,
    /// The string part.
    pub string: Cell,
    /// The hash part; absent for keys that never were one.
    pub hash: Option<Box<Hash>>,
}

/// The type a reader sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// Strings and counters.
    String,
    /// Hashes.
    Hash,
}

impl KeyState {
    /// What a reader sees: of the live parts the one with the newest write that can be seen. Does not look at the
    /// deadline.
    pub fn visible_type(&self, realm: &Realm) -> Option<Type> {
        let hash = self.hash.as_deref().filter(|hash| !hash.is_empty());
        match (self.string.is_live(), hash) {
            (false, None) => None,
            (true, None) => Some(Type::String),
            (false, Some(_)) => Some(Type::Hash),
            (true, Some(hash)) if hash.is_newer_than(realm, self.string.newest_seen(realm)) => Some(Type::Hash),
            (true, Some(_)) => Some(Type::String),
        }
    }

    /// Whether a reader sees anything. Does not look at the deadline.
    pub fn is_live(&self) -> bool {
        self.string.is_live() || self.hash.as_ref().is_some_and(|hash| !hash.is_empty())
    }

    /// The string part, if that is what a reader sees.
    pub fn visible_string(&self, realm: &Realm) -> Option<Visible<'_>> {
        (self.visible_type(realm) == Some(Type::String)).then(|| self.string.visible())
    }

    /// The deadline in force.
    pub fn deadline_at(&self) -> Option<DeadlineMs> {
        self.deadline.and_then(|deadline| deadline.at)
    }

    /// The latest stamp in here: a new local write must be above it.
    pub fn newest(&self, realm: &Realm) -> Stamp {
        let later = |a, b| realm.origins.later(a, b);
        let newest = later(self.clear, self.string.newest(realm));
        let newest = self.deadline.map_or(newest, |deadline| later(newest, deadline.stamp));
        self.hash.as_ref().map_or(newest, |hash| later(newest, hash.newest()))
    }

    /// Joins one write. Returns whether anything changed.
    pub fn apply(&mut self, realm: &Realm, stamp: Stamp, op: &Op<'_>) -> bool {
        let changed = self.apply_part(realm, stamp, op);
        self.drop_void_hash();
        changed
    }

    /// Joins only what a write had observed: all that counts of a reset that a flush has overtaken.
    pub fn apply_observed(&mut self, realm: &Realm, stamp: Stamp, op: &Op<'_>) -> bool {
        match op {
            Op::Set { observed, .. } => self.observe(realm, stamp, observed),
            Op::Clear { observed, fields } => {
                fields.iter().fold(self.observe(realm, stamp, observed), |changed, (name, observed)| {
                    self.observe_field(realm, stamp, name, observed) | changed
                })
            }
            Op::Fields { fields } => fields
                .iter()
                .filter(|field| !field.observed.is_empty())
                .fold(false, |changed, field| self.observe_field(realm, stamp, field.name, &field.observed) | changed),
            Op::Flush | Op::Add { .. } | Op::Deadline { .. } | Op::FieldAdd { .. } => false,
        }
    }

    fn apply_part(&mut self, realm: &Realm, stamp: Stamp, op: &Op<'_>) -> bool {
        match op {
            Op::Set { value, deadline, observed } => self.set(realm, stamp, value, *deadline, observed),
            Op::Clear { observed, fields } => {
                let mut changed = self.wipe(realm, stamp);
                changed |= self.observe(realm, stamp, observed);
                for (name, observed) in fields {
                    changed |= self.observe_field(realm, stamp, name, observed);
                }
                changed
            }
            // Flushes empty partitions, not keys: `store::keyspace::flush`.
            Op::Flush => false,
            Op::Add { epoch, total } => self.string.join_slot(SlotCount {
                origin: stamp.origin(),
                last: stamp.hlc(),
                epoch: *epoch,
                total: *total,
            }),
            Op::Deadline { at } => self.join_deadline(realm, Deadline { stamp, at: *at }),
            Op::Fields { fields } => {
                let clear = self.clear;
                let hash = self.hash_mut();
                fields.iter().fold(false, |changed, field| {
                    hash.join_field(realm, clear, stamp, field.name, field.value, &field.observed) | changed
                })
            }
            Op::FieldAdd { name, epoch, total } => {
                let slot = SlotCount { origin: stamp.origin(), last: stamp.hlc(), epoch: *epoch, total: *total };
                self.hash_mut().join_slot(realm, name, slot)
            }
        }
    }

    /// Joins everything another copy of this key knows.
    pub fn join(&mut self, realm: &Realm, other: &Self) -> bool {
        let register = later(realm, self.register(), other.register());
        let mut changed = self.raise_clear(realm, other.clear);
        changed |= self.put_register(register);
        let mut string = other.string.clone();
        string.clear(realm, self.clear);
        changed |= self.string.join(realm, &string);
        if let Some(hash) = &other.hash {
            let clear = self.clear;
            let own = self.hash_mut();
            for field in hash.iter() {
                changed |= own.join_cell(realm, clear, field.key(), &super::hash::unpack(field));
            }
        }
        self.drop_void_hash();
        changed
    }

    /// Takes out the fields of a large hash that are about to go at once; see [`Hash::cut_off`].
    pub fn cut_off(&mut self, goes: &impl Fn(Stamp) -> bool) -> Option<Waste> {
        self.hash.as_mut()?.cut_off(goes)
    }

    /// The same of what [`KeyState::finish`] is about to drop.
    pub fn cut_off_finished(&mut self, realm: &Realm) -> Option<Waste> {
        let Some(Deadline { stamp: by, at: Some(at) }) = self.deadline else { return None };
        self.cut_off(&|newest| !Deadline::outlived_by(realm, by, at, newest))
    }

    /// Joins a deadline register.
    pub fn join_deadline(&mut self, realm: &Realm, other: Deadline) -> bool {
        let register = later(realm, self.register(), other);
        self.put_register(register)
    }

    /// Drops everything at or before `floor`, counts included (FLUSHALL). What resets had observed stays until it is
    /// stable.
    pub fn flush(&mut self, realm: &Realm, floor: Stamp) {
        self.keep(realm, floor, &|stamp| realm.origins.newer(stamp, floor));
    }

    /// The end of a deadline that no write can move any more: what it puts an end to goes, and so does the deadline.
    /// What was written after its time, by a node that had not heard of it, stays.
    pub fn finish(&mut self, realm: &Realm) {
        let Some(Deadline { stamp: by, at: Some(at) }) = self.deadline else { return };
        self.keep(realm, by, &|stamp| Deadline::outlived_by(realm, by, at, stamp));
    }

    fn keep(&mut self, realm: &Realm, by: Stamp, survives: &impl Fn(Stamp) -> bool) {
        // Spelled out first: without its clear stamp, or without its own, a register would say something else.
        let register = self.register();
        if !survives(self.clear) {
            self.clear = Stamp::ZERO;
        }
        self.put_register(if survives(register.stamp) { register } else { Deadline::default() });
        self.string.keep(by, survives);
        if let Some(hash) = &mut self.hash {
            hash.keep(realm, by, survives);
        }
        self.drop_void_hash();
    }

    /// Whether something in here can be forgotten once it is stable.
    pub fn has_garbage(&self) -> bool {
        self.string.has_garbage()
            || self.hash.as_ref().is_some_and(|hash| hash.has_garbage())
            // A value's own stamp stands for the clear stamp; elsewhere that is a memory. So is a deadline taken away.
            || self.string.value.is_none() && !self.clear.is_zero()
            || self.deadline.is_some_and(|deadline| deadline.at.is_none())
    }

    /// Forgets what every member has heard of; `forget` is told the stamps that go. What is left to wait for says
    /// [`KeyState::has_garbage`].
    pub fn collect(
        &mut self,
        realm: &Realm,
        stable: &impl Fn(Stamp) -> bool,
        forget: &mut impl FnMut(Stamp),
        budget: usize,
    ) {
        self.string.collect(stable, forget);
        if let Some(hash) = &mut self.hash {
            hash.collect(realm, stable, forget, budget);
        }
        self.drop_void_hash();
        if !stable(self.clear) || !self.deadline.is_none_or(|deadline| stable(deadline.stamp)) {
            return;
        }
        // A deadline that is not taken away lasts until its end is final, also where nothing is left that it could put
        // an end to: forgotten here, it would still bind what is written next elsewhere.
        if let Some(deadline) = self.deadline.take_if(|deadline| deadline.at.is_none()) {
            forget(deadline.stamp);
        }
        if self.string.value.is_none() {
            forget(self.clear);
            self.clear = Stamp::ZERO;
        }
    }

    /// The same state again.
    pub fn copy(&self, realm: &Realm) -> Self {
        Self {
            clear: self.clear,
            deadline: self.deadline,
            string: self.string.clone(),
            hash: self.hash.as_ref().map(|hash| Box::new(hash.copy(realm))),
        }
    }

    /// Nothing is kept.
    pub fn is_void(&self) -> bool {
        self.clear.is_zero()
            && self.deadline.is_none()
            && self.string.is_void()
            && self.hash.as_ref().is_none_or(|hash| hash.is_void())
    }

    /// What a DEL written here and now has seen of counters.
    pub fn clear_op(&self) -> Op<'static> {
        Op::Clear { observed: self.string.observations(), fields: self.field_observations() }
    }

    /// What a delete of the whole hash has seen of its counters.
    pub fn field_observations(&self) -> Vec<(Vec<u8>, Observations)> {
        let Some(hash) = self.hash.as_ref().filter(|hash| hash.may_count()) else { return Vec::new() };
        let counted = hash.iter().filter_map(|field| match field.view() {
            View::Rich(cell) if cell.is_counted() => Some((field.key().to_vec(), cell.observations())),
            _ => None,
        });
        counted.collect()
    }

    /// Whether there may be counts in here, or what resets have observed of them.
    pub fn may_count(&self) -> bool {
        !self.string.is_register() || self.hash.as_ref().is_some_and(|hash| hash.may_count())
    }

    /// The hash part, created if absent.
    pub fn hash_mut(&mut self) -> &mut Hash {
        self.hash.get_or_insert_default()
    }

    /// Heap bytes beyond the state itself.
    pub fn heap_bytes(&self) -> usize {
        self.string.heap_bytes() + self.hash.as_ref().map_or(0, |hash| size_of::<Hash>() + hash.heap_bytes())
    }

    fn set(
        &mut self,
        realm: &Realm,
        stamp: Stamp,
        value: &[u8],
        deadline: SetDeadline,
        observed: &Observations,
    ) -> bool {
        let register = self.register();
        let mut changed = false;
        if !realm.origins.newer(self.clear, stamp) {
            changed |= self.raise_clear(realm, stamp);
            changed |= self.string.join_register(realm, stamp, Some(value));
        }
        // A deadline written with the value is judged by its own register, also when the value itself lost.
        let written = match deadline {
            SetDeadline::Keep => register,
            SetDeadline::Clear => later(realm, register, Deadline { stamp, at: None }),
            SetDeadline::At(at) => later(realm, register, Deadline { stamp, at: Some(at) }),
        };
        changed |= self.put_register(written);
        changed | self.observe(realm, stamp, observed)
    }

    fn wipe(&mut self, realm: &Realm, stamp: Stamp) -> bool {
        let register = later(realm, self.register(), Deadline { stamp, at: None });
        self.raise_clear(realm, stamp) | self.put_register(register)
    }

    // Drops the registers of every part that are older. The deadline register is the caller's to keep or write.
    pub(super) fn raise_clear(&mut self, realm: &Realm, stamp: Stamp) -> bool {
        if !realm.origins.newer(stamp, self.clear) {
            return false;
        }
        self.clear = stamp;
        self.string.clear(realm, stamp);
        if let Some(hash) = &mut self.hash {
            hash.clear(realm, stamp);
        }
        self.drop_void_hash();
        true
    }

    fn drop_void_hash(&mut self) {
        if self.hash.as_ref().is_some_and(|hash| hash.is_void()) {
            self.hash = None;
        }
    }

    // The deadline register, spelled out.
    fn register(&self) -> Deadline {
        self.deadline.unwrap_or(Deadline { stamp: self.clear, at: None })
    }

    // Keeps the register, unsaid where it is what the clear stamp says anyway.
    pub(super) fn put_register(&mut self, register: Deadline) -> bool {
        let kept = (register != Deadline { stamp: self.clear, at: None }).then_some(register);
        let changed = kept != self.deadline;
        self.deadline = kept;
        changed
    }

    fn observe(&mut self, realm: &Realm, by: Stamp, observed: &Observations) -> bool {
        observed
            .iter()
            .fold(false, |changed, slot| self.string.join_observed(realm, Observed { slot: *slot, by }) | changed)
    }

    fn observe_field(&mut self, realm: &Realm, by: Stamp, name: &[u8], observed: &Observations) -> bool {
        self.hash_mut().update(realm, name, |cell| {
            observed
                .iter()
                .fold(false, |changed, slot| cell.join_observed(realm, Observed { slot: *slot, by }) | changed)
        })
    }
}

// Of equal stamps the one with a deadline wins: SET with EX is clear and deadline in one.
pub(super) fn later(realm: &Realm, a: Deadline, b: Deadline) -> Deadline {
    let b_wins = realm.origins.newer(b.stamp, a.stamp) || a.stamp == b.stamp && b.at > a.at;
    if b_wins { b } else { a }
}
