//! Random histories on a mesh, and what must be true of them: the Rust form of the design's `convergence_model.py`,
//! driving real shards.

use std::collections::{BTreeMap, BTreeSet};

use tutti::base::ids::Db;
use tutti::base::rng::Rng;
use tutti::merge::op::SetDeadline;
use tutti::merge::stamp::Hlc;
use tutti::shard::record::EVERY_DB;
use tutti::shard::write::Value;

use crate::mesh::{Broken, DB, Item, Mesh, identity, key_ref, tag};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    Mesh,
    Ring,
    Star,
    Chain,
}

pub const TOPOLOGIES: [Topology; 4] = [Topology::Mesh, Topology::Ring, Topology::Star, Topology::Chain];

impl Topology {
    fn links(self, n: usize) -> Vec<(usize, usize)> {
        let both = |pairs: Vec<(usize, usize)>| pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        match self {
            Self::Mesh => (0..n).flat_map(|a| (0..n).filter(move |&b| a != b).map(move |b| (a, b))).collect(),
            Self::Ring => (0..n).map(|a| (a, (a + 1) % n)).collect(),
            Self::Star => both((1..n).map(|b| (0, b)).collect()),
            Self::Chain => both((1..n).map(|b| (b - 1, b)).collect()),
        }
    }
}

/// What is done to which keys. Kinds: `c` counters, `h` plain hashes, `f` hashes of counters, `s` strings, `m` mixed
/// types, `d` mixed types with deadlines.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub steps: usize,
    pub flushes: bool,
    /// Now and then a node merges another whole.
    pub merges: bool,
    /// One node's clock may be minutes ahead.
    pub drifts: bool,
    /// Which kinds of keys there are.
    pub kinds: &'static [&'static str],
    /// How many of each. Few keys make more conflicts; what goes wrong with many is not overwritten.
    pub spread: usize,
    /// A step takes less than this many milliseconds.
    pub pace_ms: u64,
    /// One in so many steps is background work, and as many are heartbeats.
    pub upkeep: u64,
    pub broken: Broken,
}

const KINDS: [&str; 6] = ["c", "h", "f", "s", "m", "d"];

/// Many writes within a millisecond, so that stamps are equal.
pub const TIGHT: Plan = Plan {
    steps: 150,
    flushes: false,
    merges: false,
    drifts: false,
    kinds: &["h", "s"],
    spread: 2,
    pace_ms: 2,
    upkeep: 10,
    broken: SOUND,
};

/// Little but deadlines, with much upkeep: keys fall due, are dropped and come back.
pub const DUE: Plan = Plan {
    steps: 500,
    flushes: false,
    merges: false,
    drifts: false,
    kinds: &["d"],
    spread: 16,
    pace_ms: 20,
    upkeep: 2,
    broken: SOUND,
};

/// Deletes and much upkeep: memories are collected while writes are under way.
pub const DELETES: Plan = Plan {
    steps: 300,
    flushes: false,
    merges: false,
    drifts: false,
    kinds: &["h", "c"],
    spread: 16,
    pace_ms: 12,
    upkeep: 2,
    broken: SOUND,
};

const SOUND: Broken = Broken {
    no_stability_wait: false,
    no_observations: false,
    private_ties: false,
    early_acks: false,
    hasty_expiry: false,
};

impl Default for Plan {
    fn default() -> Self {
        Self {
            steps: 150,
            flushes: false,
            merges: false,
            drifts: false,
            kinds: &KINDS,
            spread: 2,
            pace_ms: 12,
            upkeep: 10,
            broken: Broken::default(),
        }
    }
}

/// One write of a counter or field as the oracle remembers it.
#[derive(Debug)]
struct Event {
    /// Key, and field for hashes.
    target: (String, Option<String>),
    stamp: (Hlc, usize),
    partition: usize,
    /// What the writer had applied of the partition.
    past: Vec<Hlc>,
    what: What,
}

#[derive(Debug)]
enum What {
    Add(i64),
    Put(String),
    Remove,
    /// DEL or FLUSHALL: every field, and every key for a flush.
    Wipe {
        flush: bool,
    },
}

impl Event {
    fn concerns(&self, target: &(String, Option<String>), partition: usize) -> bool {
        match self.what {
            What::Wipe { flush: true } => self.partition == partition,
            What::Wipe { flush: false } => self.target.0 == target.0,
            _ => &self.target == target,
        }
    }

    fn is_reset(&self) -> bool {
        !matches!(self.what, What::Add(_))
    }

    fn has_seen(&self, other: &Self) -> bool {
        other.stamp.0 <= self.past[other.stamp.1]
    }
}

struct Run {
    mesh: Mesh,
    rng: Rng,
    events: Vec<Event>,
    keys: Vec<String>,
    flushes: bool,
}

/// Runs one history. `Err` says which promise was broken.
pub fn run(seed: u64, topology: Topology, n: usize, plan: &Plan) -> Result<(), String> {
    let mut rng = Rng::new(seed.wrapping_mul(31).wrapping_add(n as u64 * 7 + topology as u64));
    let skews: Vec<i64> = (0..n)
        .map(|_| match rng.below(if plan.drifts { 8 } else { 6 }) {
            2 => 3,
            3 => -5,
            4 => 40,
            5 => -200,
            6 => 5000,
            7 => 300_000,
            _ => 0,
        })
        .collect();
    let names = plan.kinds.iter().flat_map(|kind| (0..plan.spread).map(move |at| (kind, at)));
    let keys = names.map(|(kind, at)| format!("{kind}{at}{{{}}}", tag(at % 2))).collect();
    let mut run = Run { mesh: Mesh::new(n, &skews, plan.broken), rng, events: Vec::new(), keys, flushes: plan.flushes };
    let links = topology.links(n);
    let mut up = vec![true; links.len()];
    let mut trace = Trace::new();
    for step in 0..plan.steps {
        run.mesh.wall_ms += run.rng.below(plan.pace_ms);
        if run.rng.chance(20) {
            let link = run.rng.below(links.len() as u64) as usize;
            up[link] = !up[link];
        }
        let at = run.rng.below(n as u64) as usize;
        if run.rng.below(10) < 6 {
            run.operate(at);
        }
        if run.rng.chance(plan.upkeep) {
            let at = run.rng.below(n as u64) as usize;
            run.mesh.beat(at);
            // What it acknowledges may be known elsewhere before what it had written.
            let to = run.rng.below(n as u64) as usize;
            if to != at && run.rng.chance(2) {
                run.mesh.overtake(at, to, at);
            }
        }
        if run.rng.chance(plan.upkeep) {
            let at = run.rng.below(n as u64) as usize;
            run.mesh.background(at);
            run.mesh.check_counts(at)?;
        }
        trace.look(&run, &format!("step {step}"));
        if step % 4 == 0 {
            // A time that some have reached and others not.
            run.mesh.check_digests(run.mesh.wall_ms)?;
        }
        for (&(from, to), _) in links.iter().zip(&up).filter(|(_, up)| **up) {
            let origin = run.rng.below(n as u64) as usize;
            match run.rng.below(20) {
                0..10 => _ = run.mesh.pass(from, to, origin),
                10 => {
                    let which = run.rng.below(1000) as usize;
                    run.mesh.repeat(from, to, origin, which);
                }
                11 => run.mesh.overtake(from, to, origin),
                12 if plan.merges && run.rng.chance(3) => run.mesh.merge_whole(from, to),
                _ => {}
            }
            trace.look(&run, &format!("step {step}, link {from} to {to}, origin {origin}"));
        }
    }
    run.heal(&links);
    run.check_agreement("healed")?;
    run.mesh.check_digests(run.mesh.wall_ms)?;
    run.check_streams()?;
    run.check_counters()?;
    run.check_hashes()?;
    // Everything falls due, is heard of by all, and is forgotten.
    for _ in 0..8 {
        run.mesh.wall_ms += if plan.drifts { 100_000 } else { 1000 };
        for at in 0..n {
            for _ in 0..8 {
                run.mesh.background(at);
            }
            run.mesh.beat(at);
        }
        run.heal(&links);
    }
    run.check_agreement("at rest")?;
    run.mesh.check_digests(u64::MAX - 1)?;
    run.check_counters()?;
    run.check_hashes()?;
    run.check_nothing_is_left()
}

/// With `LAWS_TRACE=<key>`: what every node keeps of the key, whenever that changes.
struct Trace {
    key: Option<String>,
    last: Vec<String>,
}

impl Trace {
    fn new() -> Self {
        Self { key: std::env::var("LAWS_TRACE").ok(), last: Vec::new() }
    }

    fn look(&mut self, run: &Run, when: &str) {
        let Some(key) = &self.key else { return };
        let kept = |at| run.mesh.kept(at, std::slice::from_ref(key)).remove(key).unwrap_or_default();
        let kept: Vec<String> = (0..run.mesh.nodes.len()).map(kept).collect();
        self.last.resize(kept.len(), String::new());
        for (at, (now, before)) in kept.iter().zip(&self.last).enumerate().filter(|(_, (now, before))| now != before) {
            eprintln!("{when}, {} ms, node {at}:\n  was {before}\n  is  {now}", run.mesh.wall_ms);
        }
        self.last = kept;
    }
}

impl Run {
    fn heal(&mut self, links: &[(usize, usize)]) {
        let n = self.mesh.nodes.len();
        loop {
            let mut moved = false;
            for &(from, to) in links {
                for origin in 0..n {
                    while self.mesh.pass(from, to, origin) {
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn operate(&mut self, at: usize) {
        if self.flushes && self.rng.chance(60) {
            return self.flush(at);
        }
        let key = self.keys[self.rng.below(self.keys.len() as u64) as usize].clone();
        let field = ["x", "y", "z"][self.rng.below(3) as usize];
        let number = 1 + self.rng.below(9) as i64;
        match &key[..1] {
            "c" => match self.rng.below(10) {
                0 => self.set(at, &key, &(1000 * number).to_string(), SetDeadline::Clear),
                1 => self.del(at, &key),
                _ => self.incr(at, &key, number),
            },
            "h" => match self.rng.below(10) {
                0..6 => self.hset(at, &key, field),
                6..9 => self.hdel(at, &key, field),
                _ => self.del(at, &key),
            },
            "f" => match self.rng.below(12) {
                0 => self.hset_to(at, &key, field, &(1000 * number).to_string()),
                1 => self.hdel(at, &key, field),
                2 => self.del(at, &key),
                _ => self.hincr(at, &key, field, number),
            },
            "s" => match self.rng.below(6) {
                0 => self.del(at, &key),
                1 => self.set(at, &key, &number.to_string(), SetDeadline::Keep),
                2 => self.incr(at, &key, number),
                3 => self.rename(at, &key),
                _ => {
                    let text = format!("v{}", self.rng.below(1000));
                    self.set(at, &key, &text, SetDeadline::Clear);
                }
            },
            kind => {
                let deadline = self.mesh.now(at).wall_ms + 10 + self.rng.below(300);
                match self.rng.below(if kind == "d" { 17 } else { 10 }) {
                    0 => self.del(at, &key),
                    1 => self.set(at, &key, &number.to_string(), SetDeadline::Clear),
                    2 => self.set(at, &key, &format!("t{number}"), SetDeadline::Keep),
                    3..5 => self.incr(at, &key, number),
                    5 => self.hset(at, &key, field),
                    6 => self.hset_to(at, &key, field, "7"),
                    7 => self.hincr(at, &key, field, number),
                    8 => self.hdel(at, &key, field),
                    9 => self.rename(at, &key),
                    10 => self.set(at, &key, "5", SetDeadline::At(deadline)),
                    11 => self.expire(at, &key, None),
                    12..15 => self.limit(at, &key, deadline),
                    _ => self.expire(at, &key, Some(deadline)),
                }
            }
        }
    }

    fn kind(&self, at: usize, key: &str) -> Option<&'static str> {
        let shard = &self.mesh.nodes[at].shard;
        shard.peek(DB, &key_ref(shard, key), self.mesh.now(at)).map(|found| match found.value {
            Value::Hash(_) => "hash",
            _ => "string",
        })
    }

    fn set(&mut self, at: usize, key: &str, value: &str, deadline: SetDeadline) {
        let what = What::Put(value.into());
        self.write(at, key, None, what, |shard, key, now| shard.set(DB, key, value.as_bytes(), deadline, now));
    }

    fn del(&mut self, at: usize, key: &str) {
        if self.kind(at, key).is_some() {
            self.write(at, key, None, What::Wipe { flush: false }, |shard, key, now| assert!(shard.del(DB, key, now)));
        }
    }

    fn incr(&mut self, at: usize, key: &str, by: i64) {
        self.write(at, key, None, What::Add(by), |shard, key, now| _ = shard.incr(DB, key, by, now));
    }

    fn hset(&mut self, at: usize, key: &str, field: &str) {
        let text = format!("w{}", self.rng.below(1000));
        self.hset_to(at, key, field, &text);
    }

    fn hset_to(&mut self, at: usize, key: &str, field: &str, value: &str) {
        if self.kind(at, key) != Some("string") {
            let write = [(field.as_bytes(), value.as_bytes())];
            self.write(at, key, Some(field), What::Put(value.into()), |shard, key, now| {
                shard.hset(DB, key, write.into_iter(), now).expect("no string is seen");
            });
        }
    }

    fn hdel(&mut self, at: usize, key: &str, field: &str) {
        if self.mesh.fields(at, key).contains_key(field) {
            let names = [field.as_bytes()];
            self.write(at, key, Some(field), What::Remove, |shard, key, now| {
                shard.hdel(DB, key, names.into_iter(), now).expect("a hash is seen");
            });
        }
    }

    fn hincr(&mut self, at: usize, key: &str, field: &str, by: i64) {
        if self.kind(at, key) != Some("string") {
            self.write(at, key, Some(field), What::Add(by), |shard, key, now| {
                _ = shard.hincr(DB, key, field.as_bytes(), by, now);
            });
        }
    }

    fn expire(&mut self, at: usize, key: &str, deadline: Option<u64>) {
        if self.kind(at, key).is_some() {
            self.write(at, key, None, What::Remove, |shard, key, now| shard.set_deadline(DB, key, deadline, now));
        }
    }

    // A rate limiter: the first increment of a window sets its end.
    fn limit(&mut self, at: usize, key: &str, deadline: u64) {
        let is_first = self.kind(at, key).is_none();
        self.incr(at, key, 1);
        if is_first {
            self.expire(at, key, Some(deadline));
        }
    }

    // The value moves to a neighbouring key, as RENAME ships it: a delete and a write.
    fn rename(&mut self, at: usize, key: &str) {
        if let Some(text) = self.mesh.text(at, key) {
            self.del(at, key);
            let to = key.replacen('0', "1", 1);
            let to = if self.keys.contains(&to) { to } else { key.to_owned() };
            self.set(at, &to, &text, SetDeadline::Clear);
        }
    }

    fn flush(&mut self, at: usize) {
        // The histories are of database 0; a flush of another must not touch them.
        let db = [EVERY_DB, DB, Db(1)][self.rng.below(3) as usize];
        let pasts: Vec<_> = self.mesh.partitions.iter().map(|&partition| self.past(at, partition)).collect();
        let noted = self.mesh.write(at, |shard, now| shard.flush(db, now));
        let flushes = noted.iter().filter(|(_, op)| op == "Flush");
        let mut count = 0;
        for ((&partition, past), (stamp, _)) in self.mesh.partitions.iter().zip(pasts).zip(flushes) {
            count += 1;
            if db != Db(1) {
                let what = What::Wipe { flush: true };
                self.events.push(Event { target: Default::default(), stamp: (stamp.hlc(), at), partition, past, what });
            }
        }
        assert_eq!(count, self.mesh.partitions.len(), "a flush always leaves its records, also of what is empty");
    }

    fn past(&self, at: usize, partition: usize) -> Vec<Hlc> {
        let node = &self.mesh.nodes[at];
        node.indices.iter().map(|&origin| node.shard.versions.get(origin, partition)).collect()
    }

    fn write(
        &mut self,
        at: usize,
        key: &str,
        field: Option<&str>,
        what: What,
        write: impl FnOnce(&mut tutti::shard::Shard, &tutti::store::keyspace::KeyRef<'_>, tutti::base::time::Now),
    ) {
        let partition = usize::from(tutti::base::slot::slot_of(key.as_bytes()).partition().0);
        let past = self.past(at, partition);
        let noted = self.mesh.write(at, |shard, now| {
            let key = shard.key(key.as_bytes());
            write(shard, &key, now);
        });
        // Refused increments leave no record and no event. The last record is the write itself.
        if let Some(&(stamp, _)) = noted.last() {
            let target = (key.to_owned(), field.map(str::to_owned));
            self.events.push(Event { target, stamp: (stamp.hlc(), at), partition, past, what });
        }
    }

    fn check_agreement(&self, when: &str) -> Result<(), String> {
        let nodes = 0..self.mesh.nodes.len();
        // Deadlines are judged at one time for all.
        let time_ms = self.mesh.time_ms();
        let seen: Vec<_> = nodes.clone().map(|at| self.mesh.seen(at, &self.keys, time_ms)).collect();
        // Where a deadline's end is not final yet, what was written after it by those who had not heard of it is not
        // seen yet either.
        let lingers = |key: &str| nodes.clone().any(|at| self.mesh.lingers(at, key, time_ms));
        let differs = |key: &&String| {
            seen.iter().any(|one| one.get(*key) != seen[0].get(*key)) && !(when == "healed" && lingers(key))
        };
        if let Some(key) = self.keys.iter().find(differs) {
            let all: Vec<_> = seen.iter().map(|one| one.get(key)).collect();
            let kept: Vec<_> = nodes
                .map(|at| format!("\n  node {at}: {:?}", self.mesh.kept(at, std::slice::from_ref(key)).get(key)))
                .collect();
            return Err(format!("{when}: {key} is {all:?}{}", kept.concat()));
        }
        Ok(())
    }

    // Readings of one origin and partition strictly grow, everywhere in the same order.
    fn check_streams(&self) -> Result<(), String> {
        for (at, node) in self.mesh.nodes.iter().enumerate() {
            for (origin, log) in node.logs.iter().enumerate() {
                let mut last = BTreeMap::new();
                for item in log {
                    if let Item::Record { stamp, partition, .. } = item {
                        let before = last.insert(*partition, stamp.0);
                        if before.is_some_and(|before| before >= stamp.0) {
                            return Err(format!("node {at}, origin {origin}: {:?} after {before:?}", stamp.0));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    // Increments that no reset has seen are all there; those that some reset has seen never return.
    fn check_counters(&self) -> Result<(), String> {
        let targets: BTreeSet<_> = self
            .events
            .iter()
            .filter(|event| matches!(event.what, What::Add(_)) && matches!(&event.target.0[..1], "c" | "f"))
            .map(|event| (event.target.clone(), event.partition))
            .collect();
        for (target, partition) in targets {
            let events: Vec<&Event> = self.events.iter().filter(|event| event.concerns(&target, partition)).collect();
            let resets: Vec<&&Event> = events.iter().filter(|event| event.is_reset()).collect();
            let newest = resets.iter().max_by_key(|event| order(event.stamp));
            let base = match newest.map(|event| &event.what) {
                Some(What::Put(text)) => Some(text.parse::<i64>().expect("counters are set to numbers")),
                _ => None,
            };
            let (mut least, mut most, mut is_sure, mut is_possible) = (0, 0, base.is_some(), base.is_some());
            for event in &events {
                let What::Add(by) = event.what else { continue };
                // One that a flush had not heard of but is older than is dropped where it arrives after the flush, so
                // later resets there do not see it; it comes back if its owner, unaware, goes on counting. Either way.
                let is_overtaken = resets.iter().any(|reset| {
                    let is_flush = matches!(reset.what, What::Wipe { flush: true });
                    is_flush && !reset.has_seen(event) && order(reset.stamp) > order(event.stamp)
                });
                let is_wiped = resets.iter().any(|reset| reset.has_seen(event));
                if is_overtaken || !is_wiped {
                    most += by;
                    is_possible = true;
                }
                if !is_overtaken && !is_wiped {
                    least += by;
                    is_sure = true;
                }
            }
            for at in 0..self.mesh.nodes.len() {
                let got = match &target.1 {
                    None => self.mesh.text(at, &target.0),
                    Some(field) => self.mesh.fields(at, &target.0).get(field).cloned(),
                };
                let number = got.as_ref().map_or(0, |text| text.parse::<i64>().unwrap_or(i64::MIN));
                let base = base.unwrap_or(0);
                let fits = (base + least..=base + most).contains(&number)
                    && (got.is_some() || !is_sure)
                    && (got.is_none() || is_possible);
                if !fits {
                    let range = (base + least, base + most);
                    let story: Vec<_> = events.iter().map(|event| format!("\n  {event:?}")).collect();
                    return Err(format!("node {at}: {target:?} is {got:?}, should be in {range:?}{}", story.concat()));
                }
            }
        }
        Ok(())
    }

    // Plain hashes are what their writes give when run in the order of their stamps.
    fn check_hashes(&self) -> Result<(), String> {
        for key in self.keys.iter().filter(|key| key.starts_with('h')) {
            let partition = usize::from(tutti::base::slot::slot_of(key.as_bytes()).partition().0);
            let mut events: Vec<&Event> = self
                .events
                .iter()
                .filter(|event| {
                    &event.target.0 == key
                        || matches!(event.what, What::Wipe { flush: true }) && event.partition == partition
                })
                .collect();
            events.sort_by_key(|event| order(event.stamp));
            let mut want = BTreeMap::new();
            for event in events {
                match (&event.what, &event.target.1) {
                    (What::Put(value), Some(field)) => _ = want.insert(field.clone(), value.clone()),
                    (What::Remove, Some(field)) => _ = want.remove(field),
                    _ => want.clear(),
                }
            }
            for at in 0..self.mesh.nodes.len() {
                let got = self.mesh.fields(at, key);
                if got != want {
                    return Err(format!("node {at}: {key} is {got:?}, in order of stamps it is {want:?}"));
                }
            }
        }
        Ok(())
    }

    fn check_nothing_is_left(&self) -> Result<(), String> {
        let kept: Vec<_> = (0..self.mesh.nodes.len()).map(|at| self.mesh.kept(at, &self.keys)).collect();
        for (at, node) in self.mesh.nodes.iter().enumerate() {
            self.mesh.check_counts(at)?;
            let keys = &node.shard.keys;
            if keys.tombstones() != 0 || keys.garbage_len() != 0 || keys.has_past() {
                let left = (keys.tombstones(), keys.garbage_len(), keys.has_past());
                return Err(format!("node {at}: (tombstones, garbage, past) {left:?}: {:#?}", kept[at]));
            }
            if kept[at] != kept[0] {
                let differing = self.keys.iter().find(|key| kept[at].get(*key) != kept[0].get(*key)).expect("some key");
                let (ours, theirs) = (kept[0].get(differing), kept[at].get(differing));
                return Err(format!("kept of {differing}:\n  node 0: {ours:?}\n  node {at}: {theirs:?}"));
            }
        }
        Ok(())
    }
}

fn order(stamp: (Hlc, usize)) -> (Hlc, tutti::merge::origins::OriginId) {
    (stamp.0, identity(stamp.1))
}

/// How many seeds to run, and which first.
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("LAWS_SEED"), number("LAWS_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(usual),
    }
}

#[track_caller]
fn run_all(usual: u64, plan: &Plan) {
    for seed in seeds(usual) {
        for topology in TOPOLOGIES {
            let n = 2 + (seed % 4) as usize;
            let told = std::panic::catch_unwind(|| run(seed, topology, n, plan));
            let broken = match told {
                Ok(Ok(())) => continue,
                Ok(Err(broken)) => broken,
                Err(_) => "panicked, see above".into(),
            };
            panic!(
                "seed {seed}, {topology:?} of {n}: {broken}\nreplay: LAWS_SEED={seed} [LAWS_TRACE=<key>] cargo test --test laws model"
            );
        }
    }
}

#[test]
fn prop_nodes_agree_and_keep_what_was_acknowledged() {
    run_all(150, &Plan::default());
}

#[test]
fn prop_flushes_agree_too() {
    run_all(100, &Plan { flushes: true, ..Plan::default() });
}

#[test]
fn prop_fast_clocks_agree_too() {
    run_all(60, &Plan { drifts: true, ..Plan::default() });
}

#[test]
fn prop_equal_stamps_agree_too() {
    run_all(40, &TIGHT);
}

#[test]
fn prop_deadlines_agree_too() {
    run_all(20, &DUE);
}

#[test]
fn prop_memories_are_collected_while_writes_are_under_way() {
    run_all(30, &DELETES);
}

#[test]
fn prop_whole_merges_agree_too() {
    run_all(60, &Plan { merges: true, ..Plan::default() });
    run_all(20, &Plan { merges: true, flushes: true, ..Plan::default() });
    run_all(20, &Plan { merges: true, ..DELETES });
    run_all(10, &Plan { merges: true, ..DUE });
}

#[test]
fn prop_long_histories_agree() {
    run_all(4, &Plan { steps: 1500, flushes: true, ..Plan::default() });
}
