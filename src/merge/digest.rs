//! What of a key counts when two nodes compare: a number that is equal where the same writes have been joined, in
//! whatever order, however the key is packed, and whatever has been forgotten meanwhile.
//!
//! Counted are the registers that hold a value, what each origin's slot still adds, and the deadline in force; each by
//! its stamp, which names the write and with it the bytes (a slot's sum besides, since resets change it). Not counted
//! are memories: clear stamps, deleted registers and fields, wiped slots, observations, deadlines taken away. Nodes
//! forget those at their own time. Of a key whose deadline `is_over` only what outlives it counts
//! ([`Deadline::outlived_by`]), because that is what is left when it ends for good, which it also does at its own time
//! on every node.
//!
//! Nothing here looks at the bytes of a value: that would cost a SET as much again as copying it. [`contents`] does.

use super::cell::{Cell, SlotCount};
use super::hash::Field;
use super::key::{Deadline, KeyState};
use super::realm::Realm;
use super::stamp::Stamp;
use crate::base::ids::Db;
use crate::base::mix::{hash, mix};
use crate::mem::entry::View;

const DEADLINE: u64 = 0x9e37_79b9_7f4a_7c15;
const COUNT: u64 = 0xc2b2_ae3d_27d4_eb4f;
const FIELDS: u64 = 0x1656_67b1_9e37_79f9;
const FIELD: u64 = 0x27d4_eb2f_1656_67c5;

/// The name under which a key is digested on every node.
#[inline]
pub fn key_id(db: Db, key: &[u8]) -> u64 {
    hash(u64::from(db.0), key)
}

/// The name of a field within its key.
#[inline]
fn field_id(name: &[u8]) -> u64 {
    hash(FIELD, name)
}

/// A register that holds a value.
#[inline]
pub fn of_register(realm: &Realm, id: u64, stamp: Stamp) -> u64 {
    // The shortest there is, because every SET does it twice.
    mix(id ^ realm.origins.salt(stamp.origin()), stamp.hlc().0)
}

/// A deadline in force.
#[inline]
pub fn of_deadline(realm: &Realm, id: u64, stamp: Stamp, at: u64) -> u64 {
    mix(id ^ DEADLINE, mix(of_stamp(realm, stamp), at))
}

/// A lone register with its deadline register; `is_over`: the deadline's time has come.
#[inline]
pub fn of_plain(realm: &Realm, id: u64, stamp: Stamp, deadline: Option<Deadline>, is_over: bool) -> u64 {
    let Some(Deadline { stamp: by, at: Some(at) }) = deadline else { return of_register(realm, id, stamp) };
    if !is_over {
        return of_register(realm, id, stamp).wrapping_add(of_deadline(realm, id, by, at));
    }
    if Deadline::outlived_by(realm, by, at, stamp) { of_register(realm, id, stamp) } else { 0 }
}

/// A whole key; `is_over` as above. Of a hash the sum that it keeps (`Hash::digest`).
pub fn of_state(realm: &Realm, id: u64, state: &KeyState, is_over: bool) -> u64 {
    of_state_with(realm, id, state, is_over, state.hash.as_ref().map_or(0, |hash| hash.digest()))
}

/// As [`of_state`], with the sum of a hash's fields counted again.
pub fn of_state_counted(realm: &Realm, id: u64, state: &KeyState, is_over: bool) -> u64 {
    of_state_with(realm, id, state, is_over, state.hash.as_ref().map_or(0, |hash| hash.counted_digest(realm)))
}

fn of_state_with(realm: &Realm, id: u64, state: &KeyState, is_over: bool, fields: u64) -> u64 {
    let parts = || of_cell(realm, id, &state.string).wrapping_add(of_field_sum(id, fields));
    let Some(Deadline { stamp: by, at: Some(at) }) = state.deadline else { return parts() };
    if !is_over {
        return parts().wrapping_add(of_deadline(realm, id, by, at));
    }
    let outlives = |stamp: Stamp| Deadline::outlived_by(realm, by, at, stamp);
    let string = of_cell_if(realm, id, &state.string, &outlives);
    let Some(hash) = state.hash.as_deref().filter(|hash| outlives(hash.newest())) else { return string };
    let fields = hash.iter().fold(0u64, |sum, field| sum.wrapping_add(of_field_if(realm, field, &outlives)));
    string.wrapping_add(of_field_sum(id, fields))
}

/// A cell under the name `id`.
pub fn of_cell(realm: &Realm, id: u64, cell: &Cell) -> u64 {
    of_cell_if(realm, id, cell, &|_| true)
}

/// A packed field within its hash; `Hash::digest` is the sum of these.
pub fn of_field(realm: &Realm, field: &Field) -> u64 {
    of_field_if(realm, field, &|_| true)
}

/// A field that is a lone register.
#[inline]
pub fn of_plain_field(realm: &Realm, name: &[u8], stamp: Stamp) -> u64 {
    of_register(realm, field_id(name), stamp)
}

/// A field's cell.
pub fn of_field_cell(realm: &Realm, name: &[u8], cell: &Cell) -> u64 {
    of_cell(realm, field_id(name), cell)
}

/// The bytes of every value in a key, deadlines aside. Where two nodes count a key alike, this must be alike too, or
/// the bytes of one are damaged.
pub fn contents(realm: &Realm, id: u64, view: View<'_, KeyState>) -> u64 {
    match view {
        View::Plain { stamp, value, .. } => of_value(realm, id, Stamp::from_raw(stamp), value),
        View::Tombstone { .. } => 0,
        View::Rich(state) => {
            let string = state.string.value.as_deref();
            let string = string.map_or(0, |value| of_value(realm, id, state.string.stamp, value));
            let fields = state.hash.iter().flat_map(|hash| hash.iter()).map(|field| {
                let id = field_id(field.key());
                match field.view() {
                    View::Plain { stamp, value, .. } => of_value(realm, id, Stamp::from_raw(stamp), value),
                    View::Tombstone { .. } => 0,
                    View::Rich(cell) => cell.value.as_deref().map_or(0, |value| of_value(realm, id, cell.stamp, value)),
                }
            });
            string.wrapping_add(of_field_sum(id, fields.fold(0, u64::wrapping_add)))
        }
    }
}

#[inline]
fn of_value(realm: &Realm, id: u64, stamp: Stamp, value: &[u8]) -> u64 {
    mix(of_register(realm, id, stamp), hash(COUNT, value))
}

#[inline]
fn of_stamp(realm: &Realm, stamp: Stamp) -> u64 {
    mix(realm.origins.salt(stamp.origin()), stamp.hlc().0)
}

fn of_field_sum(id: u64, sum: u64) -> u64 {
    if sum == 0 { 0 } else { mix(id ^ FIELDS, sum) }
}

fn of_field_if(realm: &Realm, field: &Field, counts: &impl Fn(Stamp) -> bool) -> u64 {
    match field.view() {
        View::Plain { stamp, .. } => {
            let stamp = Stamp::from_raw(stamp);
            if counts(stamp) { of_plain_field(realm, field.key(), stamp) } else { 0 }
        }
        View::Tombstone { .. } => 0,
        View::Rich(cell) => of_cell_if(realm, field_id(field.key()), cell, counts),
    }
}

fn of_cell_if(realm: &Realm, id: u64, cell: &Cell, counts: &impl Fn(Stamp) -> bool) -> u64 {
    let register = if cell.value.is_some() && counts(cell.stamp) { of_register(realm, id, cell.stamp) } else { 0 };
    cell.slots.iter().filter(|slot| counts(slot.dot())).fold(register, |sum, slot| {
        sum.wrapping_add(cell.unobserved(slot).map_or(0, |part| of_count(realm, id, slot, part)))
    })
}

/// A counter slot of which no reset has seen anything, in a cell under the name `id`.
#[inline]
pub fn of_slot(realm: &Realm, id: u64, slot: &SlotCount) -> u64 {
    of_count(realm, id, slot, slot.total.fixed())
}

#[inline]
fn of_count(realm: &Realm, id: u64, slot: &SlotCount, part: i128) -> u64 {
    mix(id ^ COUNT, mix(of_stamp(realm, slot.dot()), mix(part as u64, (part >> 64) as u64)))
}
