//! A whole partition arriving over a link: joined key by key with causal context while writes go on.
//!
//! Until its end the partition's version vector stays where it was, so a link that breaks in the middle has changed
//! nothing that cannot come again. Records of the partition that the same link streams meanwhile do not move the version
//! vector either, and are not passed on, if what their origins wrote before comes with the whole. How far the data may
//! be ahead of it is kept until the version vector has come that far ([`Shard::beyond`]), also when the link breaks.

use std::collections::BTreeSet;

use super::compare::Applied;
use super::{Shard, state};
use crate::base::ids::{Db, Partition, Slot};
use crate::base::time::Now;
use crate::merge::context::Context;
use crate::merge::key::KeyState;
use crate::merge::op::{take_bytes, take_varint};
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::{Hlc, Stamp};
use crate::merge::version::Versions;
use crate::store::keyspace::KeyRef;

/// A full merge under way.
pub struct Merging {
    /// Which partition.
    pub partition: Partition,
    /// What the sender had applied when it began.
    theirs: Versions,
    /// What was streamed beside it.
    streamed: Versions,
    /// Keys of the present slot the sender has mentioned.
    mentioned: BTreeSet<(Db, Box<[u8]>)>,
}

impl Shard {
    /// What the data of a partition may hold beyond what `applied` says.
    pub fn beyond(&self, partition: Partition, applied: &[(OriginIdx, Hlc)]) -> Applied {
        let at = usize::from(partition.0);
        let said = |origin: OriginIdx| applied.iter().find(|(known, _)| *known == origin).map(|(_, hlc)| *hlc);
        let all = self.versions.column(at).chain(self.ahead.of(at));
        all.filter(|&(origin, hlc)| hlc > said(origin).unwrap_or_default()).collect()
    }

    /// The data of a partition may hold what an origin has written up to there.
    pub fn raise_ahead(&mut self, partition: usize, origin: OriginIdx, to: Hlc) {
        if origin != OriginIdx::OWN && to > self.versions.get(origin, partition) {
            self.ahead.raise(partition, origin, to);
        }
    }

    /// What full merges may have brought that the version vector does not say yet.
    pub fn all_ahead(&self) -> impl Iterator<Item = (OriginIdx, usize, Hlc)> + '_ {
        let (first, end) = self.keys.partitions();
        (first..end).flat_map(|at| self.ahead.of(at).map(move |(origin, hlc)| (origin, at, hlc)))
    }

    /// The same of one partition.
    pub(super) fn ahead_of(&self, partition: usize) -> impl Iterator<Item = (OriginIdx, Hlc)> + Clone + '_ {
        self.ahead.of(partition)
    }

    /// A whole partition begins. `None`: malformed.
    pub fn begin_merging(&mut self, mut input: &[u8], origin: &impl Fn(u16) -> Option<OriginIdx>) -> Option<Merging> {
        let (&partition, rest) = input.split_first()?;
        input = rest;
        let at = usize::from(partition);
        let mut forgotten = Vec::new();
        for _ in 0..take_varint(&mut input)? {
            forgotten.push(state::take_stamp(&mut input, origin)?);
        }
        let mut flushes = Vec::new();
        for _ in 0..take_varint(&mut input)? {
            let db = Db(u16::try_from(take_varint(&mut input)?).ok()?);
            flushes.push((db, state::take_stamp(&mut input, origin)?));
        }
        let mut ahead = Vec::new();
        for _ in 0..take_varint(&mut input)? {
            ahead.push(state::take_stamp(&mut input, origin)?);
        }
        let mut theirs = Versions::new(at, at + 1);
        while !input.is_empty() {
            let stamp = state::take_stamp(&mut input, origin)?;
            theirs.raise(stamp.origin(), at, stamp.hlc());
        }
        let newest = self.newest_applied(at);
        for (db, stamp) in flushes {
            if usize::from(db.0) < self.keys.databases() {
                self.keys.flush(db, at, stamp, newest);
            }
        }
        for stamp in forgotten {
            self.keys.raise_forgotten(at, stamp);
            self.stability.note_import(at, stamp);
        }
        for (origin, hlc) in theirs.column(at).chain(ahead.iter().map(|stamp| (stamp.origin(), stamp.hlc()))) {
            self.raise_ahead(at, origin, hlc);
        }
        let streamed = Versions::new(at, at + 1);
        Some(Merging { partition: Partition(partition), theirs, streamed, mentioned: BTreeSet::new() })
    }

    /// Keys of it. False: malformed.
    pub fn merge_keys(
        &mut self,
        merging: &mut Merging,
        mut input: &[u8],
        origin: &impl Fn(u16) -> Option<OriginIdx>,
    ) -> bool {
        let Some(db) = take_varint(&mut input).and_then(|db| u16::try_from(db).ok()).map(Db) else { return false };
        while !input.is_empty() {
            let Some(key) = take_bytes(&mut input) else { return false };
            let Some(other) = state::decode(&self.realm, &mut input, origin) else { return false };
            if usize::from(db.0) < self.keys.databases() {
                let key = KeyRef::new(&self.realm, key);
                if key.slot.partition() != merging.partition {
                    return false;
                }
                self.join_with_context(merging, db, &key, other);
                merging.mentioned.insert((db, Box::from(key.bytes)));
            }
        }
        true
    }

    /// A slot of it is complete: what we have and the sender did not mention was deleted there, if it knew it.
    pub fn merge_slot(&mut self, merging: &mut Merging, slot: Slot) {
        for db in 0..self.keys.databases() as u16 {
            let mut ours: Vec<Box<[u8]>> = Vec::new();
            self.keys.each_in_slot(Db(db), slot, |entry| ours.push(Box::from(entry.key())));
            for key in ours {
                if !merging.mentioned.contains(&(Db(db), key.clone())) {
                    let key = KeyRef::new(&self.realm, &key);
                    self.join_with_context(merging, Db(db), &key, KeyState::default());
                }
            }
        }
        merging.mentioned.clear();
    }

    /// It is complete: everything the sender had applied is applied here.
    pub fn end_merging(&mut self, merging: &Merging, now: Now) {
        let at = usize::from(merging.partition.0);
        for (origin, hlc) in merging.theirs.column(at).chain(merging.streamed.column(at)) {
            if origin == OriginIdx::OWN || !self.versions.raise(origin, at, hlc) {
                continue;
            }
            self.clock.observe(hlc, now.wall_ms, self.drift_ms_max);
            // It did not come through the backlog, so links that read from there must be told otherwise.
            self.backlog.raise_trimmed(at, Stamp::new(hlc, origin));
        }
        self.ahead.settle(at, &self.versions);
        self.settle_doubts(at, &merging.theirs);
    }

    fn join_with_context(&mut self, merging: &Merging, db: Db, key: &KeyRef<'_>, mut other: KeyState) {
        let at = usize::from(merging.partition.0);
        let flush = self.keys.flushed(db, at);
        if !flush.is_zero() {
            other.flush(&self.realm, flush);
        }
        self.keys.raise_joined(at, other.newest(&self.realm));
        let (realm, versions) = (&self.realm, &self.versions);
        // Our own unstreamed writes are covered by what we applied; the sender's view of them is `theirs`.
        let ours = |stamp: Stamp| versions.covers(at, stamp);
        let theirs = |stamp: Stamp| merging.theirs.covers(at, stamp);
        let context = Context { ours: &ours, theirs: &theirs };
        self.keys.update(db, key, |state| {
            state.join_with_context(realm, &other, &context);
            true
        });
    }
}

impl Merging {
    /// Whether what an origin wrote before its next record is here only when all of the partition is; or is here, but has
    /// come beside it and was not logged, and another link has meanwhile brought what was before that.
    pub fn fills_gap(&self, shard: &Shard, origin: OriginIdx) -> bool {
        let at = usize::from(self.partition.0);
        self.theirs.get(origin, at).max(self.streamed.get(origin, at)) > shard.versions.get(origin, at)
    }

    /// A record of the partition came over the same link and was applied.
    pub fn streamed(&mut self, origin: OriginIdx, hlc: Hlc) {
        self.streamed.raise(origin, usize::from(self.partition.0), hlc);
    }
}
