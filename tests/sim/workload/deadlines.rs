//! Keys of all types with deadlines: nodes agree, and in the end every key whose last word was a deadline is gone.

use super::{Command, Draw, Seen, Workload, command};
use crate::ledger::{Event, Ledger};

pub struct Deadlines;

impl Workload for Deadlines {
    fn letter(&self) -> char {
        'x'
    }

    fn command(&self, draw: &mut Draw<'_>) -> Command {
        if draw.passing.is_some() {
            return passing(draw);
        }
        let (key, value, field) = (draw.key('x'), draw.value(), draw.field());
        let ms = (10 + draw.rng.below(draw.deadline_ms_max)).to_string().into_bytes();
        let by = draw.number().to_string().into_bytes();
        match draw.rng.below(16) {
            0 => command(&[b"DEL", &key]),
            1 => command(&[b"SET", &key, &value]),
            2 => command(&[b"SET", &key, &value, b"KEEPTTL"]),
            3 | 4 => command(&[b"SET", &key, &by, b"PX", &ms]),
            5 => command(&[b"PERSIST", &key]),
            6 => command(&[b"HSET", &key, &field, &value]),
            7 => command(&[b"HINCRBY", &key, &field, &by]),
            8 => command(&[b"GETEX", &key, b"PX", &ms]),
            9 => command(&[b"HDEL", &key, &field]),
            10 => command(&[b"PEXPIRE", &key, &ms, b"NX"]),
            11 | 12 => command(&[b"PEXPIRE", &key, &ms]),
            _ => command(&[b"INCRBY", &key, &by]),
        }
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn judge(&self, _: &Ledger, _: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String> {
        super::mixed::nothing_invented(events, seen)
    }
}

// Keys that end soon, are left alone, and begin anew about when some nodes know that their end is final and others do
// not. What became of them is there in the end.
fn passing(draw: &mut Draw<'_>) -> Command {
    let ([new, old], value) = (draw.passing_keys('x'), draw.value());
    let ms = (10 + draw.rng.below(200)).to_string().into_bytes();
    let by = draw.number().to_string().into_bytes();
    match draw.rng.below(12) {
        0 | 1 => command(&[b"INCRBY", &new, &by]),
        2 => command(&[b"SET", &new, &by, b"PX", &ms]),
        3..6 => command(&[b"PEXPIRE", &new, &ms]),
        6 => command(&[b"PERSIST", &old]),
        7 => command(&[b"SET", &old, &value]),
        _ => command(&[b"INCRBY", &old, &by]),
    }
}
