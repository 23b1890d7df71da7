//! Keys only one client writes, through one node: it reads its own writes.

use super::{Command, Draw, Expected, Seen, Workload, command};
use crate::client::Memory;
use crate::ledger::{Event, Ledger};

pub struct Private;

impl Workload for Private {
    fn letter(&self) -> char {
        'p'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let key = format!("p{}.{}", draw.client, draw.rng.below(draw.spread.min(6))).into_bytes();
        let value = draw.value();
        match draw.rng.below(8) {
            0 => command(&[b"DEL", &key]),
            1 => command(&[b"APPEND", &key, &draw.short()]),
            2..5 => command(&[b"SET", &key, &value]),
            _ => command(&[b"GET", &key]),
        }
    }

    fn expected(&self, command: &Command, memory: &mut Memory) -> Expected {
        let args = &command.args;
        let key = &args[1];
        let known = memory.get(key).cloned();
        match args[0].as_slice() {
            b"SET" => {
                memory.insert(key.clone(), Some(args[2].clone()));
                Expected::Anything
            }
            b"DEL" => {
                memory.insert(key.clone(), None);
                known.map_or(Expected::Anything, |known| Expected::Integer(i64::from(known.is_some())))
            }
            b"APPEND" => {
                let Some(known) = known else { return Expected::Anything };
                let mut text = known.unwrap_or_default();
                text.extend_from_slice(&args[2]);
                let len = text.len();
                memory.insert(key.clone(), Some(text));
                Expected::Integer(len as i64)
            }
            _ => known.map_or(Expected::Anything, Expected::Text),
        }
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        super::strings::last_write_wins(events, seen)
    }
}
