//! What one link is sent by this shard: records the reader lacks and wants, and whole partitions that fell behind.
//!
//! `sent` is what the reader has, or has been sent: its version vector at the start, raised by every record sent and
//! every acknowledgement. A record goes out when it is above `sent` and its origin is not one the reader hears
//! directly. So every (origin, partition) stream reaches the reader gapless, whatever the topology.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::Shard;
use super::backlog::Position;
use super::{record, state};
use crate::base::ids::{Db, Partition, SLOTS_PER_PARTITION, Slot};
use crate::merge::op::{put_bytes, put_varint};
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::{Hlc, Stamp};
use crate::merge::version::Versions;
use crate::shard::block::{self, Kind};

/// Records are looked at in runs of about this many bytes, so that one slow link does not hold a core.
const SLICE_BYTES: usize = 256 * 1024;

/// Keys of a full merge are sent in blocks of about this many bytes.
const KEYS_BYTES: usize = 64 * 1024;

/// See the file's head.
pub struct Feed {
    sent: Versions,
    cursor: Position,
    /// Origins the reader hears directly, by local index.
    skip: Vec<OriginIdx>,
    /// By partition, the origins whose writes cannot be streamed until the partition has been merged whole. Those of
    /// others go on: otherwise the reader would take them whole too, its own readers could not stream them either, and
    /// in a ring whole partitions would go round for ever.
    held: Vec<SmallVec<[OriginIdx; 4]>>,
    /// Whether `held` must be looked at again.
    recheck: bool,
    /// The reader has had everything once since it began, or since it wants what it had elsewhere.
    has_caught_up: bool,
    /// Held partitions were announced at this many announcements ago.
    announced: bool,
    /// Partitions the reader has asked for, and what shall be streamed before them: where a core logs faster than it
    /// sends, the end would never come.
    pulls: VecDeque<(Partition, Position)>,
    full: Option<Full>,
    /// Behind these positions the reader shall acknowledge: what was asked for first, and what was asked for since.
    ask_behind: [Option<Position>; 2],
    /// Full merges sent, for INFO.
    pub full_merges: u64,
    /// Records sent, for INFO.
    pub records: u64,
}

struct Full {
    partition: Partition,
    slot: u16,
    db: u16,
    cursor: u64,
}

impl Feed {
    /// A link whose reader has `versions` (of this shard's partitions).
    pub fn new(shard: &Shard, versions: Versions, skip: Vec<OriginIdx>) -> Self {
        let (first, end) = shard.keys.partitions();
        Self {
            sent: versions,
            cursor: shard.backlog.start(),
            skip,
            held: vec![SmallVec::new(); end - first],
            recheck: true,
            has_caught_up: false,
            announced: false,
            pulls: VecDeque::new(),
            full: None,
            ask_behind: [None; 2],
            full_merges: 0,
            records: 0,
        }
    }

    /// The reader shall acknowledge at once everything that has been logged by now, when it has been sent.
    pub fn ask(&mut self, shard: &Shard) {
        // One more at most waits behind the first, so that neither the first is put off nor the last forgotten.
        let slot = usize::from(self.ask_behind[0].is_some());
        self.ask_behind[slot] = Some(shard.backlog.end());
    }

    /// The reader has applied this.
    pub fn acknowledged(&mut self, origin: OriginIdx, partition: usize, hlc: Hlc) {
        if self.sent.raise(origin, partition, hlc) && !self.held[partition - self.sent.range().0].is_empty() {
            self.recheck = true;
        }
    }

    /// The reader's wishes changed: what it does not want from us any more, and what it does again.
    pub fn set_skip(&mut self, shard: &Shard, skip: Vec<OriginIdx>) {
        if skip != self.skip {
            self.skip = skip;
            self.has_caught_up = false;
            self.cursor = shard.backlog.start();
            self.recheck = true;
        }
    }

    /// The reader asks for a whole partition.
    pub fn pull(&mut self, shard: &Shard, partition: Partition) {
        if !self.is_asked_for(partition) && self.full.as_ref().is_none_or(|full| full.partition != partition) {
            self.pulls.push_back((partition, shard.backlog.end()));
        }
    }

    fn is_asked_for(&self, partition: Partition) -> bool {
        self.pulls.iter().any(|(known, _)| *known == partition)
    }

    /// Something was put into the data without going through the backlog: partitions may have fallen behind.
    pub fn recheck(&mut self) {
        self.recheck = true;
    }

    /// Say again which partitions are held (about once a second).
    pub fn announce_again(&mut self) {
        self.announced = false;
    }

    /// Whether everything there is has been sent.
    pub fn is_idle(&self, shard: &Shard) -> bool {
        self.cursor == shard.backlog.end() && self.full.is_none() && self.pulls.is_empty() && !self.recheck
    }

    /// Bytes of the backlog not looked at yet.
    pub fn lag_bytes(&self, shard: &Shard) -> u64 {
        shard.backlog.end().0.saturating_sub(self.cursor.0)
    }

    /// Appends blocks for the reader until `bytes_max` is reached or nothing is left. True: only a slice was looked at, so
    /// call again soon, also when nothing was appended.
    pub fn pump(&mut self, shard: &Shard, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        if self.cursor < shard.backlog.start() {
            self.cursor = shard.backlog.start();
            self.recheck = true;
        }
        if self.recheck {
            self.check_held(shard);
        }
        if !self.announced {
            self.announced = true;
            self.announce(out);
        }
        let start = out.len();
        // A core that logs faster than it sends must not keep out for ever what has to come whole.
        let is_due =
            |feed: &Self| feed.full.is_some() || feed.pulls.front().is_some_and(|(_, from)| feed.cursor >= *from);
        self.stream(shard, out, if is_due(self) { bytes_max - bytes_max / 8 } else { bytes_max });
        if self.ask_behind[0].is_some_and(|position| position <= self.cursor) {
            self.ask_behind = [self.ask_behind[1].filter(|position| *position > self.cursor), None];
            block::put(out, Kind::Acknowledge, |_| {});
        }
        // What can be streamed goes before what comes whole.
        while out.len() - start < bytes_max && is_due(self) && self.full_step(shard, out) {}
        self.has_caught_up |= self.is_idle(shard) && self.held.iter().all(|held| held.is_empty());
        out.len() - start < bytes_max && self.cursor < shard.backlog.end()
    }

    fn stream(&mut self, shard: &Shard, out: &mut Vec<u8>, bytes_max: usize) {
        let start = out.len();
        let mut looked = 0;
        while out.len() - start < bytes_max && looked < SLICE_BYTES {
            let Some(bytes) = shard.backlog.read(self.cursor) else { return };
            if bytes.is_empty() {
                return;
            }
            let before = out.len();
            let mut used = 0;
            block::put(out, Kind::Records, |out| {
                while let Some(head) = record::head(&bytes[used..]) {
                    let partition = usize::from(head.partition.0);
                    let origin = OriginIdx(head.origin);
                    let wanted = head.hlc > self.sent.get(origin, partition)
                        && !self.held[partition - self.sent.range().0].contains(&origin)
                        && (origin == OriginIdx::OWN || !self.skip.contains(&origin));
                    if wanted {
                        out.extend_from_slice(&bytes[used..used + head.bytes]);
                        self.sent.raise(origin, partition, head.hlc);
                        self.records += 1;
                    }
                    used += head.bytes;
                    if used >= SLICE_BYTES || out.len() - start >= bytes_max {
                        break;
                    }
                }
            });
            if out.len() == before + block::HEAD_BYTES + 1 {
                out.truncate(before);
            }
            self.cursor.0 += used as u64;
            looked += used;
        }
    }

    // Finds partitions of which something wanted cannot be read from the backlog.
    fn check_held(&mut self, shard: &Shard) {
        self.recheck = false;
        let (first, end) = self.sent.range();
        let trimmed = shard.backlog.trimmed();
        let origins = || (0..shard.versions.origins().max(trimmed.origins())).map(|origin| OriginIdx(origin as u16));
        // A reader that lacks what was forgotten here was no member then: what it holds may be older than deletes we
        // no longer remember, and our records of them would kill there what we take from it. And one that lacks older
        // writes of somebody who was not waited for (`Stability::unasked`) may have forgotten as much, so that they would
        // count there for more than they do here. Whom a reader waited for while it was away we cannot know: until it has
        // caught up, any older write will do. All these get states instead.
        let forgotten = |origin, partition| {
            let unasked = match origin {
                _ if !self.has_caught_up => Hlc::MAX,
                OriginIdx::OWN => Hlc::ZERO,
                _ => shard.stability.unasked(shard.realm().origins.id(origin), partition),
            };
            let known = unasked.min(shard.keys.forgotten(partition).hlc());
            known.max(shard.keys.forgotten_by(origin, partition)).min(shard.versions.get(origin, partition))
        };
        for partition in first..end {
            let is_lacked = |origin, hlc| !self.skip.contains(&origin) && hlc > self.sent.get(origin, partition);
            let was_away = origins().any(|origin| is_lacked(origin, forgotten(origin, partition)));
            let behind: SmallVec<[OriginIdx; 4]> =
                origins().filter(|&origin| was_away || is_lacked(origin, trimmed.get(origin, partition))).collect();
            let held = &mut self.held[partition - first];
            if held.iter().any(|origin| !behind.contains(origin)) {
                // What it missed while it was held is still in the backlog.
                self.cursor = shard.backlog.start();
            }
            if !behind.is_empty() && held.is_empty() {
                self.announced = false;
            }
            *held = behind;
        }
    }

    fn announce(&self, out: &mut Vec<u8>) {
        let first = self.sent.range().0;
        let merging = self.full.as_ref().map(|full| full.partition);
        let held: Vec<u8> = (0..self.held.len())
            .filter(|&at| !self.held[at].is_empty())
            .map(|at| (first + at) as u8)
            .filter(|&partition| merging != Some(Partition(partition)) && !self.is_asked_for(Partition(partition)))
            .collect();
        if !held.is_empty() {
            block::put(out, Kind::Behind, |out| out.extend_from_slice(&held));
        }
    }

    // One step of a full merge; false when there is none under way.
    fn full_step(&mut self, shard: &Shard, out: &mut Vec<u8>) -> bool {
        let Some(full) = &mut self.full else {
            let Some((partition, _)) = self.pulls.pop_front() else { return false };
            self.begin_full(shard, partition, out);
            return true;
        };
        let slot = Slot(full.partition.first_slot().0 + full.slot);
        block::put(out, Kind::FullKeys, |out| {
            out.push(full.partition.0);
            put_varint(out, u64::from(full.db));
            let start = out.len();
            while out.len() - start < KEYS_BYTES {
                full.cursor = shard.keys.scan_slot(Db(full.db), slot, full.cursor, 16, |entry| {
                    put_bytes(out, entry.key());
                    state::encode(entry, out);
                });
                if full.cursor == 0 {
                    break;
                }
            }
        });
        if full.cursor != 0 {
            return true;
        }
        full.db += 1;
        if usize::from(full.db) < shard.keys.databases() {
            // Databases without keys in this slot are passed over without a block each.
            while usize::from(full.db) < shard.keys.databases() && shard.keys.slot_len(Db(full.db), slot) == 0 {
                full.db += 1;
            }
            if usize::from(full.db) < shard.keys.databases() {
                return true;
            }
        }
        block::put(out, Kind::FullSlot, |out| out.extend_from_slice(&slot.0.to_le_bytes()));
        full.db = 0;
        full.slot += 1;
        if usize::from(full.slot) == SLOTS_PER_PARTITION {
            let partition = full.partition;
            block::put(out, Kind::FullEnd, |out| out.push(partition.0));
            self.full = None;
            self.full_merges += 1;
        }
        true
    }

    fn begin_full(&mut self, shard: &Shard, partition: Partition, out: &mut Vec<u8>) {
        let at = usize::from(partition.0);
        block::put(out, Kind::FullBegin, |out| {
            out.push(partition.0);
            let forgotten = shard.forgotten_of(at);
            put_varint(out, forgotten.clone().count() as u64);
            forgotten.for_each(|stamp| state::put_stamp(out, stamp));
            let flushes: Vec<(u16, Stamp)> = (0..shard.keys.databases() as u16)
                .map(|db| (db, shard.keys.flushed(Db(db), at)))
                .filter(|(_, stamp)| !stamp.is_zero())
                .collect();
            put_varint(out, flushes.len() as u64);
            for (db, stamp) in flushes {
                put_varint(out, u64::from(db));
                state::put_stamp(out, stamp);
            }
            // What our data may hold beyond that, the reader's may too afterwards.
            let ahead = shard.ahead_of(at);
            put_varint(out, ahead.clone().count() as u64);
            for (origin, hlc) in ahead.chain(shard.versions.column(at)) {
                state::put_stamp(out, Stamp::new(hlc, origin));
            }
        });
        // Everything up to here goes with the whole partition; what comes after is streamed beside it.
        for (origin, hlc) in shard.versions.column(at) {
            self.sent.raise(origin, at, hlc);
        }
        self.held[at - self.sent.range().0].clear();
        self.full = Some(Full { partition, slot: 0, db: 0, cursor: 0 });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::ids::{ShardId, Uuid};
    use crate::base::slot::ShardMap;
    use crate::base::time::Now;
    use crate::merge::op::Op;
    use crate::merge::origins::OriginId;
    use crate::merge::realm::Realm;
    use crate::shard::ShardSettings;
    use crate::shard::block::Front;
    use crate::store::keyspace::KeyRef;

    const NOW: Now = Now { wall_ms: 1_770_000_000_000, mono_us: 0 };

    fn shard_of(node: u8, backlog_bytes_max: usize) -> Shard {
        let realm = Arc::new(Realm::new(OriginId { node: Uuid([node; 16]), incarnation: 1 }, 1));
        let (id, map) = (ShardId(0), ShardMap::new(1));
        let settings = ShardSettings { id, map, databases: 1, backlog_bytes_max, drift_ms_max: 1000, seed: 1 };
        let mut shard = Shard::new(realm, &settings);
        shard.logging = true;
        shard
    }

    fn write(shard: &mut Shard, bytes: usize) {
        let key = KeyRef::new(&Arc::clone(shard.realm()), b"k");
        shard.apply_local(Db(0), &key, &Op::set(&vec![b'v'; bytes]), NOW);
    }

    /// What `from` calls an origin, as `to` calls it.
    fn called<'a>(from: &'a Shard, to: &'a Shard) -> impl Fn(u16) -> Option<OriginIdx> + 'static {
        let (from, to) = (Arc::clone(from.realm()), Arc::clone(to.realm()));
        move |index| to.origins.index(from.origins.id(OriginIdx(index)))
    }

    fn blocks(mut bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let mut blocks = Vec::new();
        while let Front::Block(kind, payload, used) = block::front(bytes) {
            blocks.push((kind, payload.to_vec()));
            bytes = &bytes[used..];
        }
        blocks
    }

    fn take_records(to: &mut Shard, records: &[u8], from: &Shard) {
        let origin = called(from, to);
        assert_eq!(to.merge(records, &origin, true, NOW), crate::shard::Merged::Applied);
    }

    /// Others' writes that can be streamed must not come whole: whoever reads from the reader could then not be streamed
    /// them either.
    #[test]
    fn only_writes_that_cannot_be_streamed_come_whole() {
        let (mut a, mut b, mut reader) = (shard_of(1, 1 << 16), shard_of(2, 1 << 16), shard_of(3, 1 << 16));
        (0..4).for_each(|_| write(&mut a, 50_000));
        write(&mut b, 10);
        let records = b.backlog.read(b.backlog.start()).expect("there is one").to_vec();
        take_records(&mut a, &records, &b);
        let at = KeyRef::new(a.realm(), b"k").slot.partition();
        let b_at_a = called(&b, &a)(0).expect("room");
        assert!(a.backlog.trimmed().get(OriginIdx::OWN, at.0.into()) > Hlc::default(), "the first are forgotten");

        let mut feed = Feed::new(&a, reader.versions.clone(), Vec::new());
        let mut out = Vec::new();
        feed.pump(&a, &mut out, 1 << 20);
        let said = blocks(&out);
        assert_eq!(said[0], (Kind::Behind, vec![at.0]));
        assert_eq!(said.len(), 2);
        assert_eq!(said[1].0, Kind::Records);
        assert_eq!(record::head(&said[1].1).map(|head| head.origin), Some(b_at_a.0), "of b, but not of a");
        take_records(&mut reader, &said[1].1, &a);

        out.clear();
        feed.pull(&a, at);
        feed.pump(&a, &mut out, 1 << 20);
        let whole = blocks(&out);
        let [a_there, b_there] = [&a, &b].map(|of| called(of, &reader)(0).expect("room"));
        let mut merging = reader.begin_merging(&whole[0].1, &called(&a, &reader)).expect("well formed");
        assert!(merging.fills_gap(&reader, a_there));
        assert!(!merging.fills_gap(&reader, b_there), "it has been streamed");
        let all_of_a = a.versions.get(OriginIdx::OWN, at.0.into());
        merging.streamed(a_there, all_of_a.next());
        reader.versions.raise(a_there, at.0.into(), all_of_a);
        assert!(merging.fills_gap(&reader, a_there), "of what came beside it nobody can be streamed");
        reader.end_merging(&merging, NOW);
        let trimmed = |origin| reader.backlog.trimmed().get(origin, at.0.into());
        assert_eq!([trimmed(a_there), trimmed(b_there)], [all_of_a.next(), Hlc::default()]);
    }

    /// In a ring a write takes a while to the last reader, and a later delete is forgotten meanwhile: it has acknowledged
    /// that, and remembers it until the older write is there. Not so if nobody waits for who wrote that.
    #[test]
    fn who_has_all_that_was_forgotten_is_streamed_older_writes_of_members() {
        let (mut a, mut b, reader) = (shard_of(1, 1 << 16), shard_of(2, 1 << 16), shard_of(3, 1 << 16));
        let run = |incarnation| OriginId { node: Uuid([2; 16]), incarnation };
        a.stability.add(run(1).node);
        a.stability.begin(run(1));
        let mut feeds = [(); 3].map(|()| Feed::new(&a, reader.versions.clone(), Vec::new()));
        let said = |a: &Shard, feed: &mut Feed| {
            let mut out = Vec::new();
            feed.recheck();
            feed.pump(a, &mut out, 1 << 20);
            blocks(&out).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        feeds.iter_mut().for_each(|feed| assert_eq!(said(&a, feed), [], "it has everything there is"));
        write(&mut b, 10);
        let records = b.backlog.read(b.backlog.start()).expect("there is one").to_vec();
        take_records(&mut a, &records, &b);
        write(&mut a, 10);
        let at = KeyRef::new(a.realm(), b"k").slot.partition();
        let last = a.versions.get(OriginIdx::OWN, at.0.into());
        a.keys.raise_forgotten(at.0.into(), Stamp::new(last, OriginIdx::OWN));
        let [has_it, lacks_it, late] = &mut feeds;
        has_it.acknowledged(OriginIdx::OWN, at.0.into(), last);
        late.acknowledged(OriginIdx::OWN, at.0.into(), last);
        assert_eq!(said(&a, has_it), [Kind::Records]);
        assert_eq!(said(&a, lacks_it), [Kind::Behind], "it was no member then");
        let mut versions = reader.versions.clone();
        versions.raise(OriginIdx::OWN, at.0.into(), last);
        let mut again = Feed::new(&a, versions, Vec::new());
        assert_eq!(said(&a, &mut again), [Kind::Behind], "for whom it waited while it was away nobody knows");
        a.note_forgotten();
        a.stability.begin(run(2));
        assert_eq!(
            said(&a, late),
            [Kind::Behind],
            "what wrote it is over: who has forgotten the delete did not wait for it"
        );
    }

    #[test]
    fn what_the_reader_has_is_passed_over_in_slices_that_follow_each_other() {
        let mut shard = shard_of(1, 1 << 20);
        (0..9).for_each(|_| write(&mut shard, 50_000));
        let mut feed = Feed::new(&shard, shard.versions.clone(), Vec::new());
        let mut out = Vec::new();
        assert!(feed.pump(&shard, &mut out, SLICE_BYTES), "half of it was looked at, nothing was sent: call again");
        assert!(!feed.pump(&shard, &mut out, SLICE_BYTES));
        assert!(out.is_empty() && feed.is_idle(&shard));
    }
}
