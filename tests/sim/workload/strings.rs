//! Strings: the last write by stamp is what is there.

use tutti::merge::op::Op;

use super::{Command, Draw, Seen, Workload, command};
use crate::ledger::{Event, Ledger, show};

/// Shared by all clients.
pub struct Strings;

impl Workload for Strings {
    fn letter(&self) -> char {
        's'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let (key, value) = (draw.key('s'), draw.value());
        match draw.rng.below(14) {
            0 | 1 => command(&[b"DEL", &key]),
            2 => command(&[b"SET", &key, &value, b"NX"]),
            3 => command(&[b"SET", &key, &value, b"XX"]),
            4 => command(&[b"APPEND", &key, &draw.short()]),
            5 => command(&[b"GETSET", &key, &value]),
            6 => command(&[b"GETDEL", &key]),
            7 => command(&[b"SETRANGE", &key, b"2", &value]),
            8 => command(&[b"GET", &key]),
            9 => command(&[b"SETNX", &key, &value]),
            _ => command(&[b"SET", &key, &value]),
        }
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        last_write_wins(events, seen)
    }
}

/// The last of SET, DEL and FLUSHALL decides.
pub fn last_write_wins(events: &[&Event], seen: &Seen) -> Result<(), String> {
    let last = events.last().map(|event| event.op());
    match (&last, seen) {
        (Some(Op::Set { value, .. }), Seen::Text(text)) if value == text => Ok(()),
        (None | Some(Op::Clear { .. } | Op::Flush), Seen::Absent) => Ok(()),
        (Some(Op::Set { value, .. }), _) => Err(format!("the last write is {}", show(value))),
        _ => Err("the last write is a delete".into()),
    }
}
