//! A few nodes of one shard each that exchange real records: who hears what when is decided by the caller, nothing
//! here knows what should come out.
//!
//! Every origin's records and heartbeats are one gapless list. A node forwards what it has, so any node can be asked
//! for the next item of any origin; items of one origin stay in order, items of different origins do not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tutti::base::ids::{Db, PARTITIONS, Partition, ShardId, Slot, Uuid};
use tutti::base::slot::{ShardMap, slot_of};
use tutti::base::time::Now;
use tutti::mem::entry::View;
use tutti::merge::cell::Cell;
use tutti::merge::key::KeyState;
use tutti::merge::op::{Observations, Op};
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{Hlc, Stamp};
use tutti::shard::block::{self, Front, Kind};
use tutti::shard::feed::Feed;
use tutti::shard::hash::field_value;
use tutti::shard::merging::Merging;
use tutti::shard::write::{Value, visible};
use tutti::shard::{Merged, Shard, ShardSettings, record};
use tutti::store::keyspace::weigh::Over;
use tutti::store::keyspace::{KeyRef, deadline_of, unpack};

/// The shards of these tests own two partitions, so that a run is cheap.
pub const SHARDS: u16 = (PARTITIONS / 2) as u16;

pub const START_MS: u64 = 1_770_000_000_000;

pub const DB: Db = Db(0);

/// Ways to break the harness or the protocol, to show that the checks notice.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Everything counts as acknowledged at once.
    pub no_stability_wait: bool,
    /// Resets do not say which increments they have seen.
    pub no_observations: bool,
    /// Every node takes itself for the least of all: of equal stamps each prefers another.
    pub private_ties: bool,
    /// Acknowledgements count before the writes that their sender had made by then.
    pub early_acks: bool,
    /// Expired keys are dropped when their end is final here, without asking whether it is elsewhere.
    pub hasty_expiry: bool,
}

#[derive(Clone)]
pub enum Item {
    Record { bytes: Vec<u8>, writer: usize, stamp: (Hlc, usize), partition: usize },
    Beat(Beat),
}

/// What a node says of itself now and then.
#[derive(Clone)]
pub struct Beat {
    pub node: usize,
    pub promised: Hlc,
    pub final_ms: u64,
    /// Partition, and per origin what was applied.
    pub columns: Vec<(usize, Vec<(usize, Hlc)>)>,
}

pub struct Node {
    pub shard: Shard,
    pub skew_ms: i64,
    /// Per origin, what has been applied here.
    pub logs: Vec<Vec<Item>>,
    /// Local indices of all origins.
    pub indices: Vec<OriginIdx>,
    read: u64,
    work: usize,
}

pub struct Mesh {
    pub nodes: Vec<Node>,
    pub wall_ms: u64,
    pub broken: Broken,
    pub partitions: Vec<usize>,
}

/// A name whose partition is the `at`-th of the two that the shards own.
pub fn tag(at: usize) -> &'static str {
    use std::sync::OnceLock;
    static TAGS: OnceLock<[String; 2]> = OnceLock::new();
    &TAGS.get_or_init(|| {
        let (first, _) = ShardMap::new(SHARDS).range(ShardId(0));
        [0, 1].map(|at| {
            let fits = |n: &u32| usize::from(slot_of(n.to_string().as_bytes()).partition().0) == first + at;
            (0..).find(fits).expect("some number hashes there").to_string()
        })
    })[at]
}

pub fn identity(node: usize) -> OriginId {
    OriginId { node: Uuid([node as u8 + 10; 16]), incarnation: 1 }
}

pub fn settings() -> ShardSettings {
    ShardSettings {
        id: ShardId(0),
        map: ShardMap::new(SHARDS),
        databases: 2,
        backlog_bytes_max: 1 << 24,
        drift_ms_max: 1000,
        seed: 1,
    }
}

impl Mesh {
    pub fn new(count: usize, skews_ms: &[i64], broken: Broken) -> Self {
        let seen_by = |viewer: usize, node: usize| match broken.private_ties {
            true if viewer == node => OriginId { node: Uuid([1; 16]), incarnation: 1 },
            _ => identity(node),
        };
        let nodes = (0..count).map(|at| {
            let realm = Arc::new(Realm::new(seen_by(at, at), 7 + at as u64));
            // Local indices differ from node to node, as they do in life.
            let mut indices = vec![OriginIdx::OWN; count];
            for other in (0..count).rev().filter(|&other| other != at) {
                indices[other] = realm.origins.index(seen_by(at, other)).expect("room");
            }
            let mut shard = Shard::new(Arc::clone(&realm), &settings());
            shard.logging = true;
            if !broken.no_stability_wait {
                (0..count).filter(|&other| other != at).for_each(|other| shard.stability.add(identity(other).node));
            }
            Node { shard, skew_ms: skews_ms[at], logs: vec![Vec::new(); count], indices, read: 0, work: 0 }
        });
        let (first, end) = settings().map.range(ShardId(0));
        Self { nodes: nodes.collect(), wall_ms: START_MS, broken, partitions: (first..end).collect() }
    }

    pub fn now(&self, at: usize) -> Now {
        let wall_ms = self.wall_ms.saturating_add_signed(self.nodes[at].skew_ms);
        Now { wall_ms, mono_us: (self.wall_ms - START_MS) * 1000 }
    }

    /// Runs a write on a node and notes the records it left.
    pub fn write(&mut self, at: usize, write: impl FnOnce(&mut Shard, Now)) -> Vec<(Stamp, String)> {
        let now = self.now(at);
        write(&mut self.nodes[at].shard, now);
        self.note_log(at)
    }

    fn note_log(&mut self, at: usize) -> Vec<(Stamp, String)> {
        let node = &mut self.nodes[at];
        let mut noted = Vec::new();
        loop {
            let bytes = node.shard.backlog.read(tutti::shard::backlog::Position(node.read)).expect("nothing is cut");
            if bytes.is_empty() {
                return noted;
            }
            let mut rest = bytes;
            while let Some(head) = record::head(rest) {
                let origin = node.indices.iter().position(|index| index.0 == head.origin).expect("a known origin");
                let body = record::body(&rest[..head.bytes], &|index| Some(OriginIdx(index))).expect("well formed");
                noted.push((Stamp::new(head.hlc, OriginIdx(head.origin)), format!("{:?}", body.op)));
                node.logs[origin].push(Item::Record {
                    bytes: rest[..head.bytes].to_vec(),
                    writer: at,
                    stamp: (head.hlc, origin),
                    partition: usize::from(head.partition.0),
                });
                rest = &rest[head.bytes..];
            }
            node.read += bytes.len() as u64;
        }
    }

    /// A node says what it has applied.
    pub fn beat(&mut self, at: usize) {
        let now = self.now(at);
        let node = &mut self.nodes[at];
        let promised = node.shard.promise(now);
        let global = |index: OriginIdx| node.indices.iter().position(|known| *known == index).expect("known");
        let column = |partition: usize| {
            node.shard.versions.column(partition).map(|(origin, hlc)| (global(origin), hlc)).collect::<Vec<_>>()
        };
        let columns = self.partitions.iter().map(|&partition| (partition, column(partition))).collect();
        let beat = Beat { node: at, promised, final_ms: node.shard.final_ms(), columns };
        node.logs[at].push(Item::Beat(beat));
    }

    /// Gives `to` the next item of `origin` that `from` has. False: there is none.
    pub fn pass(&mut self, from: usize, to: usize, origin: usize) -> bool {
        let next = self.nodes[to].logs[origin].len();
        let Some(item) = self.nodes[from].logs[origin].get(next).cloned() else { return false };
        match &item {
            Item::Record { bytes, writer, .. } => {
                let merged = self.merge(to, bytes, *writer);
                assert_eq!(merged, Merged::Applied, "node {to}, item {next} of origin {origin}");
                // Forwarded as the receiver wrote it: its own indices.
                let before = self.nodes[to].logs[origin].len();
                self.note_log(to);
                assert_eq!(self.nodes[to].logs[origin].len(), before + 1, "a merged record is passed on once");
            }
            Item::Beat(beat) => {
                self.hear_acks(to, beat, false);
                let node = &mut self.nodes[to];
                let uuid = identity(beat.node).node;
                node.shard.stability.promise(uuid, beat.promised);
                let final_ms = if self.broken.hasty_expiry { u64::MAX } else { beat.final_ms };
                node.shard.stability.finalise(uuid, final_ms);
                node.logs[origin].push(item);
            }
        }
        let shard = &mut self.nodes[to].shard;
        shard.stability.settle(&shard.versions);
        true
    }

    /// The latest acknowledgement of a node that `from` knows reaches `to` before that node's writes do.
    pub fn overtake(&mut self, from: usize, to: usize, origin: usize) {
        let beats = self.nodes[from].logs[origin].iter().rev();
        let latest =
            beats.filter_map(|item| if let Item::Beat(beat) = item { Some(beat.clone()) } else { None }).next();
        if let Some(beat) = latest.filter(|_| origin != to) {
            self.hear_acks(to, &beat, self.broken.early_acks);
            self.nodes[to].shard.stability.finalise(identity(beat.node).node, beat.final_ms);
        }
    }

    /// An old record of `origin` reaches `to` again.
    pub fn repeat(&mut self, from: usize, to: usize, origin: usize, which: usize) {
        let known = self.nodes[to].logs[origin].len().min(self.nodes[from].logs[origin].len());
        let Some(item) = which.checked_rem(known).map(|at| self.nodes[from].logs[origin][at].clone()) else { return };
        if let Item::Record { bytes, writer, .. } = item {
            assert_eq!(self.merge(to, &bytes, writer), Merged::Duplicate);
        }
    }

    /// `to` merges all partitions of `from` whole, as if `from` had trimmed its backlog.
    pub fn merge_whole(&mut self, from: usize, to: usize) {
        for partition in self.partitions.clone() {
            let blocks = self.whole(from, partition);
            let merging = self.hear_whole(from, to, &blocks);
            assert!(merging.is_none(), "a full merge ends");
        }
        // What the records skipped would have said besides, heartbeats say.
        for origin in 0..self.nodes.len() {
            while let Some(item) = self.nodes[from].logs[origin].get(self.nodes[to].logs[origin].len()).cloned() {
                match &item {
                    Item::Record { stamp, partition, .. } => {
                        let index = self.nodes[to].indices[origin];
                        assert!(stamp.0 <= self.nodes[to].shard.versions.get(index, *partition), "merged whole");
                        self.nodes[to].logs[origin].push(item);
                    }
                    Item::Beat(_) => assert!(self.pass(from, to, origin)),
                }
            }
        }
        let shard = &mut self.nodes[to].shard;
        shard.stability.settle(&shard.versions);
    }

    /// `to` merges one partition of `from` whole, but the link breaks before the last block.
    pub fn merge_most(&mut self, from: usize, to: usize, partition: usize) {
        let blocks = self.whole(from, partition);
        let merging = self.hear_whole(from, to, &blocks[..blocks.len() - 1]);
        assert!(merging.is_some(), "it is not over");
    }

    // The blocks of a full merge of one partition.
    fn whole(&self, from: usize, partition: usize) -> Vec<(Kind, Vec<u8>)> {
        let mut bytes = Vec::new();
        let sender = &self.nodes[from].shard;
        let mut feed = Feed::new(sender, sender.versions.clone(), Vec::new());
        feed.pull(sender, Partition(partition as u8));
        feed.pump(sender, &mut bytes, usize::MAX);
        let mut blocks = Vec::new();
        let mut rest = bytes.as_slice();
        while let Front::Block(kind, payload, used) = block::front(rest) {
            blocks.push((kind, payload.to_vec()));
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
        blocks
    }

    fn hear_whole(&mut self, from: usize, to: usize, blocks: &[(Kind, Vec<u8>)]) -> Option<Merging> {
        let now = self.now(to);
        let theirs = self.nodes[from].indices.clone();
        let node = &mut self.nodes[to];
        let ours = &node.indices;
        let origin = |index: u16| theirs.iter().position(|known| known.0 == index).map(|global| ours[global]);
        let mut merging: Option<Merging> = None;
        for (kind, payload) in blocks {
            match (kind, &mut merging) {
                (Kind::FullBegin, _) => merging = node.shard.begin_merging(payload, &origin),
                (Kind::FullKeys, Some(merging)) => {
                    assert!(node.shard.merge_keys(merging, &payload[1..], &origin));
                }
                (Kind::FullSlot, Some(merging)) => {
                    node.shard.merge_slot(merging, Slot(u16::from_le_bytes([payload[0], payload[1]])));
                }
                (Kind::FullEnd, Some(whole)) => {
                    node.shard.end_merging(whole, now);
                    merging = None;
                }
                (kind, _) => panic!("{kind:?} in a full merge"),
            }
        }
        merging
    }

    pub fn background(&mut self, at: usize) {
        let now = self.now(at);
        let node = &mut self.nodes[at];
        node.shard.background(now, &mut node.work);
    }

    fn merge(&mut self, to: usize, bytes: &[u8], writer: usize) -> Merged {
        let now = self.now(to);
        let theirs = self.nodes[writer].indices.clone();
        let node = &mut self.nodes[to];
        let ours = &node.indices;
        let origin = |index: u16| theirs.iter().position(|known| known.0 == index).map(|global| ours[global]);
        if self.broken.no_observations {
            let bytes = without_observations(bytes);
            return node.shard.merge(&bytes, &origin, true, now);
        }
        node.shard.merge(bytes, &origin, true, now)
    }

    fn hear_acks(&mut self, to: usize, beat: &Beat, early: bool) {
        let node = &mut self.nodes[to];
        for (partition, column) in &beat.columns {
            let acked: Vec<_> = column
                .iter()
                .filter(|(origin, _)| !early || *origin != beat.node)
                .map(|&(origin, hlc)| (node.indices[origin], hlc))
                .collect();
            let uuid = identity(beat.node).node;
            node.shard.stability.acknowledge(&node.shard.versions, uuid, *partition, &acked);
        }
    }

    /// The latest time any node judges deadlines by.
    pub fn time_ms(&self) -> u64 {
        (0..self.nodes.len()).map(|at| self.nodes[at].shard.time_ms(self.now(at))).max().expect("a node")
    }

    /// What a reader at `time_ms` sees of `keys`: text that is equal where readers see the same.
    pub fn seen(&self, at: usize, keys: &[String], time_ms: u64) -> BTreeMap<String, String> {
        let shard = &self.nodes[at].shard;
        let mut seen = BTreeMap::new();
        for key in keys {
            let entry = shard.keys.find(DB, &shard.key(key.as_bytes()));
            let Some(found) = entry.and_then(|entry| visible(shard.realm(), entry, time_ms)) else { continue };
            let text = |value: Value<'_>| {
                String::from_utf8_lossy(value.bytes(&mut Vec::new()).expect("a string")).into_owned()
            };
            let value = match found.value {
                Value::Hash(hash) => {
                    let live = hash.iter().filter_map(|field| Some((field.key().to_vec(), field_value(field)?)));
                    let fields: BTreeMap<_, _> = live.map(|(name, value)| (name, text(value))).collect();
                    format!("{fields:?}")
                }
                value => text(value),
            };
            seen.insert(key.clone(), format!("{value} until {:?}", found.deadline));
        }
        seen
    }

    /// Whether a node still keeps what a deadline has put an end to at `time_ms`.
    pub fn lingers(&self, at: usize, key: &str, time_ms: u64) -> bool {
        let shard = &self.nodes[at].shard;
        let deadline = shard.keys.find(DB, &shard.key(key.as_bytes())).and_then(deadline_of);
        deadline.and_then(|deadline| deadline.at).is_some_and(|at| at <= time_ms)
    }

    /// The string at `key`, if a reader sees one.
    pub fn text(&self, at: usize, key: &str) -> Option<String> {
        let shard = &self.nodes[at].shard;
        let found = shard.peek(DB, &shard.key(key.as_bytes()), self.now(at))?;
        found.value.bytes(&mut Vec::new()).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The fields of the hash at `key`, none if a reader sees no hash.
    pub fn fields(&self, at: usize, key: &str) -> BTreeMap<String, String> {
        let shard = &self.nodes[at].shard;
        let Ok(Some(hash)) = shard.peek_hash(DB, &shard.key(key.as_bytes()), self.now(at)) else {
            return BTreeMap::new();
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        hash.iter().map(|(name, value)| (text(name), text(value.bytes(&mut Vec::new()).expect("bytes")))).collect()
    }

    /// Everything a node keeps of `keys`, with origins named alike everywhere. Equal once all has been collected.
    pub fn kept(&self, at: usize, keys: &[String]) -> BTreeMap<String, String> {
        let node = &self.nodes[at];
        let global = |origin: OriginIdx| node.indices.iter().position(|known| *known == origin).expect("known");
        let mut kept = BTreeMap::new();
        for key in keys {
            if let Some(entry) = node.shard.keys.find(DB, &node.shard.key(key.as_bytes())) {
                kept.insert(key.clone(), canonical(node.shard.realm(), &unpack(node.shard.realm(), entry), &global));
            }
        }
        kept
    }

    /// Counts of a node against a walk over all its keys. Right after `background`, so that what is due is past.
    pub fn check_counts(&self, at: usize) -> Result<(), String> {
        check_counts(&self.nodes[at].shard, self.now(at))
    }
}

impl Mesh {
    /// Nodes that have applied the same writes of a partition have equal digests of it, and every digest is what a
    /// walk over the data counts. `over_ms`: deadlines up to this time are over for all.
    pub fn check_digests(&self, over_ms: u64) -> Result<(), String> {
        for &partition in &self.partitions {
            let seen: Vec<_> = (0..self.nodes.len()).map(|at| (self.column(at, partition), at)).collect();
            for (column, at) in &seen {
                let digest = self.digests(*at, partition, Over::At(over_ms));
                let keys = &self.nodes[*at].shard.keys;
                let slots = Partition(partition as u8).first_slot().0..;
                let kept: Vec<u64> = slots.take(64).map(|slot| keys.digest(DB, Slot(slot))).collect();
                if kept != self.digests(*at, partition, Over::Passed) {
                    return Err(format!("node {at}: digests of partition {partition} are not what its keys count for"));
                }
                if let Some((_, other)) = seen[..*at].iter().find(|(other, _)| other == column)
                    && self.digests(*other, partition, Over::At(over_ms)) != digest
                {
                    return Err(format!("nodes {other} and {at} have seen the same of {partition}, digests differ"));
                }
            }
        }
        Ok(())
    }

    fn digests(&self, at: usize, partition: usize, over: Over) -> Vec<u64> {
        let keys = &self.nodes[at].shard.keys;
        let slots = Partition(partition as u8).first_slot().0..;
        let sum = |slot: u16| {
            let mut sum = 0u64;
            let slot = Slot(slot);
            keys.each_in_slot(DB, slot, |entry| sum = sum.wrapping_add(keys.weigh(DB, slot, entry, over).writes));
            sum
        };
        slots.take(64).map(sum).collect()
    }

    // What a node has applied of a partition, by origin.
    fn column(&self, at: usize, partition: usize) -> Vec<Hlc> {
        let node = &self.nodes[at];
        node.indices.iter().map(|&index| node.shard.versions.get(index, partition)).collect()
    }
}

/// Counts of a shard against a walk over all its keys, in both databases.
pub fn check_counts(shard: &Shard, now: Now) -> Result<(), String> {
    let time_ms = shard.time_ms(now);
    let (mut tombstones, mut garbage) = (0, BTreeSet::new());
    let (first, end) = shard.keys.partitions();
    for db in [Db(0), Db(1)] {
        let (mut live, mut deadlines) = (0, 0);
        for partition in first..end {
            let slot = Partition(partition as u8).first_slot().0;
            for slot in slot..slot + 64 {
                shard.keys.each_in_slot(db, tutti::base::ids::Slot(slot), |entry| {
                    let is_live = unpack(shard.realm(), entry).visible_type(shard.realm()).is_some();
                    let deadline = deadline_of(entry).and_then(|deadline| deadline.at);
                    let is_seen = visible(shard.realm(), entry, time_ms).is_some();
                    live += usize::from(is_seen);
                    deadlines += usize::from(is_seen && deadline.is_some());
                    tombstones += usize::from(!is_live);
                    let is_garbage = match entry.view() {
                        View::Rich(state) => state.has_garbage(),
                        _ => entry.is_tombstone(),
                    };
                    if is_garbage {
                        garbage.insert((db, entry.key().to_vec()));
                    }
                });
            }
        }
        let got = (shard.keys.len(db), shard.keys.deadlines(db));
        if got != (live, deadlines) {
            return Err(format!("{db:?}: counted (live, deadlines) {got:?}, there are {:?}", (live, deadlines)));
        }
    }
    if shard.keys.tombstones() != tombstones {
        return Err(format!("counted {} tombstones, there are {tombstones}", shard.keys.tombstones()));
    }
    if shard.keys.garbage_len() < garbage.len() {
        return Err(format!("{} keys queued to be collected, there are {}", shard.keys.garbage_len(), garbage.len()));
    }
    Ok(())
}

/// A state as text, whatever the order of its lists. `global` names origins.
pub fn canonical(realm: &Realm, state: &KeyState, global: &impl Fn(OriginIdx) -> usize) -> String {
    let stamp = |stamp: Stamp| if stamp.is_zero() { (0, 0) } else { (stamp.hlc().0, global(stamp.origin())) };
    let cell = |cell: &Cell| {
        let mut slots: Vec<_> = cell
            .slots
            .iter()
            .map(|slot| (global(slot.origin), slot.last.0, slot.epoch.0, slot.total.fixed()))
            .collect();
        let mut observed: Vec<_> = cell
            .observed
            .iter()
            .map(|seen| (global(seen.slot.origin), seen.slot.last.0, seen.slot.epoch.0, stamp(seen.by)))
            .collect();
        slots.sort_unstable();
        observed.sort_unstable();
        let value = cell.value.as_deref().map(String::from_utf8_lossy);
        format!("{:?} {value:?} slots {slots:?} observed {observed:?}", stamp(cell.stamp))
    };
    let fields: BTreeMap<_, _> = state
        .hash
        .iter()
        .flat_map(|hash| hash.iter())
        .map(|field| (field.key().to_vec(), cell(&tutti::merge::hash::unpack(field))))
        .collect();
    let fields: Vec<_> = fields.iter().map(|(name, cell)| (String::from_utf8_lossy(name), cell)).collect();
    let deadline = state.deadline.map(|deadline| (stamp(deadline.stamp), deadline.at));
    let kind = state.visible_type(realm);
    format!(
        "{kind:?} clear {:?} deadline {deadline:?} string {} fields {fields:?}",
        stamp(state.clear),
        cell(&state.string)
    )
}

fn without_observations(bytes: &[u8]) -> Vec<u8> {
    let head = record::head(bytes).expect("whole");
    let mut body = record::body(bytes, &|index| Some(OriginIdx(index))).expect("well formed");
    match &mut body.op {
        Op::Set { observed, .. } => *observed = Observations::new(),
        Op::Clear { observed, fields } => {
            *observed = Observations::new();
            fields.clear();
        }
        Op::Fields { fields } => fields.iter_mut().for_each(|field| field.observed = Observations::new()),
        _ => {}
    }
    let mut out = Vec::new();
    record::encode(&mut out, head.partition, Stamp::new(head.hlc, OriginIdx(head.origin)), body.db, body.key, &body.op);
    out
}

/// A key as a shard's methods take it.
pub fn key_ref<'k>(shard: &Shard, key: &'k str) -> KeyRef<'k> {
    shard.key(key.as_bytes())
}
