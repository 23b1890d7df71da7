//! The effect of one write on one key: what is applied, logged and sent. Joining an op twice, or late, is harmless.
//!
//! Effects, never recipes: an op holds the resulting register, field, deadline or own counter slot. The stamp travels
//! beside it (`shard::record`).

use smallvec::SmallVec;

use super::cell::SlotCount;
use super::origins::OriginIdx;
use super::stamp::Hlc;
use super::total::Total;
use crate::base::time::DeadlineMs;
use crate::mem::entry::NO_DEADLINE_MS;

/// The counter slots a reset had seen. Empty for keys that were never incremented, which is nearly always.
pub type Observations = SmallVec<[SlotCount; 0]>;

/// What a SET does to the deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetDeadline {
    /// KEEPTTL, APPEND, SETRANGE, ...: the deadline register is not written.
    Keep,
    /// A plain SET: no deadline.
    Clear,
    /// SET with EX, PX, EXAT, PXAT.
    At(DeadlineMs),
}

/// One hash field as a write leaves it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldWrite<'a> {
    /// The field.
    pub name: &'a [u8],
    /// Its value; `None` for HDEL.
    pub value: Option<&'a [u8]>,
    /// Counter slots of the field that the write had seen.
    pub observed: Observations,
}

/// See the file's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op<'a> {
    /// The string register; everything older in the key goes.
    Set {
        /// The whole new value.
        value: &'a [u8],
        /// What happens to the deadline.
        deadline: SetDeadline,
        /// Counter slots the write had seen.
        observed: Observations,
    },
    /// DEL: everything older in the key goes, whatever its type, and the deadline with it.
    Clear {
        /// Counter slots of the string that the delete had seen.
        observed: Observations,
        /// Counter fields of the hash that the delete had seen.
        fields: Vec<(Vec<u8>, Observations)>,
    },
    /// FLUSHDB, FLUSHALL: everything older in one partition (of one database, or of all) is gone. Has no key.
    Flush,
    /// INCR family: the writer's own slot afterwards. Its origin and last increment are the record's stamp.
    Add {
        /// When the slot's epoch began.
        epoch: Hlc,
        /// The sum since then.
        total: Total,
    },
    /// EXPIRE, PERSIST.
    Deadline {
        /// The new deadline; `None` for PERSIST.
        at: Option<DeadlineMs>,
    },
    /// HSET, HDEL: only the fields touched.
    Fields {
        /// At least one.
        fields: SmallVec<[FieldWrite<'a>; 1]>,
    },
    /// HINCRBY family: the writer's own slot of one field.
    FieldAdd {
        /// The field.
        name: &'a [u8],
        /// When the slot's epoch began.
        epoch: Hlc,
        /// The sum since then.
        total: Total,
    },
}

impl<'a> Op<'a> {
    /// A plain SET of a key that was never incremented.
    pub fn set(value: &'a [u8]) -> Self {
        Self::Set { value, deadline: SetDeadline::Clear, observed: Observations::new() }
    }

    /// A DEL of a key that was never incremented.
    pub fn clear() -> Self {
        Self::Clear { observed: Observations::new(), fields: Vec::new() }
    }

    /// One field of a hash that was never incremented.
    pub fn field(name: &'a [u8], value: Option<&'a [u8]>) -> Self {
        let mut fields = SmallVec::new();
        fields.push(FieldWrite { name, value, observed: Observations::new() });
        Self::Fields { fields }
    }

    /// Appends the wire and log form. Origins inside are the sender's local indices.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set { value, deadline, observed } => {
                let code = match deadline {
                    SetDeadline::Clear => SET,
                    SetDeadline::Keep => SET_KEEP,
                    SetDeadline::At(_) => SET_AT,
                };
                out.push(code | if observed.is_empty() { 0 } else { OBSERVED });
                if let SetDeadline::At(at) = deadline {
                    put_varint(out, *at);
                }
                put_observed(out, observed);
                // The value runs to the end of the record: no length of its own.
                out.extend_from_slice(value);
            }
            Self::Clear { observed, fields } => {
                out.push(CLEAR | if observed.is_empty() { 0 } else { OBSERVED });
                put_observed(out, observed);
                for (name, observed) in fields {
                    put_bytes(out, name);
                    put_varint(out, observed.len() as u64);
                    observed.iter().for_each(|slot| put_slot(out, slot));
                }
            }
            Self::Flush => out.push(FLUSH),
            Self::Add { epoch, total } => {
                out.push(ADD);
                put_varint(out, epoch.0);
                put_total(out, *total);
            }
            Self::Deadline { at } => {
                out.push(if at.is_some() { DEADLINE } else { PERSIST });
                if let Some(at) = at {
                    put_varint(out, *at);
                }
            }
            Self::Fields { fields } => {
                out.push(FIELDS);
                for field in fields {
                    let flags = u8::from(field.value.is_some()) | (u8::from(!field.observed.is_empty()) << 1);
                    out.push(flags);
                    put_bytes(out, field.name);
                    if let Some(value) = field.value {
                        put_bytes(out, value);
                    }
                    put_observed(out, &field.observed);
                }
            }
            Self::FieldAdd { name, epoch, total } => {
                out.push(FIELD_ADD);
                put_bytes(out, name);
                put_varint(out, epoch.0);
                put_total(out, *total);
            }
        }
    }

    /// Reads the whole of `bytes`; `origin` turns the sender's origin indices into ours. `None` for anything
    /// malformed.
    pub fn decode(bytes: &'a [u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Self> {
        let mut bytes = bytes;
        let input = &mut bytes;
        let (&code, rest) = input.split_first()?;
        *input = rest;
        let observed_flag = code & OBSERVED != 0;
        let op = match code & !OBSERVED {
            kind @ (SET | SET_KEEP | SET_AT) => {
                let deadline = match kind {
                    SET => SetDeadline::Clear,
                    SET_KEEP => SetDeadline::Keep,
                    _ => SetDeadline::At(take_deadline(input)?),
                };
                let observed = if observed_flag { take_observed(input, origin)? } else { Observations::new() };
                Self::Set { value: std::mem::take(input), deadline, observed }
            }
            CLEAR => {
                let observed = if observed_flag { take_observed(input, origin)? } else { Observations::new() };
                let mut fields = Vec::new();
                while !input.is_empty() {
                    fields.push((take_bytes(input)?.to_vec(), take_observed(input, origin)?));
                }
                Self::Clear { observed, fields }
            }
            FLUSH => Self::Flush,
            ADD => Self::Add { epoch: take_hlc(input)?, total: take_total(input)? },
            DEADLINE => Self::Deadline { at: Some(take_deadline(input)?) },
            PERSIST => Self::Deadline { at: None },
            FIELDS => {
                let mut fields = SmallVec::new();
                while let Some((&flags, rest)) = input.split_first() {
                    *input = rest;
                    let name = take_bytes(input)?;
                    let value = if flags & 1 != 0 { Some(take_bytes(input)?) } else { None };
                    let observed = if flags & 2 != 0 { take_observed(input, origin)? } else { Observations::new() };
                    fields.push(FieldWrite { name, value, observed });
                }
                Self::Fields { fields }
            }
            FIELD_ADD => {
                Self::FieldAdd { name: take_bytes(input)?, epoch: take_hlc(input)?, total: take_total(input)? }
            }
            _ => return None,
        };
        input.is_empty().then_some(op)
    }
}

const SET: u8 = 1;
const SET_KEEP: u8 = 2;
const SET_AT: u8 = 3;
const CLEAR: u8 = 4;
const ADD: u8 = 5;
const DEADLINE: u8 = 6;
const PERSIST: u8 = 7;
const FIELDS: u8 = 8;
const FIELD_ADD: u8 = 9;
const FLUSH: u8 = 10;
/// Added to a code when a list of observed slots follows.
const OBSERVED: u8 = 0x80;

/// Appends an unsigned number in 7-bit groups, least first.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes what [`put_varint`] wrote; `None` when cut short or longer than 10 bytes.
pub fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..10 {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes what [`put_bytes`] wrote.
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

/// Appends a sum: a form byte and the number.
pub fn put_total(out: &mut Vec<u8>, total: Total) {
    match total {
        Total::Int(int) => {
            out.push(0);
            put_varint(out, ((int << 1) ^ (int >> 63)) as u64);
        }
        Total::Fixed(fixed) => {
            out.push(1);
            out.extend_from_slice(&i128::from(fixed).to_le_bytes());
        }
    }
}

/// Takes what [`put_total`] wrote.
pub fn take_total(input: &mut &[u8]) -> Option<Total> {
    let (&form, rest) = input.split_first()?;
    *input = rest;
    match form {
        0 => {
            let zigzag = take_varint(input)?;
            Some(Total::Int((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)))
        }
        1 => {
            let (fixed, rest) = input.split_first_chunk::<16>()?;
            *input = rest;
            Some(i128::from_le_bytes(*fixed))
                .filter(|&fixed| Total::in_range(fixed))
                .map(|fixed| Total::Fixed(fixed.into()))
        }
        _ => None,
    }
}

/// Takes a reading; `None` for one that no stamp can hold.
pub fn take_hlc(input: &mut &[u8]) -> Option<Hlc> {
    Some(Hlc(take_varint(input)?)).filter(|&hlc| hlc <= Hlc::MAX)
}

/// Appends a counter slot.
pub fn put_slot(out: &mut Vec<u8>, slot: &SlotCount) {
    put_varint(out, u64::from(slot.origin.0));
    put_varint(out, slot.last.0);
    put_varint(out, slot.epoch.0);
    put_total(out, slot.total);
}

/// Takes what [`put_slot`] wrote.
pub fn take_slot(input: &mut &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<SlotCount> {
    let origin = origin(u16::try_from(take_varint(input)?).ok()?)?;
    let (last, epoch) = (take_hlc(input)?, take_hlc(input)?);
    Some(SlotCount { origin, last, epoch, total: take_total(input)? })
}

// The largest number means "no deadline" where keys are kept.
fn take_deadline(input: &mut &[u8]) -> Option<DeadlineMs> {
    take_varint(input).filter(|&at| at != NO_DEADLINE_MS)
}

fn put_observed(out: &mut Vec<u8>, observed: &Observations) {
    if !observed.is_empty() {
        put_varint(out, observed.len() as u64);
        observed.iter().for_each(|slot| put_slot(out, slot));
    }
}

fn take_observed(input: &mut &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Observations> {
    let count = take_varint(input)?;
    (0..count).map(|_| take_slot(input, origin)).collect()
}
