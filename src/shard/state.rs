//! A key's whole state as bytes: what full merges, snapshots and gathered transactions carry.
//!
//! Origins are local indices of the writer; the reader turns them into its own.

use crate::mem::entry::View;
use crate::merge::cell::{Cell, Observed};
use crate::merge::hash::{Field, Hash, unpack};
use crate::merge::key::{Deadline, KeyState};
use crate::merge::op::{put_bytes, put_slot, put_varint, take_bytes, take_slot, take_varint};
use crate::merge::origins::OriginIdx;
use crate::merge::realm::Realm;
use crate::merge::stamp::{Hlc, Stamp};
use crate::store::keyspace::Packed;

const PLAIN: u8 = 0;
const PLAIN_DEADLINE: u8 = 1;
const TOMBSTONE: u8 = 2;
const RICH: u8 = 3;

const CELL_REGISTER: u8 = 1;
const CELL_VALUE: u8 = 2;
const CELL_SLOTS: u8 = 4;
const CELL_OBSERVED: u8 = 8;

/// Appends the state of a packed key.
pub fn encode(entry: &Packed, out: &mut Vec<u8>) {
    match entry.view() {
        View::Plain { stamp, value, deadline } => {
            out.push(if deadline.is_some() { PLAIN_DEADLINE } else { PLAIN });
            put_stamp(out, Stamp::from_raw(stamp));
            if let Some((stamp, at)) = deadline {
                put_stamp(out, Stamp::from_raw(stamp));
                put_varint(out, at);
            }
            put_bytes(out, value);
        }
        View::Tombstone { stamp } => {
            out.push(TOMBSTONE);
            put_stamp(out, Stamp::from_raw(stamp));
        }
        View::Rich(state) => {
            out.push(RICH);
            put_stamp(out, state.clear);
            out.push(u8::from(state.deadline.is_some()));
            if let Some(deadline) = state.deadline {
                put_deadline(out, deadline);
            }
            put_cell(out, &state.string);
            let fields = state.hash.as_ref().map_or(0, |hash| hash.iter().count());
            put_varint(out, fields as u64);
            for field in state.hash.iter().flat_map(|hash| hash.iter()) {
                put_bytes(out, field.key());
                put_field(out, field);
            }
        }
    }
}

/// Takes a state. `origin` turns the writer's origin indices into ours. `None`: malformed.
pub fn decode(realm: &Realm, input: &mut &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<KeyState> {
    let kind = take_byte(input)?;
    let clear = take_stamp(input, origin)?;
    let mut state = KeyState { clear, ..KeyState::default() };
    match kind {
        PLAIN | PLAIN_DEADLINE => {
            if kind == PLAIN_DEADLINE {
                state.deadline = Some(take_deadline(input, origin)?);
            }
            state.string.stamp = clear;
            state.string.value = Some(Box::from(take_bytes(input)?));
        }
        TOMBSTONE => {}
        RICH => {
            if take_byte(input)? != 0 {
                state.deadline = Some(take_deadline(input, origin)?);
            }
            state.string = take_cell(input, origin)?;
            let fields = take_varint(input)?;
            let mut hash = Hash::default();
            for _ in 0..fields {
                let name = take_bytes(input)?;
                hash.join_cell(realm, Stamp::ZERO, name, &take_cell(input, origin)?);
            }
            if fields > 0 {
                state.hash = Some(Box::new(hash));
            }
        }
        _ => return None,
    }
    Some(state)
}

/// Appends a stamp.
pub fn put_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    put_varint(out, stamp.hlc().0);
    put_varint(out, u64::from(stamp.origin().0));
}

/// Takes what [`put_stamp`] wrote.
pub fn take_stamp(input: &mut &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Stamp> {
    let hlc = Hlc(take_varint(input)?);
    if hlc > Hlc::MAX {
        return None;
    }
    let index = u16::try_from(take_varint(input)?).ok()?;
    // A stamp of zero was never written and has no origin.
    if hlc == Hlc::ZERO { Some(Stamp::ZERO) } else { Some(Stamp::new(hlc, origin(index)?)) }
}

fn put_field(out: &mut Vec<u8>, field: &Field) {
    match field.view() {
        View::Plain { stamp, value, .. } => {
            out.push(CELL_REGISTER | CELL_VALUE);
            put_stamp(out, Stamp::from_raw(stamp));
            put_bytes(out, value);
        }
        _ => put_cell(out, &unpack(field)),
    }
}

/// Appends a cell.
pub fn put_cell(out: &mut Vec<u8>, cell: &Cell) {
    let flag = |flag: u8, set: bool| if set { flag } else { 0 };
    out.push(
        flag(CELL_REGISTER, !cell.stamp.is_zero())
            | flag(CELL_VALUE, cell.value.is_some())
            | flag(CELL_SLOTS, !cell.slots.is_empty())
            | flag(CELL_OBSERVED, !cell.observed.is_empty()),
    );
    if !cell.stamp.is_zero() {
        put_stamp(out, cell.stamp);
    }
    if let Some(value) = &cell.value {
        put_bytes(out, value);
    }
    if !cell.slots.is_empty() {
        put_varint(out, cell.slots.len() as u64);
        cell.slots.iter().for_each(|slot| put_slot(out, slot));
    }
    if !cell.observed.is_empty() {
        put_varint(out, cell.observed.len() as u64);
        for seen in &cell.observed {
            put_slot(out, &seen.slot);
            put_stamp(out, seen.by);
        }
    }
}

/// Takes what [`put_cell`] wrote.
pub fn take_cell(input: &mut &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Cell> {
    let flags = take_byte(input)?;
    let mut cell = Cell::default();
    if flags & CELL_REGISTER != 0 {
        cell.stamp = take_stamp(input, origin)?;
    }
    if flags & CELL_VALUE != 0 {
        cell.value = Some(Box::from(take_bytes(input)?));
    }
    if flags & CELL_SLOTS != 0 {
        for _ in 0..take_varint(input)? {
            cell.slots.push(take_slot(input, origin)?);
        }
    }
    if flags & CELL_OBSERVED != 0 {
        for _ in 0..take_varint(input)? {
            cell.observed.push(Observed { slot: take_slot(input, origin)?, by: take_stamp(input, origin)? });
        }
    }
    Some(cell)
}

/// Appends a deadline register.
pub fn put_deadline(out: &mut Vec<u8>, deadline: Deadline) {
    put_stamp(out, deadline.stamp);
    put_varint(out, deadline.at.unwrap_or(u64::MAX));
}

/// Takes a deadline register: stamp and Unix milliseconds, all ones for none.
pub fn take_deadline(input: &mut &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Deadline> {
    let stamp = take_stamp(input, origin)?;
    let at = take_varint(input)?;
    Some(Deadline { stamp, at: (at != u64::MAX).then_some(at) })
}

/// Takes one byte.
pub fn take_byte(input: &mut &[u8]) -> Option<u8> {
    let (&byte, rest) = input.split_first()?;
    *input = rest;
    Some(byte)
}
