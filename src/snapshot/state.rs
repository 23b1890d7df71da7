//! What a key knows beyond its plain form: the value of the AUX field in front of it.
//!
//! A lone register leaves its value to the plain form, a hash the names of its live fields and the values of those
//! that are lone registers, in the order of the plain form. Everything rarer is written whole (`shard::state`).

use super::read::Plain;
use crate::mem::entry::View;
use crate::merge::cell::Cell;
use crate::merge::hash::{Hash, unpack};
use crate::merge::key::KeyState;
use crate::merge::op::{Observations, put_bytes, put_varint, take_bytes, take_varint};
use crate::merge::origins::OriginIdx;
use crate::merge::realm::Realm;
use crate::merge::stamp::Stamp;
use crate::shard::hash::field_value;
use crate::shard::state::{
    decode, encode, put_cell, put_deadline, put_stamp, take_byte, take_cell, take_deadline, take_stamp,
};
use crate::shard::write::Value;
use crate::store::keyspace::{Packed, deadline_of};

const PLAIN: u8 = 0;
const PLAIN_DEADLINE: u8 = 1;
const WHOLE: u8 = 2;
const HASH: u8 = 3;

/// A field that is only a register whose value stands in the plain form.
const SHOWN: u8 = 0x80;

/// Appends what `entry` knows beyond `value`, which is what a reader sees of it.
pub fn put(entry: &Packed, value: &Value<'_>, out: &mut Vec<u8>) {
    match (entry.view(), value) {
        (View::Plain { stamp, .. }, _) => {
            let deadline = deadline_of(entry);
            out.push(if deadline.is_some() { PLAIN_DEADLINE } else { PLAIN });
            put_stamp(out, Stamp::from_raw(stamp));
            if let Some(deadline) = deadline {
                put_deadline(out, deadline);
            }
        }
        (View::Rich(state), Value::Hash(hash)) => {
            out.push(HASH);
            put_stamp(out, state.clear);
            out.push(u8::from(state.deadline.is_some()));
            if let Some(deadline) = state.deadline {
                put_deadline(out, deadline);
            }
            put_cell(out, &state.string);
            put_hash(hash, out);
        }
        _ => {
            out.push(WHOLE);
            encode(entry, out);
        }
    }
}

fn put_hash(hash: &Hash, out: &mut Vec<u8>) {
    let mut hidden = 0u64;
    for field in hash.iter() {
        match (field_value(field), field.view()) {
            (None, _) => hidden += 1,
            (Some(_), View::Plain { stamp, .. }) => {
                out.push(SHOWN);
                put_stamp(out, Stamp::from_raw(stamp));
            }
            _ => put_cell(out, &unpack(field)),
        }
    }
    put_varint(out, hidden);
    for field in hash.iter().filter(|field| field_value(field).is_none()) {
        put_bytes(out, field.key());
        put_cell(out, &unpack(field));
    }
}

/// The state that [`put`] wrote beside `value`. `None`: malformed.
pub fn take(
    realm: &Realm,
    input: &[u8],
    value: &Plain<'_>,
    origin: &impl Fn(u16) -> Option<OriginIdx>,
) -> Option<KeyState> {
    let mut input = input;
    let input = &mut input;
    let kind = take_byte(input)?;
    let state = match (kind, value) {
        (PLAIN | PLAIN_DEADLINE, Plain::String(bytes)) => {
            let mut state = KeyState { clear: take_stamp(input, origin)?, ..KeyState::default() };
            if kind == PLAIN_DEADLINE {
                state.deadline = Some(take_deadline(input, origin)?);
            }
            state.string = Cell { stamp: state.clear, value: Some(Box::from(*bytes)), ..Cell::default() };
            state
        }
        (WHOLE, _) => decode(realm, input, origin)?,
        (HASH, Plain::Hash(fields)) => {
            let mut state = KeyState { clear: take_stamp(input, origin)?, ..KeyState::default() };
            if take_byte(input)? != 0 {
                state.deadline = Some(take_deadline(input, origin)?);
            }
            state.string = take_cell(input, origin)?;
            let hash = state.hash_mut();
            for (name, value) in fields.iter() {
                if input.first() == Some(&SHOWN) {
                    take_byte(input)?;
                    let stamp = take_stamp(input, origin)?;
                    hash.join_field(realm, Stamp::ZERO, stamp, name, Some(value), &Observations::new());
                } else {
                    hash.join_cell(realm, Stamp::ZERO, name, &take_cell(input, origin)?);
                }
            }
            for _ in 0..take_varint(input)? {
                let name = take_bytes(input)?;
                hash.join_cell(realm, Stamp::ZERO, name, &take_cell(input, origin)?);
            }
            state
        }
        _ => return None,
    };
    input.is_empty().then_some(state)
}
