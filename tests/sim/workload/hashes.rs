//! Hashes of plain fields: what their writes give when run in the order of their stamps.

use std::collections::BTreeMap;

use tutti::merge::op::Op;

use super::{Command, Draw, Seen, Workload, command};
use crate::ledger::{Event, Ledger};

pub struct Hashes;

impl Workload for Hashes {
    fn letter(&self) -> char {
        'h'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let (key, field, value) = (draw.key('h'), draw.field(), draw.value());
        let second = draw.field();
        match draw.rng.below(12) {
            0 | 1 if draw.resets => command(&[b"DEL", &key]),
            0..4 => command(&[b"HDEL", &key, &field]),
            4 => command(&[b"HDEL", &key, &field, &second]),
            5 => command(&[b"HSETNX", &key, &field, &value]),
            6 => command(&[b"HGETALL", &key]),
            7 if second != field => command(&[b"HSET", &key, &field, &value, &second, &draw.value()]),
            _ => command(&[b"HSET", &key, &field, &value]),
        }
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        let mut want = BTreeMap::new();
        for event in events {
            match event.op() {
                Op::Fields { fields } => {
                    for field in fields {
                        match field.value {
                            Some(value) => want.insert(field.name.to_vec(), value.to_vec()),
                            None => want.remove(field.name),
                        };
                    }
                }
                Op::Clear { .. } | Op::Flush => want.clear(),
                other => return Err(format!("no command of these keys leaves {other:?}")),
            }
        }
        let got = match seen {
            Seen::Absent => BTreeMap::new(),
            Seen::Hash(fields) => fields.clone(),
            Seen::Text(_) => return Err("a string".into()),
        };
        if got == want { Ok(()) } else { Err(format!("in the order of stamps it is {}", show(&want))) }
    }
}

fn show(fields: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    let text = |bytes: &Vec<u8>| crate::ledger::show(bytes);
    fields.iter().map(|(name, value)| format!("{}={} ", text(name), text(value))).collect()
}
