//! What was really written: every effect any core minted, read from its backlog as it is minted, and what clients were
//! told of it. Watches the streams while the run goes on: stamps grow, no dot is used twice, nothing is passed on that
//! nobody wrote.

use std::collections::{BTreeMap, BTreeSet};

use tutti::base::slot::slot_of;
use tutti::merge::op::{Op, SetDeadline};
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::shard::record;
use tutti::snapshot::load;

use crate::node::Node;
use crate::world::World;

/// A stream: the origin's number in the ledger, and the partition.
pub type Stream = (u16, u8);

/// One effect as it was minted.
#[derive(Clone, Debug)]
pub struct Event {
    pub origin: u16,
    pub partition: u8,
    pub hlc: u64,
    /// With `origin`s as the ledger numbers them.
    op: Box<[u8]>,
    /// What its writer had applied of the partition, by origin.
    past: Vec<(u16, u64)>,
}

impl Event {
    pub fn op(&self) -> Op<'_> {
        Op::decode(&self.op, &|index| Some(OriginIdx(index))).expect("encoded by the ledger")
    }

    /// Whether its writer had applied `other` before.
    pub fn has_seen(&self, other: &Self) -> bool {
        self.past.iter().any(|&(origin, hlc)| origin == other.origin && other.hlc <= hlc)
    }
}

/// Writes of one key by one life of a node.
#[derive(Clone, Copy, Default, Debug)]
pub struct Count {
    pub minted: u64,
    /// Commands whose reply says that they wrote.
    pub told: u64,
    /// Writes whose outcome was not heard.
    pub unknown: u64,
}

/// See the file's head.
#[derive(Default)]
pub struct Ledger {
    pub origins: Vec<OriginId>,
    numbers: BTreeMap<OriginId, u16>,
    /// By key.
    pub keys: BTreeMap<Vec<u8>, Vec<Event>>,
    pub flushes: Vec<Event>,
    last: BTreeMap<Stream, u64>,
    dots: BTreeMap<(Stream, u64), u32>,
    /// By life of a node: the last of a stream's writes that it has passed on.
    passed: BTreeMap<(usize, u32, Stream), u64>,
    pub counts: BTreeMap<(usize, u32, Vec<u8>), Count>,
    /// Streams whose writes above one reading and up to another may be lost: the last who had them died.
    excuses: Vec<(Stream, u64, u64)>,
    pub commands: u64,
    /// Runs that began when others were at work, or that these did not count on for a while: they may lack deletes that
    /// everybody else has forgotten.
    newcomers: BTreeSet<u16>,
    /// Of them, first runs of nodes.
    new_nodes: BTreeSet<u16>,
    /// Runs that have written.
    writers: BTreeSet<u16>,
}

impl Ledger {
    pub fn number(&mut self, id: OriginId) -> u16 {
        *self.numbers.entry(id).or_insert_with(|| {
            self.origins.push(id);
            (self.origins.len() - 1) as u16
        })
    }

    /// The place of an event in the total order of writes.
    pub fn order(&self, event: &Event) -> (u64, OriginId) {
        (event.hlc, self.origins[usize::from(event.origin)])
    }

    /// Whether a run has written anything.
    pub fn has_written(&self, run: OriginId) -> bool {
        self.numbers.get(&run).is_some_and(|number| self.writers.contains(number))
    }

    /// Whether anything may be lost.
    pub fn has_losses(&self) -> bool {
        !self.excuses.is_empty()
    }

    pub fn may_be_lost(&self, event: &Event) -> bool {
        let stream = (event.origin, event.partition);
        self.excuses.iter().any(|&(of, above, to)| of == stream && above < event.hlc && event.hlc <= to)
    }

    /// Runs of these nodes may lack deletes that others have forgotten.
    pub fn excuse_writers(&mut self, are: impl Fn(&OriginId) -> bool) {
        let numbers = (0u16..).zip(&self.origins).filter(|(_, id)| are(id)).map(|(number, _)| number);
        self.newcomers.extend(numbers);
    }

    /// Whether a newcomer has written to a key, among whose events these are, below the stamp of a delete, neither of
    /// which had heard of the other: where all who knew the delete have forgotten it the write stays. Or
    /// whether it has gone on counting what was reset meanwhile.
    pub fn is_outdated(&self, events: &[&Event]) -> bool {
        let deletes = |event: &Event| match event.op() {
            Op::Clear { .. } | Op::Flush => true,
            Op::Fields { fields } => fields.iter().any(|field| field.value.is_none()),
            _ => false,
        };
        let is_below = |at: usize, event: &Event| {
            self.newcomers.contains(&event.origin)
                && events[at..].iter().any(|later| deletes(later) && !event.has_seen(later) && !later.has_seen(event))
        };
        // Of an increment that did not know a reset all counts again that the reset had seen of its origin.
        let counts_again = |event: &Event| {
            let is_reset = |other: &&Event| match other.op() {
                Op::Add { .. } | Op::FieldAdd { .. } | Op::Deadline { .. } => false,
                Op::Set { .. } | Op::Clear { .. } | Op::Flush | Op::Fields { .. } => !event.has_seen(other),
            };
            matches!(event.op(), Op::Add { .. } | Op::FieldAdd { .. })
                && self.newcomers.contains(&event.origin)
                && events.iter().any(is_reset)
        };
        events.iter().enumerate().any(|(at, event)| is_below(at, event) || counts_again(event))
    }

    /// Whether a new node has written to a key before it heard of a deadline of it: to others that may have been the end
    /// of the key, while the new node and who believes it join what was before it to what was written then. README.md
    /// says so; a comparison of digests makes them equal.
    pub fn has_missed_an_end(&self) -> bool {
        let has_deadline = |event: &&Event| match event.op() {
            Op::Set { deadline: SetDeadline::At(_), .. } => true,
            Op::Deadline { at } => at.is_some(),
            _ => false,
        };
        self.keys.values().any(|events| {
            let mut new = events.iter().filter(|event| self.new_nodes.contains(&event.origin));
            new.any(|event| events.iter().filter(has_deadline).any(|end| !event.has_seen(end) && !end.has_seen(event)))
        })
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.keys.values().flatten().chain(&self.flushes)
    }

    pub fn count(&mut self, node: usize, life: u32, key: &[u8]) -> &mut Count {
        self.counts.entry((node, life, key.to_vec())).or_default()
    }

    // Notes what a core has minted; says what is wrong with it.
    fn minted(&mut self, event: Event, key: &[u8], home: (usize, u32)) -> Result<(), String> {
        let stream = (event.origin, event.partition);
        let before = self.last.insert(stream, event.hlc).unwrap_or(0);
        if before >= event.hlc {
            let id = self.origins[usize::from(event.origin)];
            return Err(format!(
                "stamps of {id:?}, partition {} do not grow: {before} then {}",
                event.partition, event.hlc
            ));
        }
        self.dots.insert((stream, event.hlc), fingerprint(key, &event.op));
        self.writers.insert(event.origin);
        if matches!(event.op(), Op::Flush) {
            self.flushes.push(event);
        } else {
            self.count(home.0, home.1, key).minted += 1;
            self.keys.entry(key.to_vec()).or_default().push(event);
        }
        Ok(())
    }

    // Notes what a core has passed on; says what is wrong with it.
    fn passed_on(
        &mut self,
        (node, life): (usize, u32),
        stream: Stream,
        hlc: u64,
        key: &[u8],
        op: &[u8],
    ) -> Result<(), String> {
        let before = self.passed.insert((node, life, stream), hlc).unwrap_or(0);
        if before >= hlc {
            return Err(format!("{stream:?} {hlc} was passed on after {before}: {}", show(key)));
        }
        match self.dots.get(&(stream, hlc)) {
            Some(known) if *known == fingerprint(key, op) => Ok(()),
            Some(_) => Err(format!("{stream:?} {hlc} arrived changed: {}", show(key))),
            None => Err(format!("{stream:?} {hlc} was never written: {}", show(key))),
        }
    }
}

fn fingerprint(key: &[u8], op: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(key);
    hash.update(op);
    hash.finalize()
}

pub fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}

impl World {
    /// A life begins.
    pub fn ledger_starts(&mut self, at: usize, own: OriginId) {
        if self.ledger.numbers.contains_key(&own) {
            return self.breaks(|| format!("node {at} starts under an identity that was used before: {own:?}"));
        }
        // Members do not count what it acknowledges: neither its files nor its clock could tell it that it has been here.
        let is_later = |known: &OriginId| known.node == own.node && known.incarnation > own.incarnation;
        self.nodes[at].is_unheard = self.ledger.origins.iter().any(is_later);
        let is_new = !self.ledger.origins.iter().any(|known| known.node == own.node);
        let number = self.ledger.number(own);
        if self.now_us > 0 {
            self.ledger.newcomers.insert(number);
            if is_new {
                self.ledger.new_nodes.insert(number);
            }
        }
    }

    /// Reads what a core has put into its backlog since we last looked.
    pub fn tap(&mut self, at: usize, core: usize) {
        let home = (at, self.nodes[at].life);
        let Some(process) = self.nodes[at].process.as_mut() else { return };
        let end = process.cores[core].worker.shard.backlog.end();
        if process.cores[core].tap == end || self.broken.is_some() {
            return;
        }
        let known = &process.shared.realm.origins;
        for index in process.origins.len()..known.count() {
            let number = self.ledger.number(known.id(OriginIdx(index as u16)));
            std::rc::Rc::make_mut(&mut process.origins).push(number);
        }
        let numbers = std::rc::Rc::clone(&process.origins);
        let shard = &process.cores[core].worker.shard;
        let mut from = process.cores[core].tap;
        assert!(from >= shard.backlog.start(), "one call has filled the backlog: what it wrote is not known");
        let mut records = Vec::new();
        while let Some(bytes) = shard.backlog.read(from).filter(|bytes| !bytes.is_empty()) {
            let mut used = 0;
            while let Some(head) = record::head(&bytes[used..]) {
                records.push((head, &bytes[used..used + head.bytes]));
                used += head.bytes;
            }
            from.0 += used as u64;
        }
        let global = |index: u16| numbers.get(usize::from(index)).map(|&number| OriginIdx(number));
        for (place, (head, bytes)) in records.iter().enumerate() {
            let Some(body) = record::body(bytes, &global) else {
                self.broken = Some("an unreadable record in a backlog".into());
                break;
            };
            let mut op = Vec::new();
            body.op.encode(&mut op);
            let origin = numbers[usize::from(head.origin)];
            self.hash.add(&[5, u64::from(origin), u64::from(head.partition.0), head.hlc.0]);
            let result = if head.origin == OriginIdx::OWN.0 {
                let mut past: Vec<(u16, u64)> = shard
                    .versions
                    .column(usize::from(head.partition.0))
                    .map(|(origin, hlc)| (numbers[usize::from(origin.0)], hlc.0))
                    .collect();
                // What the same call applied after it.
                for (later, _) in records[place..].iter().filter(|(later, _)| later.partition == head.partition) {
                    let of = numbers[usize::from(later.origin)];
                    for (_, seen) in past.iter_mut().filter(|(origin, _)| *origin == of) {
                        *seen = (*seen).min(later.hlc.0 - 1);
                    }
                }
                let event = Event { origin, partition: head.partition.0, hlc: head.hlc.0, op: op.into(), past };
                if self.trace.wants(Some(body.key)) {
                    let line =
                        format!("{at}/{core} writes {}@{} {}: {:?}", head.hlc.0, origin, show(body.key), body.op);
                    eprintln!("{:>11.6} s  {line}", self.now_us as f64 / 1e6);
                }
                self.ledger.minted(event, body.key, home)
            } else {
                self.coverage.hit("record: applied elsewhere");
                if self.trace.wants(Some(body.key)) {
                    let line =
                        format!("{at}/{core} merges {}@{} {}: {:?}", head.hlc.0, origin, show(body.key), body.op);
                    eprintln!("{:>11.6} s  {line}", self.now_us as f64 / 1e6);
                }
                self.ledger.passed_on(home, (origin, head.partition.0), head.hlc.0, body.key, &op)
            };
            if let Err(what) = result {
                self.broken = Some(format!("node {at}, core {core}: {what}"));
                break;
            }
        }
        self.core(at, core).tap = end;
    }

    /// What a node that runs has applied.
    pub fn versions(&mut self, at: usize) -> BTreeMap<Stream, u64> {
        let mut all = BTreeMap::new();
        let Some(process) = &self.nodes[at].process else { return all };
        for core in &process.cores {
            for (origin, partition, hlc) in core.worker.shard.versions.all() {
                let number = self.ledger.number(process.shared.realm.origins.id(origin));
                all.insert((number, partition as u8), hlc.0);
            }
        }
        all
    }

    // What the snapshot in a directory holds.
    pub fn stored_versions(&mut self, at: usize) -> BTreeMap<Stream, u64> {
        let mut all = BTreeMap::new();
        let Some(bytes) = self.nodes[at].disk.files.get(&Node::snapshot_path(at)).cloned() else { return all };
        let facts = load::check(bytes.as_slice(), bytes.len() as u64, false, 2, self.now_of(at))
            .expect("a committed snapshot is sound");
        for &(origin, partition, hlc) in &facts.versions {
            let number = self.ledger.number(facts.origins[usize::from(origin)]);
            let known = all.entry((number, partition as u8)).or_insert(0);
            *known = hlc.0.max(*known);
        }
        all
    }

    /// A node has just lost what it had in memory (`had`), and its directory is as it will be found: what nobody else
    /// has may be lost.
    pub fn excuse(&mut self, had: &BTreeMap<Stream, u64>) {
        let mut kept: BTreeMap<Stream, u64> = BTreeMap::new();
        for at in (0..self.nodes.len()).filter(|&at| !self.nodes[at].is_removed).collect::<Vec<_>>() {
            let theirs = match self.nodes[at].process.is_some() {
                true => self.versions(at),
                false => self.stored_versions(at),
            };
            for (stream, hlc) in theirs {
                let known = kept.entry(stream).or_insert(0);
                *known = hlc.max(*known);
            }
        }
        for (&stream, &hlc) in had {
            let above = kept.get(&stream).copied().unwrap_or(0);
            if above < hlc {
                self.ledger.excuses.push((stream, above, hlc));
                self.coverage.hit("loss: nobody else had it");
            }
        }
    }
}

/// The partition of a key.
pub fn partition_of(key: &[u8]) -> u8 {
    slot_of(key).partition().0
}
