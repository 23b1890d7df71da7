//! Everything one key holds: the lattice that two nodes join when they meet.
//!
//! A key is a product of parts: a clear stamp (DEL, SET: everything older is gone, whatever its type), a deadline
//! register, a string cell and a hash. Concurrent writes of two types keep both parts; readers see the part with the
//! newest write, and the next SET or DEL clears the other. So a clash of types needs no rule of its own.

use super::cell::{Cell, Observed, SlotCount, Visible};
use super::hash::Hash;
use super::op::{Observations, Op, SetDeadline};
use super::realm::Realm;
use super::stamp::Stamp;
use crate::base::time::DeadlineMs;

/// When a key stops being visible, and who said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deadline {
    /// The write that set it.
    pub stamp: Stamp,
    /// Unix milliseconds; `None`: the key stays.
    pub at: Option<DeadlineMs>,
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
    /// What a reader sees: the live part with the newest write. Does not look at the deadline.
    pub fn visible_type(&self, realm: &Realm) -> Option<Type> {
        let hash = self.hash.as_deref().filter(|hash| !hash.is_empty());
        match (self.string.is_live(), hash) {
            (false, None) => None,
            (true, None) => Some(Type::String),
            (false, Some(_)) => Some(Type::Hash),
            (true, Some(hash)) if realm.origins.newer(hash.newest(), self.string.newest(realm)) => Some(Type::Hash),
            (true, Some(_)) => Some(Type::String),
        }
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
        changed
    }

    /// Joins a deadline register.
    pub fn join_deadline(&mut self, realm: &Realm, other: Deadline) -> bool {
        let register = later(realm, self.register(), other);
        self.put_register(register)
    }

    /// Drops everything at or before `floor`, counts included (FLUSHALL).
    pub fn flush(&mut self, realm: &Realm, floor: Stamp) {
        let survives = |stamp: Stamp| realm.origins.newer(stamp, floor);
        if !survives(self.clear) {
            self.clear = Stamp::ZERO;
        }
        self.deadline = self.deadline.filter(|deadline| survives(deadline.stamp));
        self.string.flush(realm, floor);
        if let Some(hash) = &mut self.hash {
            hash.flush(realm, floor);
        }
    }

    /// Forgets what every member has heard of. Returns whether something is still waiting for stability.
    pub fn collect(&mut self, realm: &Realm, stable: &impl Fn(Stamp) -> bool, budget: usize) -> bool {
        let mut waiting = self.string.collect(stable);
        if let Some(hash) = &mut self.hash {
            waiting |= hash.collect(realm, stable, budget);
            if hash.is_void() {
                self.hash = None;
            }
        }
        let live = self.string.is_live() || self.hash.as_ref().is_some_and(|hash| !hash.is_empty());
        if !live {
            let deadline_stable = self.deadline.is_none_or(|deadline| stable(deadline.stamp));
            if stable(self.clear) && deadline_stable {
                self.clear = Stamp::ZERO;
                self.deadline = None;
            } else {
                waiting = true;
            }
        }
        waiting
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
        let mut fields = Vec::new();
        if let Some(hash) = &self.hash {
            for field in hash.iter().filter(|field| field.is_rich()) {
                let observed = super::hash::unpack(field).observations();
                if !observed.is_empty() {
                    fields.push((field.key().to_vec(), observed));
                }
            }
        }
        Op::Clear { observed: self.string.observations(), fields }
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
    fn raise_clear(&mut self, realm: &Realm, stamp: Stamp) -> bool {
        if !realm.origins.newer(stamp, self.clear) {
            return false;
        }
        self.clear = stamp;
        self.string.clear(realm, stamp);
        if let Some(hash) = &mut self.hash {
            hash.clear(realm, stamp);
            if hash.is_void() {
                self.hash = None;
            }
        }
        true
    }

    // The deadline register, spelled out.
    fn register(&self) -> Deadline {
        self.deadline.unwrap_or(Deadline { stamp: self.clear, at: None })
    }

    // Keeps the register, unsaid where it is what the clear stamp says anyway.
    fn put_register(&mut self, register: Deadline) -> bool {
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
fn later(realm: &Realm, a: Deadline, b: Deadline) -> Deadline {
    let b_wins = realm.origins.newer(b.stamp, a.stamp) || a.stamp == b.stamp && b.at > a.at;
    if b_wins { b } else { a }
}
