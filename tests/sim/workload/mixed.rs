//! Keys of every type, and commands that take from one key and give to another: nodes agree, and nothing is there that
//! nobody wrote.

use tutti::base::text::parse_i64;
use tutti::merge::op::Op;

use super::{Command, Draw, Seen, Workload, command};
use crate::ledger::{Event, Ledger, show};

pub struct Mixed;

impl Workload for Mixed {
    fn letter(&self) -> char {
        'm'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let (key, other, value, field) = (draw.key('m'), draw.key('m'), draw.value(), draw.field());
        let by = draw.number().to_string().into_bytes();
        match draw.rng.below(16) {
            0 => command(&[b"DEL", &key]),
            1 => command(&[b"DEL", &key, &other]),
            2 | 3 => command(&[b"RENAME", &key, &other]),
            4 => command(&[b"COPY", &key, &other, b"REPLACE"]),
            5 => command(&[b"MSETNX", &key, &value, &other, &value]),
            6 => command(&[b"RENAMENX", &key, &other]),
            7 => command(&[b"SETBIT", &key, b"7", b"1"]),
            8 => command(&[b"HDEL", &key, &field]),
            9 => command(&[b"HINCRBY", &key, &field, &by]),
            10 | 11 => command(&[b"HSET", &key, &field, &value]),
            12 | 13 => command(&[b"INCRBY", &key, &by]),
            _ => command(&[b"SET", &key, &value]),
        }
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        nothing_invented(events, seen)
    }
}

/// Every value was written, or is a count.
pub fn nothing_invented(events: &[&Event], seen: &Seen) -> Result<(), String> {
    let is_written = |text: &[u8], name: Option<&[u8]>| {
        parse_i64(text).is_some()
            || events.iter().any(|event| match event.op() {
                Op::Set { value, .. } => name.is_none() && value == text,
                Op::Fields { fields } => {
                    fields.iter().any(|field| Some(field.name) == name && field.value == Some(text))
                }
                _ => false,
            })
    };
    let invented = match seen {
        Seen::Absent => None,
        Seen::Text(text) => (!is_written(text, None)).then_some(text),
        Seen::Hash(fields) => {
            fields.iter().find(|(name, value)| !is_written(value, Some(name))).map(|(_, value)| value)
        }
    };
    match invented {
        Some(text) => Err(format!("nobody wrote {}", show(text))),
        None => Ok(()),
    }
}
