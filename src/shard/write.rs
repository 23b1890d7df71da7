//! What commands call: reads that honour deadlines, and writes that build the effect a peer would be sent.
//!
//! Every write here mints one stamp and leaves one record. A write that would change nothing is not made: callers
//! look first.

use super::{Shard, mint};
use crate::base::ids::Db;
use crate::base::time::{DeadlineMs, Now};
use crate::mem::entry::View;
use crate::merge::cell::{Cell, Visible};
use crate::merge::hash::Hash;
use crate::merge::key::Type;
use crate::merge::op::{Observations, Op, SetDeadline};
use crate::merge::origins::OriginIdx;
use crate::merge::realm::Realm;
use crate::merge::total::Total;
use crate::store::keyspace::{KeyRef, Packed, deadline_of};

/// What a reader sees of a key.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A string as it was written.
    Bytes(&'a [u8]),
    /// A counter, in units of 10^-17 (`Total::print` gives its text).
    Number(i128),
    /// A hash with at least one field.
    Hash(&'a Hash),
}

/// A key that exists and has not expired.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// Its value.
    pub value: Value<'a>,
    /// When it expires, Unix milliseconds.
    pub deadline: Option<DeadlineMs>,
    /// As it is kept, for MEMORY USAGE and OBJECT.
    pub packed: &'a Packed,
}

/// Why an increment was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdded {
    /// The key or field holds another type.
    WrongType,
    /// The value is no number of the kind asked for.
    NotANumber,
    /// The result would leave the range.
    Overflow,
}

impl Shard {
    /// Hashes a key both ways.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> KeyRef<'k> {
        KeyRef::new(&self.realm, bytes)
    }

    /// The key as a reader sees it; counts a hit or a miss.
    #[inline]
    pub fn read(&mut self, db: Db, key: &KeyRef<'_>, now: Now) -> Option<Found<'_>> {
        let time_ms = self.time_ms(now);
        let found = self.keys.find(db, key).and_then(|entry| visible(&self.realm, entry, time_ms));
        match found {
            Some(_) => self.stats.hits += 1,
            None => self.stats.misses += 1,
        }
        found
    }

    /// The key as a reader sees it, without counting (TYPE, OBJECT, write paths).
    #[inline]
    pub fn peek(&self, db: Db, key: &KeyRef<'_>, now: Now) -> Option<Found<'_>> {
        let time_ms = self.time_ms(now);
        self.keys.find(db, key).and_then(|entry| visible(&self.realm, entry, time_ms))
    }

    /// SET and everything that leaves a whole new string (APPEND, SETRANGE, ... with [`SetDeadline::Keep`]).
    #[inline]
    pub fn set(&mut self, db: Db, key: &KeyRef<'_>, value: &[u8], deadline: SetDeadline, now: Now) {
        let at = match deadline {
            SetDeadline::Clear => None,
            SetDeadline::At(at) => Some(at),
            SetDeadline::Keep => return self.set_after_look(db, key, value, deadline, now),
        };
        let last = self.last_of(key);
        match self.keys.set_over(db, key, value, at, mint(&mut self.clock, now, last, self.drift_ms_max)) {
            Some(stamp) => self.applied(db, key, stamp, &Op::Set { value, deadline, observed: Observations::new() }),
            None => self.set_after_look(db, key, value, deadline, now),
        }
    }

    // SET of a key of which something must be kept or observed.
    fn set_after_look(&mut self, db: Db, key: &KeyRef<'_>, value: &[u8], deadline: SetDeadline, now: Now) {
        let keeps = deadline == SetDeadline::Keep;
        // A key that nobody sees begins anew: no deadline that an earlier life left behind.
        let deadline = if keeps && self.peek(db, key, now).is_none() { SetDeadline::Clear } else { deadline };
        let observed = match self.keys.find(db, key).map(|entry| entry.view()) {
            Some(View::Rich(state)) => {
                let observed = state.string.observations();
                // The fields' counters must be observed too, and only a delete carries those.
                let fields = state.field_observations();
                if !fields.is_empty() {
                    let op = Op::Clear { observed: observed.clone(), fields };
                    let kept = state.deadline_at().filter(|_| deadline == SetDeadline::Keep);
                    self.apply_local(db, key, &op, now);
                    // A delete takes the deadline with it.
                    if let Some(at) = kept {
                        self.apply_local(db, key, &Op::Deadline { at: Some(at) }, now);
                    }
                }
                observed
            }
            _ => Observations::new(),
        };
        self.apply_local(db, key, &Op::Set { value, deadline, observed }, now);
    }

    /// DEL. Returns whether a reader could see the key before.
    pub fn del(&mut self, db: Db, key: &KeyRef<'_>, now: Now) -> bool {
        let time_ms = self.time_ms(now);
        let found = self.keys.find(db, key);
        let Some(entry) = found.filter(|entry| visible(&self.realm, entry, time_ms).is_some()) else { return false };
        let op = clear_op(entry);
        self.apply_local(db, key, &op, now);
        true
    }

    /// EXPIRE, PERSIST: writes the deadline register of a key that exists.
    pub fn set_deadline(&mut self, db: Db, key: &KeyRef<'_>, at: Option<DeadlineMs>, now: Now) {
        self.apply_local(db, key, &Op::Deadline { at }, now);
    }

    /// INCR and DECR: adds to a key that is absent or holds an integer. Returns the new value.
    #[inline]
    pub fn incr(&mut self, db: Db, key: &KeyRef<'_>, by: i64, now: Now) -> Result<i64, NotAdded> {
        let time_ms = self.time_ms(now);
        let last = self.last_of(key);
        // An increment by nothing may be no write at all: the long way knows.
        if by != 0
            && let Some(counted) =
                self.keys.count_on(db, key, by, time_ms, mint(&mut self.clock, now, last, self.drift_ms_max))
        {
            let op = Op::Add { epoch: counted.slot.epoch, total: counted.slot.total };
            self.applied(db, key, counted.stamp, &op);
            return Ok(counted.sum);
        }
        self.incr_after_look(db, key, by, now)
    }

    // INCR of a key that does not count yet, or cannot.
    fn incr_after_look(&mut self, db: Db, key: &KeyRef<'_>, by: i64, now: Now) -> Result<i64, NotAdded> {
        self.start_over_if_gone(db, key, now);
        let seen = self.peek(db, key, now).map(|found| found.value);
        let exists = seen.is_some();
        let known = match seen {
            None => 0,
            Some(Value::Hash(_)) => return Err(NotAdded::WrongType),
            Some(value) => value.as_integer().ok_or(NotAdded::NotANumber)?,
        };
        let sum = known.checked_add(by).ok_or(NotAdded::Overflow)?;
        if by == 0 && exists {
            return Ok(sum);
        }
        if !self.add(db, key, None, Total::Int(by), now) {
            let mut text = itoa::Buffer::new();
            self.set(db, key, text.format(sum).as_bytes(), SetDeadline::Keep, now);
        }
        Ok(sum)
    }

    /// INCRBYFLOAT: adds exactly to a key that is absent or holds a decimal. Returns the new value in units of 10^-17.
    /// `None`: the numbers are beyond exact decimals; the caller computes and calls [`Shard::set`].
    pub fn incr_exact(&mut self, db: Db, key: &KeyRef<'_>, by: Total, now: Now) -> Result<Option<i128>, NotAdded> {
        self.start_over_if_gone(db, key, now);
        let known = match self.peek(db, key, now).map(|found| found.value) {
            None => 0,
            Some(Value::Hash(_)) => return Err(NotAdded::WrongType),
            Some(Value::Number(fixed)) => fixed,
            Some(Value::Bytes(bytes)) => match Total::parse(bytes) {
                Some(total) => total.fixed(),
                None => return Ok(None),
            },
        };
        let sum = known.saturating_add(by.fixed());
        Ok((Total::in_range(sum) && self.add(db, key, None, by, now)).then_some(sum))
    }

    // Adds to our own slot; false when its total would leave the range.
    pub(super) fn add(&mut self, db: Db, key: &KeyRef<'_>, field: Option<&[u8]>, by: Total, now: Now) -> bool {
        // Where an epoch opens, any reading will do that is above the slot's last one and not above the stamp.
        let at = self.keys.floor(db, key).hlc().next();
        let empty = Cell::default();
        let cell = match (self.keys.find(db, key).map(|entry| entry.view()), field) {
            (Some(View::Rich(state)), None) => &state.string,
            (Some(View::Rich(state)), Some(name)) => {
                let hash = state.hash.as_ref();
                match hash.and_then(|hash| hash.find(&self.realm, name)).map(|field| field.view()) {
                    Some(View::Rich(cell)) => cell,
                    _ => &empty,
                }
            }
            _ => &empty,
        };
        let Some(slot) = cell.incremented(OriginIdx::OWN, at, by) else { return false };
        let (epoch, total) = (slot.epoch, slot.total);
        let op = match field {
            None => Op::Add { epoch, total },
            Some(name) => Op::FieldAdd { name, epoch, total },
        };
        self.apply_local(db, key, &op, now);
        true
    }

    pub(super) fn clear(&mut self, db: Db, key: &KeyRef<'_>, now: Now) {
        let op = self.keys.find(db, key).map_or_else(Op::clear, clear_op);
        self.apply_local(db, key, &op, now);
    }

    /// Says what has been observed of a key's counters, for a flush that follows.
    pub(super) fn clear_counts(&mut self, db: Db, key: &KeyRef<'_>, now: Now) {
        let Some(View::Rich(state)) = self.keys.find(db, key).map(|entry| entry.view()) else { return };
        let op = state.clear_op();
        if matches!(&op, Op::Clear { observed, fields } if !observed.is_empty() || !fields.is_empty()) {
            self.apply_local(db, key, &op, now);
        }
    }

    // A write that keeps something of the key must not keep what has expired: our clock may be behind or ahead of
    // others', so the end of the old value is part of the write's effect. Nor may a key that ceased to exist with its
    // last field hand its deadline on; only that is taken back then, for others may have added fields meanwhile.
    #[inline]
    pub(super) fn start_over_if_gone(&mut self, db: Db, key: &KeyRef<'_>, now: Now) {
        let time_ms = self.time_ms(now);
        let Some(entry) = self.keys.find(db, key) else { return };
        let Some(at) = deadline_of(entry).and_then(|deadline| deadline.at) else { return };
        if at <= time_ms {
            self.clear(db, key, now);
        } else if visible(&self.realm, entry, time_ms).is_none() {
            self.set_deadline(db, key, None, now);
        }
    }
}

fn clear_op(entry: &Packed) -> Op<'static> {
    match entry.view() {
        View::Rich(state) => state.clear_op(),
        _ => Op::clear(),
    }
}

impl<'a> Value<'a> {
    /// The type a reader sees.
    pub fn kind(&self) -> Type {
        match self {
            Self::Bytes(_) | Self::Number(_) => Type::String,
            Self::Hash(_) => Type::Hash,
        }
    }

    /// The string's bytes; a counter is printed into `scratch`. `None` for other types.
    #[inline]
    pub fn bytes<'s>(&self, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        match *self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Number(fixed) => {
                scratch.clear();
                Total::print(fixed, scratch);
                Some(scratch)
            }
            Self::Hash(_) => None,
        }
    }

    /// The bytes of a string that was written whole, not counted.
    pub fn text(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The string as Redis reads integers.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Bytes(bytes) => crate::base::text::parse_i64(bytes),
            Self::Number(fixed) => Total::integer(*fixed),
            Self::Hash(_) => None,
        }
    }
}

/// What a reader sees of a packed key at `time_ms`; `None` when it is deleted or expired.
#[inline]
pub fn visible<'a>(realm: &Realm, entry: &'a Packed, time_ms: u64) -> Option<Found<'a>> {
    let deadline = deadline_of(entry).and_then(|deadline| deadline.at);
    if deadline.is_some_and(|at| at <= time_ms) {
        return None;
    }
    let value = match entry.view() {
        View::Plain { value, .. } => Value::Bytes(value),
        View::Tombstone { .. } => return None,
        View::Rich(state) => match state.visible_type(realm)? {
            Type::String => match state.string.visible() {
                Visible::Absent => return None,
                Visible::Bytes(bytes) => Value::Bytes(bytes),
                Visible::Number(fixed) => Value::Number(fixed),
            },
            Type::Hash => Value::Hash(state.hash.as_deref()?),
        },
    };
    Some(Found { value, deadline, packed: entry })
}
