//! What clients write, and what must become of it. A data type adds a file here: its commands and its model.
//!
//! The first letter of a key is its workload's.

mod counters;
mod deadlines;
mod groups;
mod hashes;
mod mixed;
mod private;
mod strings;

use std::collections::BTreeMap;

use tutti::base::rng::Rng;
use tutti::resp::value::Value;

use crate::client::Memory;
use crate::ledger::{Event, Ledger};

/// One command of a client.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    pub args: Vec<Vec<u8>>,
}

/// What a reader sees of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Absent,
    Text(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// What a client may rely on in a reply.
#[derive(Clone, Debug)]
pub enum Expected {
    Anything,
    /// This text, or nothing.
    Text(Option<Vec<u8>>),
    Integer(i64),
    /// An array of equal elements.
    Equal,
}

/// A family of keys.
pub trait Workload: Sync {
    /// Its keys begin with this.
    fn letter(&self) -> char;

    /// The next command of a client.
    fn command(&self, draw: &mut Draw<'_>) -> Command;

    /// What the client may rely on; `memory` is what it has written to keys of its own.
    fn expected(&self, _command: &Command, _memory: &mut Memory) -> Expected {
        Expected::Anything
    }

    /// Whether a write leaves exactly one effect, and a command that fails none.
    fn is_exact(&self) -> bool {
        true
    }

    /// Whether a key must be what the writes that arrived everywhere make of it. `events`: those, in the order of
    /// their stamps, flushes of the key's partition among them.
    fn judge(&self, ledger: &Ledger, key: &[u8], events: &[&Event], seen: &Seen) -> Result<(), String>;
}

const ALL: &[&dyn Workload] = &[
    &counters::Counters,
    &hashes::Hashes,
    &counters::Fields,
    &strings::Strings,
    &deadlines::Deadlines,
    &mixed::Mixed,
    &private::Private,
    &groups::Groups,
];

/// The workload of a key.
pub fn of(key: &[u8]) -> Option<&'static dyn Workload> {
    ALL.iter().copied().find(|workload| key.first() == Some(&(workload.letter() as u8)))
}

/// What a run's workloads draw from.
pub struct Draw<'a> {
    pub rng: &'a mut Rng,
    pub client: usize,
    pub node: usize,
    /// How many keys a workload has.
    pub spread: u64,
    /// Whether counters and hashes are ever reset.
    pub resets: bool,
    /// Values fill backlogs.
    pub is_fat: bool,
    /// How far away deadlines are at most.
    pub deadline_ms_max: u64,
    /// Keys with deadlines come and go, and are left alone while so many others come.
    pub passing: Option<u64>,
    /// Never the same twice.
    serial: &'a mut u64,
}

impl Draw<'_> {
    /// A key of a workload; a few of them share a partition.
    pub fn key(&mut self, letter: char) -> Vec<u8> {
        let number = self.rng.below(self.spread);
        match number % 3 {
            0 => format!("{letter}{number}{{t}}").into_bytes(),
            _ => format!("{letter}{number}").into_bytes(),
        }
    }

    /// A key that is new now, and one that was new a while ago and has been left alone since.
    pub fn passing_keys(&mut self, letter: char) -> [Vec<u8>; 2] {
        let new = *self.serial / 4 + self.passing.unwrap_or_default() + 8;
        let old = *self.serial / 4 + self.rng.below(4);
        [new + self.rng.below(2), old].map(|number| format!("{letter}{number}").into_bytes())
    }

    /// A short value nobody has written before.
    pub fn short(&mut self) -> Vec<u8> {
        *self.serial += 1;
        format!("v{}", self.serial).into_bytes()
    }

    /// A value nobody has written before.
    pub fn value(&mut self) -> Vec<u8> {
        let mut value = self.short();
        if self.is_fat && self.rng.chance(3) {
            value.resize(2000 + self.rng.below(3000) as usize, b'.');
        }
        value
    }

    pub fn number(&mut self) -> i64 {
        1 + self.rng.below(9) as i64
    }

    pub fn field(&mut self) -> Vec<u8> {
        format!("f{}", self.rng.below(4)).into_bytes()
    }
}

/// A command from words.
pub fn command(words: &[&[u8]]) -> Command {
    Command { args: words.iter().map(|word| word.to_vec()).collect() }
}

/// Which workloads a run has, and how much of each.
pub struct Mix {
    weights: Vec<u64>,
    clients: Vec<usize>,
    spread: u64,
    resets: bool,
    is_fat: bool,
    deadline_ms_max: u64,
    passing: Option<u64>,
    pipeline_max: u64,
    flush_one_in: u64,
    serial: u64,
}

impl Mix {
    pub fn draw(rng: &mut Rng, _nodes: usize, clients: &[usize], is_fat: bool) -> Self {
        let one = rng.below(ALL.len() as u64) as usize;
        // Some faults show only where nearly all commands are of one kind.
        let is_pure = rng.chance(4);
        let mut weights: Vec<u64> =
            ALL.iter().map(|_| if !is_pure && rng.chance(2) { 1 + rng.below(8) } else { 0 }).collect();
        if weights.iter().all(|&weight| weight == 0) {
            weights[one] = 1;
        }
        Self {
            weights,
            clients: clients.to_vec(),
            spread: [1, 2, 4, 16, 64][rng.below(5) as usize],
            resets: !rng.chance(3),
            is_fat,
            // Clocks jump farther than that, so that a deadline is over for some nodes and not for others.
            deadline_ms_max: [200, 2000, 8000][rng.below(3) as usize],
            passing: rng.chance(2).then(|| 4 << rng.below(5)),
            pipeline_max: [1, 1, 4, if is_fat { 4 } else { 12 }][rng.below(4) as usize],
            flush_one_in: if rng.chance(8) { 100 } else { 0 },
            serial: 0,
        }
    }

    pub fn title(&self) -> String {
        let kinds: String =
            ALL.iter().zip(&self.weights).filter(|(_, weight)| **weight > 0).map(|(kind, _)| kind.letter()).collect();
        format!(
            "keys {kinds} x {}, flushes {}, resets {}, fat {}",
            self.spread,
            self.flush_one_in > 0,
            self.resets,
            self.is_fat
        )
    }

    pub fn pipeline(&mut self, rng: &mut Rng, client: usize) -> Vec<Command> {
        let count = 1 + rng.below(self.pipeline_max);
        (0..count).map(|_| self.command(rng, client)).collect()
    }

    fn command(&mut self, rng: &mut Rng, client: usize) -> Command {
        if self.flush_one_in > 0 && rng.chance(self.flush_one_in) {
            return command(&[if rng.chance(2) { b"FLUSHALL" } else { b"FLUSHDB" }]);
        }
        let mut left = rng.below(self.weights.iter().sum());
        let mut chosen = ALL[0];
        for (workload, &weight) in ALL.iter().zip(&self.weights) {
            if left < weight {
                chosen = *workload;
                break;
            }
            left -= weight;
        }
        let node = self.clients[client];
        chosen.command(&mut Draw {
            rng,
            client,
            node,
            spread: self.spread,
            resets: self.resets,
            is_fat: self.is_fat,
            deadline_ms_max: self.deadline_ms_max,
            passing: self.passing,
            serial: &mut self.serial,
        })
    }
}

/// What a client may rely on.
pub fn expected(command: &Command, memory: &mut Memory) -> Expected {
    let workload = command.args.get(1).and_then(|key| of(key));
    if matches!(command.args[0].as_slice(), b"FLUSHALL" | b"FLUSHDB") {
        memory.clear();
    }
    workload.map_or(Expected::Anything, |workload| workload.expected(command, memory))
}

/// What in a reply contradicts what its client may rely on.
pub fn contradiction(expected: &Expected, reply: &Value) -> Option<String> {
    let fits = match (expected, reply) {
        (Expected::Anything, _) => true,
        (Expected::Text(None), Value::Nil) => true,
        (Expected::Text(Some(text)), Value::Bulk(got)) => text == got,
        (Expected::Integer(number), Value::Integer(got)) => number == got,
        (Expected::Equal, Value::Array(all)) => all.windows(2).all(|pair| pair[0] == pair[1]),
        _ => false,
    };
    (!fits).then(|| format!("{reply:?} instead of {expected:?}"))
}

/// Errors a command may well meet.
pub fn is_usual(text: &str) -> bool {
    [
        "WRONGTYPE",
        "ERR value is not",
        "ERR hash value is not",
        "ERR no such key",
        "ERR increment",
        "ERR source and",
        "ERR Background",
        // Nobody has met it, or it is back.
        "ERR node",
        "ERR no other node is linked",
        "LOADING",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}

/// Which keys a command writes how often, as its reply says; without a reply: at most.
pub fn writes<'a>(args: &'a [Vec<u8>], reply: Option<&Value>) -> Vec<(&'a [u8], u64)> {
    let Some(key) = args.get(1).map(Vec::as_slice) else { return Vec::new() };
    let one = |wrote: bool| if wrote { vec![(key, 1)] } else { Vec::new() };
    let is_error = matches!(reply, Some(Value::Error(_)));
    let positive = matches!(reply, None | Some(Value::Integer(1..)));
    match args[0].as_slice() {
        b"SET" => one(!matches!(reply, Some(Value::Nil)) && !is_error),
        b"INCR" | b"INCRBY" | b"DECRBY" | b"APPEND" | b"SETRANGE" | b"HSET" | b"HINCRBY" | b"GETSET" => one(!is_error),
        b"SETNX" | b"HSETNX" | b"HDEL" => one(positive),
        b"GETDEL" => one(!matches!(reply, Some(Value::Nil)) && !is_error),
        b"DEL" if args.len() == 2 => one(positive),
        b"DEL" if reply.is_none() => args[1..].iter().map(|key| (key.as_slice(), 1)).collect(),
        b"MSET" => args[1..].iter().step_by(2).map(|key| (key.as_slice(), 1)).collect(),
        _ => Vec::new(),
    }
}
