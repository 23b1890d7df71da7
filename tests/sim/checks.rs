//! What must hold: while a run goes on, when everything has come to rest, and what was really exercised.

use std::collections::{BTreeMap, BTreeSet};

use tutti::base::ids::{Db, Slot};
use tutti::merge::op::Op;
use tutti::merge::total::Total;
use tutti::shard::hash::field_value;
use tutti::shard::write::Value;
use tutti::worker::queues::Slack;

use crate::faults::VERIFY;
use crate::ledger::{Event, partition_of, show};
use crate::plan::compares;
use crate::workload::{self, Seen};
use crate::world::{RECEIVE_BYTES, World};

/// The smallest backlog there is, and what one record may be beyond it.
const BACKLOG_LEAST: usize = (1 << 16) + (1 << 17);

/// The largest block of records or of a full merge.
const BLOCK_BYTES: usize = 1 << 17;

/// Everything must have come to rest after so long, microseconds.
const REST_US: u64 = 90_000_000;

/// Between two looks whether it has.
const STEP_US: u64 = 250_000;

/// An operator who was refused tries again after so long, microseconds.
const RETRY_US: u64 = 5_000_000;

impl World {
    /// What holds for a core at any time.
    pub fn check_core(&mut self, node: usize, at: usize) {
        self.look_for_uncounted(node, at);
        let drift_ms = self.limits.drift_ms;
        let bytes_max = self.limits.backlog_bytes + BACKLOG_LEAST;
        let core = self.core(node, at);
        let last_ms = core.worker.shard.last_hlc().wall_ms();
        let limit_ms = core.latest_ms + drift_ms + 1;
        let backlog = core.worker.shard.backlog.len();
        if last_ms > limit_ms {
            self.breaks(|| {
                format!("node {node}, core {at}: its clock was dragged {} ms beyond the limit", last_ms - limit_ms)
            });
        }
        // The largest record, or the largest block of a full merge with what is said beside it; per core.
        let (cores, arrived) = (self.nodes[node].cores, self.limits.pipe_bytes + RECEIVE_BYTES);
        let core = self.core(node, at);
        let over = core.worker.queues().find(|queue| {
            let slack = match queue.slack {
                Slack::None => 0,
                Slack::Block => cores * BLOCK_BYTES,
                Slack::Arrived => arrived,
            };
            queue.len > queue.most + slack
        });
        if let Some(over) = over {
            self.breaks(|| format!("node {node}, core {at}: a queue is over its bound: {over:?}"));
        }
        if backlog > bytes_max {
            self.breaks(|| format!("node {node}, core {at}: {backlog} bytes in the backlog, the bound is {bytes_max}"));
        }
    }

    /// Heals, waits for rest, and looks at everything.
    pub fn settle(&mut self) {
        self.heal();
        let began_us = self.now_us;
        self.rest(Self::unrest, false);
        self.coverage.add("seconds until rest, sum", (self.now_us - began_us) / 1_000_000);
        // Whoever will not come back holds every memory until an operator says so.
        self.forget_the_lost();
        let remembers = self.may_remember();
        self.rest(Self::memories, remembers);
        let has_missed = self.ledger.has_missed_an_end();
        if has_missed {
            self.coverage.hit("model: written by a new node over an end it had not heard of");
        }
        let has_uncounted = self.has_uncounted() || has_missed;
        if has_uncounted {
            self.rest(|world| world.unequal().or_else(|| world.unlike_digests()), false);
        }
        if self.broken.is_none() {
            self.check_agreement();
        }
        if self.broken.is_none() {
            self.check_digests(has_uncounted);
        }
        if self.broken.is_none() {
            self.check_ledger();
        }
        if self.broken.is_none() {
            self.check_counts();
        }
        if self.broken.is_none() && compares(self.plan.seed) {
            self.verify();
        }
        for node in 0..self.nodes.len() {
            self.count_figures(node);
        }
        self.count_rules();
    }

    // `is_optional`: it may never come; then what can happen by itself has happened after a while.
    fn rest(&mut self, reason: fn(&mut Self) -> Option<String>, is_optional: bool) {
        let began_us = self.now_us;
        // A repair goes from node to node as comparisons come by.
        let most_us = if self.has_uncounted() { self.nodes.len() as u64 * REST_US } else { REST_US };
        while self.broken.is_none() {
            self.run_until(self.now_us + STEP_US);
            let Some(reason) = reason(self) else { break };
            if is_optional && self.now_us - began_us > REST_US / 6 {
                break;
            }
            if self.now_us - began_us > most_us {
                self.breaks(|| format!("stuck: {reason}"));
            }
        }
    }

    fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&at| self.nodes[at].process.is_some()).collect()
    }

    // Why it is not quiet yet.
    fn unrest(&mut self) -> Option<String> {
        let up = self.up();
        let first = self.versions(up[0]);
        for &node in &up[1..] {
            let theirs = self.versions(node);
            if theirs != first {
                let differs = |stream: &&(u16, u8)| theirs.get(*stream) != first.get(*stream);
                let stream = *first.keys().chain(theirs.keys()).find(differs)?;
                let id = self.ledger.origins[usize::from(stream.0)];
                return Some(format!(
                    "nodes {} and {node} have applied {:?} and {:?} of {id:?}, partition {}",
                    up[0],
                    first.get(&stream),
                    theirs.get(&stream),
                    stream.1
                ));
            }
        }
        if let Some(client) = self.clients.iter().position(|client| client.waits_for() > 0) {
            return Some(format!("client {client} still waits for {} replies", self.clients[client].waits_for()));
        }
        None
    }

    // Nobody counts what an unheard node acknowledges; and what a reset had seen of an increment that is lost with
    // everybody who had it is remembered for ever, lest the increment should turn up.
    fn may_remember(&self) -> bool {
        let has_lost_one = self.nodes.iter().any(|node| node.is_removed || !node.lost.is_empty());
        self.nodes.iter().any(|node| node.is_unheard) || has_lost_one && self.ledger.has_losses()
    }

    // What is still remembered though everybody has heard of it.
    fn memories(&mut self) -> Option<String> {
        if let Some(reason) = self.unrest() {
            return Some(reason);
        }
        // Whose machine went away may still seem to be connected.
        if self.now_us % RETRY_US < STEP_US {
            self.forget_the_lost();
        }
        for node in self.up() {
            for core in &self.nodes[node].process.as_ref()?.cores {
                let keys = &core.worker.shard.keys;
                let left = (keys.tombstones(), keys.garbage_len(), keys.has_past());
                if left != (0, 0, false) {
                    let shard = &core.worker.shard;
                    let horizon_ms = shard.stability.horizon_ms(shard.last_hlc());
                    let all_final_ms = shard.stability.all_final_ms(keys.final_ms());
                    return Some(format!(
                        "node {node} keeps (tombstones, garbage, past deadlines) {left:?} at {}: every clock has passed {horizon_ms}, final here {}, everywhere {all_final_ms}",
                        self.now_of(node).wall_ms,
                        keys.final_ms()
                    ));
                }
            }
        }
        None
    }

    // An operator hears that all is equal.
    fn verify(&mut self) {
        self.is_at_rest = true;
        for node in self.up() {
            self.operate(node, VERIFY);
        }
        self.rest(Self::unrest, false);
    }

    // Equal bytes everywhere.
    fn check_agreement(&mut self) {
        if let Some(what) = self.unequal() {
            self.breaks(|| what);
        }
    }

    // Where nodes do not hold the same.
    fn unequal(&mut self) -> Option<String> {
        let up = self.up();
        let digests: Vec<_> = up.iter().map(|&node| self.digests(node)).collect();
        let keys: BTreeSet<_> = digests.iter().flat_map(|all| all.keys().cloned()).collect();
        let key = keys.into_iter().find(|key| digests.iter().any(|all| all.get(key) != digests[0].get(key)))?;
        let seen: Vec<String> =
            up.iter().map(|&node| format!("\n  node {node}: {}", tell(&self.seen(node, &key.1)))).collect();
        Some(format!("nodes differ: key {}{}", show(&key.1), seen.concat()))
    }

    // Nodes that hold the same have the same digests kept, and the comparison that went on all the time has never
    // taken a write under way for damage. Where `may_repair` it may have found what nodes that were not counted brought.
    fn check_digests(&mut self, may_repair: bool) {
        for node in self.up() {
            for core in &self.nodes[node].process.as_ref().expect("it is up").cores {
                let stats = core.worker.shard.stats;
                self.coverage.add("partitions compared by digests", stats.digest_comparisons);
                self.coverage.add("model: repaired after an absence", stats.digest_mismatches);
                let found = (stats.digest_mismatches, stats.digest_repairs);
                if found != (0, 0) && !may_repair {
                    return self.breaks(|| format!("node {node} found (mismatches, repairs) {found:?}"));
                }
            }
        }
        if let Some(what) = self.unlike_digests() {
            self.breaks(|| what);
        }
    }

    fn unlike_digests(&self) -> Option<String> {
        let up = self.up();
        let first = self.kept_digests(up[0]);
        up.iter().find_map(|&node| {
            let kept = self.kept_digests(node);
            let (place, _) = kept.iter().chain(&first).find(|(at, _)| kept.get(*at) != first.get(*at))?;
            Some(format!("nodes {} and {node} keep other digests of {place:?}", up[0]))
        })
    }

    fn kept_digests(&self, node: usize) -> BTreeMap<(Db, u16), u64> {
        let mut kept = BTreeMap::new();
        for core in &self.nodes[node].process.as_ref().expect("it is up").cores {
            let (keys, (from, to)) = (&core.worker.shard.keys, core.worker.shard.slots());
            for db in (0..keys.databases() as u16).map(Db) {
                let all = (from..to).map(|slot| (slot as u16, keys.digest(db, Slot(slot as u16))));
                kept.extend(all.filter(|(_, digest)| *digest != 0).map(|(slot, digest)| ((db, slot), digest)));
            }
        }
        kept
    }

    fn digests(&self, node: usize) -> BTreeMap<(Db, Vec<u8>), Option<[u8; 20]>> {
        let mut all = BTreeMap::new();
        let now = self.now_of(node);
        for core in &self.nodes[node].process.as_ref().expect("it is up").cores {
            let shard = &core.worker.shard;
            for db in (0..shard.keys.databases() as u16).map(Db).filter(|&db| shard.keys.has_held(db)) {
                shard.each_key(db, now, |key, _| {
                    all.insert((db, key.to_vec()), shard.digest(db, key, now));
                });
            }
        }
        all
    }

    /// What a reader sees of a key.
    pub fn seen(&self, node: usize, key: &[u8]) -> Seen {
        let now = self.now_of(node);
        let process = self.nodes[node].process.as_ref().expect("it is up");
        let owner = process.cores[0].worker.shard.map.owner_of_key(key);
        let shard = &process.cores[usize::from(owner.0)].worker.shard;
        let text = |value: Value<'_>| match value {
            Value::Bytes(bytes) => bytes.to_vec(),
            Value::Number(number) => {
                let mut text = Vec::new();
                Total::print(number, &mut text);
                text
            }
            Value::Hash(_) => Vec::new(),
        };
        match shard.peek(Db(0), &shard.key(key), now).map(|found| found.value) {
            None => Seen::Absent,
            Some(Value::Hash(hash)) => Seen::Hash(
                hash.iter().filter_map(|field| Some((field.key().to_vec(), text(field_value(field)?)))).collect(),
            ),
            Some(value) => Seen::Text(text(value)),
        }
    }

    // Every write that arrived everywhere counts as its type says; none is missing without a reason.
    fn check_ledger(&mut self) {
        let node = self.up()[0];
        let versions = self.versions(node);
        let arrived =
            |event: &Event| versions.get(&(event.origin, event.partition)).is_some_and(|&hlc| event.hlc <= hlc);
        let lost = self.ledger.events().find(|event| !arrived(event) && !self.ledger.may_be_lost(event)).cloned();
        if let Some(lost) = lost {
            let id = self.ledger.origins[usize::from(lost.origin)];
            let (hlc, partition) = (lost.hlc, lost.partition);
            return self
                .breaks(|| format!("lost without a reason: {hlc} of {id:?}, partition {partition}: {:?}", lost.op()));
        }
        let (mut broken, mut outdated) = (None, 0);
        for (key, events) in &self.ledger.keys {
            let Some(workload) = workload::of(key) else { continue };
            let partition = partition_of(key);
            let flushes = self.ledger.flushes.iter().filter(|flush| flush.partition == partition);
            let mut events: Vec<&Event> = events.iter().chain(flushes).filter(|event| arrived(event)).collect();
            events.sort_by_key(|event| self.ledger.order(event));
            let seen = self.seen(node, key);
            if self.ledger.is_outdated(&events) {
                outdated += 1;
                continue;
            }
            let Err(what) = workload.judge(&self.ledger, key, &events, &seen) else { continue };
            let story: Vec<String> = events
                .iter()
                .map(|event| format!("\n  {}@{} {:?}", event.hlc, event.origin, event.op()))
                .map(|line| line.chars().take(160).collect())
                .collect();
            broken = Some(format!("key {} is {}: {what}{}", show(key), tell(&seen), story.concat()));
            break;
        }
        self.coverage.add("model: written below a delete by a newcomer", outdated);
        if let Some(what) = broken {
            self.breaks(|| what);
        }
    }

    // Every write a client was told of was minted, and nothing that failed was.
    fn check_counts(&mut self) {
        let has_flushes = !self.ledger.flushes.is_empty();
        for ((node, life, key), count) in &self.ledger.counts {
            let Some(workload) = workload::of(key) else { continue };
            let most = count.told + count.unknown;
            let is_exact = workload.is_exact() && !has_flushes;
            if count.minted < count.told || is_exact && count.minted > most {
                self.broken = Some(format!("key {} on node {node}, life {life}: {count:?}", show(key)));
                return;
            }
        }
    }

    /// Adds what a process has counted.
    pub fn count_figures(&mut self, node: usize) {
        let now = self.now_of(node);
        let Some(process) = &self.nodes[node].process else { return };
        for core in &process.cores {
            let stats = core.worker.shard.stats;
            self.coverage.add("record: seen before", stats.duplicates);
            self.coverage.add("record: beyond the clock limit", stats.drifted);
            self.coverage.add("record: won", stats.merged_won);
            self.coverage.add("record: lost", stats.merged_lost);
            self.coverage.add("record: unreadable", stats.malformed);
            let figures = core.worker.figures(now);
            for peer in figures.peers.iter().filter(|peer| peer.is_link) {
                self.coverage.add("link: up", peer.resumes);
                self.coverage.add("link: lost", peer.resumes.saturating_sub(u64::from(peer.down_s.is_none())));
                self.coverage.add("link: full merge of a partition", peer.full_merges);
            }
        }
    }

    // Which pairs of writes met without having seen each other.
    fn count_rules(&mut self) {
        let mut hits: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (key, events) in &self.ledger.keys {
            let partition = partition_of(key);
            let flushes = self.ledger.flushes.iter().filter(|flush| flush.partition == partition);
            let events: Vec<&Event> = events.iter().take(60).chain(flushes.take(3)).collect();
            for (at, a) in events.iter().enumerate() {
                for b in &events[at + 1..] {
                    if a.origin != b.origin
                        && let Some(rule) = rule_of(a, b)
                    {
                        *hits.entry(rule).or_default() += 1;
                    }
                }
            }
            let is_deleted = events.iter().any(|event| matches!(event.op(), Op::Clear { .. }));
            if is_deleted && !self.nodes.iter().any(|node| node.is_unheard) {
                *hits.entry("rule: tombstone forgotten").or_default() += 1;
            }
            if key.first() == Some(&b'g') {
                *hits.entry("rule: multi-key write over several shards").or_default() += events.len() as u64;
            }
        }
        for (rule, count) in hits {
            self.coverage.add(rule, count);
        }
    }
}

fn rule_of(a: &Event, b: &Event) -> Option<&'static str> {
    use Op::{Add, Clear, Deadline, FieldAdd, Fields, Flush, Set};
    let (first, second) = (a.op(), b.op());
    let (knows, forgets) = (b.has_seen(a), a.has_seen(b));
    if knows || forgets {
        return match (&first, &second) {
            (Add { .. }, Set { .. } | Clear { .. }) if knows => {
                Some("rule: increment wiped by a reset that had seen it")
            }
            (Set { .. } | Clear { .. }, Add { .. }) if forgets => {
                Some("rule: increment wiped by a reset that had seen it")
            }
            _ => None,
        };
    }
    if a.hlc == b.hlc {
        return Some("rule: equal readings, origin decides");
    }
    Some(match (&first, &second) {
        (Flush, _) | (_, Flush) => "rule: flush against write",
        (Set { .. }, Set { .. }) => "rule: register, later stamp wins",
        (Set { .. }, Clear { .. }) | (Clear { .. }, Set { .. }) => "rule: register, delete against write",
        (Add { .. }, Add { .. }) | (FieldAdd { .. }, FieldAdd { .. }) => "rule: increments add up",
        (Add { .. }, Set { .. } | Clear { .. }) | (Set { .. } | Clear { .. }, Add { .. }) => {
            "rule: increment survives a reset that had not seen it"
        }
        (Deadline { .. }, _) | (_, Deadline { .. }) => "rule: deadline against write",
        (Fields { .. } | FieldAdd { .. }, Clear { .. }) | (Clear { .. }, Fields { .. } | FieldAdd { .. }) => {
            "rule: field against delete of the key"
        }
        (Fields { .. } | FieldAdd { .. }, Fields { .. } | FieldAdd { .. }) => "rule: fields of a hash, concurrent",
        (Fields { .. } | FieldAdd { .. }, Set { .. } | Add { .. })
        | (Set { .. } | Add { .. }, Fields { .. } | FieldAdd { .. }) => "rule: clash of types",
        (Clear { .. }, Clear { .. }) => return None,
    })
}

fn tell(seen: &Seen) -> String {
    match seen {
        Seen::Absent => "absent".into(),
        Seen::Text(text) => format!("\"{}\"", show(text)),
        Seen::Hash(fields) => {
            let one = |(name, value): (&Vec<u8>, &Vec<u8>)| format!("{}={}", show(name), show(value));
            format!("{{{}}}", fields.iter().map(one).collect::<Vec<_>>().join(" "))
        }
    }
}
