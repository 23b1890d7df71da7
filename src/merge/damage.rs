//! What a failing memory or a bug might do to a key, for tests of what finds it (DEBUG DAMAGE). Nothing is told of it:
//! neither digests nor other nodes.

use super::cell::Cell;
use super::hash::Field;
use super::key::KeyState;
use super::realm::Realm;
use super::stamp::{Hlc, Stamp};

/// What is done to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// A byte of its value, or a sum.
    Value,
    /// When it was written.
    Stamp,
    /// It is gone without a trace.
    Absence,
}

/// The stamp a moment before.
pub fn earlier(stamp: Stamp) -> Stamp {
    Stamp::new(Hlc(stamp.hlc().0.saturating_sub(1)), stamp.origin())
}

impl KeyState {
    /// Damages the string part, or some field. False: there is nothing of that kind.
    pub fn damage(&mut self, realm: &Realm, damage: Damage) -> bool {
        if self.string.is_live() {
            return of_cell(&mut self.string, damage);
        }
        self.hash.as_mut().and_then(|hash| hash.first_live(realm)).is_some_and(|field| of_field(field, damage))
    }
}

fn of_field(field: &mut Field, damage: Damage) -> bool {
    if let Some(cell) = field.rich_mut() {
        return of_cell(cell, damage);
    }
    match damage {
        Damage::Stamp => field.set_stamp(earlier(Stamp::from_raw(field.stamp())).raw()),
        Damage::Value | Damage::Absence => return field.value_mut().is_some_and(of_bytes),
    }
    true
}

fn of_cell(cell: &mut Cell, damage: Damage) -> bool {
    if let Some(value) = &mut cell.value {
        if damage == Damage::Value {
            return of_bytes(value);
        }
        cell.stamp = earlier(cell.stamp);
        return true;
    }
    let Some(slot) = cell.slots.first_mut() else { return false };
    match damage {
        Damage::Stamp => slot.last = Hlc(slot.last.0.saturating_sub(1)),
        Damage::Value | Damage::Absence => match slot.total.checked_add(super::total::Total::Int(1)) {
            Some(total) => slot.total = total,
            None => return false,
        },
    }
    true
}

/// Changes one bit. False: there is none.
pub fn of_bytes(bytes: &mut [u8]) -> bool {
    let at = bytes.len() / 2;
    bytes.get_mut(at).map(|byte| *byte ^= 1).is_some()
}
