//! Groups of keys over several shards, written whole by clients of one node: readers there see all or nothing of a
//! write.

use super::{Command, Draw, Expected, Seen, Workload, command};
use crate::client::Memory;
use crate::ledger::{Event, Ledger};

pub struct Groups;

/// Keys of a group.
const SIZE: usize = 4;

impl Workload for Groups {
    fn letter(&self) -> char {
        'g'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        let node = draw.node;
        let keys: Vec<Vec<u8>> = (0..SIZE).map(|at| format!("g{node}.{at}").into_bytes()).collect();
        let mut words: Vec<&[u8]> = Vec::new();
        let value = draw.value();
        match draw.rng.below(6) {
            0..3 => {
                words.push(b"MSET");
                keys.iter().for_each(|key| words.extend([key.as_slice(), &value]));
            }
            3 => {
                words.push(b"DEL");
                words.extend(keys.iter().map(Vec::as_slice));
            }
            _ => {
                words.push(b"MGET");
                words.extend(keys.iter().map(Vec::as_slice));
            }
        }
        command(&words)
    }

    fn expected(&self, command: &Command, _: &mut Memory) -> Expected {
        if command.args[0] == b"MGET" { Expected::Equal } else { Expected::Anything }
    }

    // How many of its keys a DEL of a whole group has found is not said of each.
    fn is_exact(&self) -> bool {
        false
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        super::strings::last_write_wins(events, seen)
    }
}
