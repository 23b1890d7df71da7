//! One shard: its keys, its clock, what it has seen of every origin, and the log its links read from.
//!
//! A local write is: decide, stamp, effect, `apply`. A merged write is: `apply`. Both end in the backlog.
//!
//! Reading order: this file, `write` (what commands call), `hash` (the same for hashes), `record`, `backlog`, `feed` (what a link is sent),
//! `stability`, `standing` (who is a member), `merging` (whole partitions), `doubts`, `compare` (with other nodes).

pub mod backlog;
pub mod block;
pub mod compare;
mod doubts;
pub mod feed;
pub mod hash;
mod marks;
pub mod merging;
pub mod record;
pub mod stability;
pub mod standing;
pub mod state;
pub mod walk;
pub mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::ids::{Db, Partition, ShardId};
use crate::base::rng::Rng;
use crate::base::slot::{ShardMap, slot_of};
use crate::base::time::Now;
use crate::merge::hlc::Clock;
use crate::merge::op::Op;
use crate::merge::origins::OriginIdx;
use crate::merge::realm::Realm;
use crate::merge::stamp::{Hlc, Stamp};
use crate::merge::version::Versions;
use crate::store::keyspace::ahead::{SOON_MAX, Soon};
use crate::store::keyspace::{KeyRef, Keyspace};
use backlog::Backlog;
use marks::Marks;
use stability::Stability;

/// What a shard is made with.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Which one.
    pub id: ShardId,
    /// How many there are.
    pub map: ShardMap,
    /// SELECT 0 to `databases` - 1.
    pub databases: usize,
    /// This shard's part of `repl-backlog-size`.
    pub backlog_bytes_max: usize,
    /// `max-clock-drift`: how far a peer's clock may drag ours, milliseconds.
    pub drift_ms_max: u64,
    /// Seed of RANDOMKEY and the like.
    pub seed: u64,
}

/// See the file's head.
pub struct Shard {
    /// Which one.
    pub id: ShardId,
    /// How the partitions are dealt.
    pub map: ShardMap,
    /// The keys.
    pub keys: Keyspace,
    /// What has been applied here, per origin and partition.
    pub versions: Versions,
    /// What links read from.
    pub backlog: Backlog,
    /// What members have acknowledged.
    pub stability: Stability,
    /// What has happened, for INFO.
    pub stats: Stats,
    /// For RANDOMKEY, HRANDFIELD and the like.
    pub rng: Rng,
    /// Whether any link may ever read the backlog. Without, writes are not logged, and the first link gets a full merge.
    pub logging: bool,
    /// Partitions whose memories stay for now, and until when; see [`Shard::keep_memories`].
    remembering: BTreeMap<u8, u64>,
    /// What full merges may have brought that the version vector does not say yet.
    ahead: Marks,
    loaded: Option<doubts::Loaded>,
    /// What a node must have applied that we take a partition from, to end a doubt about it.
    doubts: Marks,
    realm: Arc<Realm>,
    clock: Clock,
    drift_ms_max: u64,
}

/// Counters of one shard; INFO adds them up.
#[derive(Clone, Copy, Default, Debug)]
pub struct Stats {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys whose deadline passed.
    pub expired: u64,
    /// Local writes since the last snapshot began, and in all.
    pub dirty: u64,
    /// Merged writes that changed something.
    pub merged_won: u64,
    /// Merged writes that lost to what was here.
    pub merged_lost: u64,
    /// Merged writes that had been seen before.
    pub duplicates: u64,
    /// Merged writes stamped beyond `max-clock-drift`.
    pub drifted: u64,
    /// Records that could not be read.
    pub malformed: u64,
    /// Partitions whose digests were compared with another node's.
    pub digest_comparisons: u64,
    /// Keys that differed from another node's though no write was under way, and slots whose digest did not agree
    /// with their data.
    pub digest_mismatches: u64,
    /// Of these keys, how many were repaired.
    pub digest_repairs: u64,
}

/// What became of a merged record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Merged {
    /// Applied; something changed, or the write lost.
    Applied,
    /// Seen before.
    Duplicate,
    /// Unreadable; nothing was done. The link must be dropped, or a write would be skipped.
    Malformed,
}

impl Shard {
    /// An empty shard.
    pub fn new(realm: Arc<Realm>, settings: &ShardSettings) -> Self {
        let (first, end) = settings.map.range(settings.id);
        Self {
            id: settings.id,
            map: settings.map,
            keys: Keyspace::new(Arc::clone(&realm), first, end, settings.databases),
            versions: Versions::new(first, end),
            backlog: Backlog::new(first, end, settings.backlog_bytes_max),
            stability: Stability::new(first, end),
            stats: Stats::default(),
            rng: Rng::new(settings.seed),
            logging: false,
            remembering: BTreeMap::new(),
            ahead: Marks::default(),
            loaded: None,
            doubts: Marks::default(),
            realm,
            clock: Clock::default(),
            drift_ms_max: settings.drift_ms_max,
        }
    }

    /// The realm all cores of this node share.
    pub fn realm(&self) -> &Arc<Realm> {
        &self.realm
    }

    /// The time against which deadlines are judged: the wall clock, but never behind a stamp minted or followed, so
    /// that a write's stamp and its view of what has expired agree.
    #[inline]
    pub fn time_ms(&self, now: Now) -> u64 {
        now.wall_ms.max(self.clock.last().wall_ms())
    }

    /// Tells [`Shard::stability`] what has been forgotten by now. Called before members are added or looked after.
    pub fn note_forgotten(&mut self) {
        let (keys, (first, end)) = (&self.keys, self.keys.partitions());
        self.stability.note_forgotten((first..end).map(|at| keys.forgotten(at).hlc()));
    }

    /// What has been forgotten in a partition, by origin, as others must know it: of origins without a write there nobody
    /// lacks anything.
    pub fn forgotten_of(&self, partition: usize) -> impl Iterator<Item = Stamp> + Clone + '_ {
        let is_here = move |stamp: &Stamp| self.versions.get(stamp.origin(), partition) > Hlc::ZERO;
        self.keys.forgotten_of(partition).filter(is_here)
    }

    /// Moves the clock to the wall clock and returns a reading below every later stamp of this shard.
    pub fn promise(&mut self, now: Now) -> Hlc {
        self.clock.observe(Hlc::at_ms(now.wall_ms), now.wall_ms, 0);
        self.clock.last()
    }

    /// The same for other nodes: a reading below every later stamp also of a run of this node that remembers nothing of
    /// this one. What the clock has followed is forgotten with it, so only the wall clock counts.
    pub fn lasting_promise(&mut self, now: Now) -> Hlc {
        self.promise(now).min(Hlc::at_ms(now.wall_ms))
    }

    /// Deadlines before this Unix millisecond are final here; what a member tells the others
    /// (`Stability::finalise`).
    pub fn final_ms(&self) -> u64 {
        self.keys.final_ms()
    }

    /// `max-clock-drift` changed.
    pub fn set_drift_ms_max(&mut self, drift_ms_max: u64) {
        self.drift_ms_max = drift_ms_max;
    }

    /// The last reading minted or followed.
    pub fn last_hlc(&self) -> Hlc {
        self.clock.last()
    }

    /// Follows a reading without limit: what our own data, loaded from disk, is stamped with.
    pub fn restore_clock(&mut self, heard: Hlc) {
        self.clock.observe(heard, heard.wall_ms(), 1);
    }

    /// Stamps and applies a local write, and logs it. Returns the stamp.
    pub fn apply_local(&mut self, db: Db, key: &KeyRef<'_>, op: &Op<'_>, now: Now) -> Stamp {
        let last = self.last_of(key);
        let (stamp, _) = self.keys.apply(db, key, op, mint(&mut self.clock, now, last, self.drift_ms_max));
        self.applied(db, key, stamp, op);
        stamp
    }

    /// The last stamp of the stream that a local write of a key belongs to.
    #[inline]
    fn last_of(&self, key: &KeyRef<'_>) -> Hlc {
        self.versions.get(OriginIdx::OWN, usize::from(key.slot.partition().0))
    }

    /// Counts and logs a local write that has been applied.
    #[inline]
    fn applied(&mut self, db: Db, key: &KeyRef<'_>, stamp: Stamp, op: &Op<'_>) {
        self.stats.dirty += 1;
        self.log(key.slot.partition(), stamp, db, key.bytes, op);
    }

    /// FLUSHDB, FLUSHALL ([`record::EVERY_DB`]): empties this shard's part of a database. Partitions that never held
    /// anything are flushed too: an older write of a peer that is still on its way must not survive.
    ///
    /// That leaves one record of 19 bytes per partition, 4.9 KB for a whole node however much it held.
    pub fn flush(&mut self, db: Db, now: Now) {
        let (first, end) = self.keys.partitions();
        for partition in first..end {
            self.flush_local(db, Partition(partition as u8), now);
        }
    }

    /// Empties one partition of a database, stamped above everything applied there.
    pub fn flush_local(&mut self, db: Db, partition: Partition, now: Now) {
        let at = usize::from(partition.0);
        // A flush cannot say what it has observed of counters, so deletes before it do: an owner that has not heard
        // of the flush may add to a count, and only the difference is newer than the flush.
        if self.logging || self.stability.members().next().is_some() {
            for each in (0..self.keys.databases() as u16).map(Db).filter(|&each| db == record::EVERY_DB || db == each) {
                for key in self.keys.counters(each, at) {
                    let key = KeyRef::new(&self.realm, &key);
                    self.clear_counts(each, &key, now);
                }
            }
        }
        let newest = self.newest_applied(at);
        let floor = newest.hlc().max(self.keys.forgotten(at).hlc());
        let stamp = Stamp::new(self.clock.mint(now.wall_ms, floor, self.drift_ms_max), OriginIdx::OWN);
        self.stats.dirty += u64::from(self.flush_dbs(db, at, stamp, newest));
        self.log(partition, stamp, db, &[], &Op::Flush);
    }

    /// Asks for the keys of the first of these records, and says of how many: they are to be merged next. Merged
    /// without that, a record waits for memory four or five times in a row, which was nearly all of its CPU time where
    /// the keys do not fit the caches.
    pub fn fetch_records(&self, mut records: &[u8]) -> usize {
        let (first, end) = self.keys.partitions();
        let mut soon: SmallVec<[Soon; SOON_MAX]> = SmallVec::new();
        let mut count = 0;
        while count < SOON_MAX
            && let Some(head) = record::head(records)
        {
            if let Some((db, key)) = record::key(&records[..head.bytes])
                && (first..end).contains(&usize::from(head.partition.0))
            {
                let slot = slot_of(key);
                // A malformed record, or a flush, may have a key of anybody.
                if slot.partition() == head.partition {
                    self.keys.prefetch_table(db, slot);
                    soon.push(Soon::new(&self.realm, db, key, slot, None));
                }
            }
            records = &records[head.bytes..];
            count += 1;
        }
        // A single key arrives no sooner for being asked for just before it is used.
        if soon.len() > 1 {
            self.keys.fetch(&soon);
        }
        count
    }

    /// Applies one record of a link. `origin` turns the link's origin indices into ours. `advance` false: the
    /// partition is being merged whole, so the version vector waits for its end and the record is not passed on.
    pub fn merge(
        &mut self,
        record: &[u8],
        origin: &impl Fn(u16) -> Option<OriginIdx>,
        advance: bool,
        now: Now,
    ) -> Merged {
        let Some(head) = record::head(record) else { return self.malformed() };
        let Some(from) = origin(head.origin) else { return self.malformed() };
        let partition = usize::from(head.partition.0);
        let (first, end) = self.keys.partitions();
        if !(first..end).contains(&partition) {
            return self.malformed();
        }
        // Our own writes come back only from an earlier run, which is another origin.
        if from == OriginIdx::OWN || head.hlc <= self.versions.get(from, partition) {
            self.stats.duplicates += 1;
            return Merged::Duplicate;
        }
        let Some(body) = record::body(record, origin) else { return self.malformed() };
        let stamp = Stamp::new(head.hlc, from);
        let key = KeyRef::new(&self.realm, body.key);
        if body.op != Op::Flush && key.slot.partition() != head.partition {
            return self.malformed();
        }
        if self.clock.observe(head.hlc, now.wall_ms, self.drift_ms_max) > 0 {
            self.stats.drifted += 1;
        }
        let changed = if body.op == Op::Flush {
            let newest = self.newest_applied(partition);
            self.flush_dbs(body.db, partition, stamp, newest)
        } else if usize::from(body.db.0) >= self.keys.databases() {
            // A peer with more databases than we have: kept out of our data, but passed on.
            false
        } else {
            if self.keys.has_past() {
                let horizon_ms = self.stability.horizon_ms(self.clock.last());
                let stable = |_, stamp| self.stability.is_stable(partition, stamp);
                self.keys.finish(body.db, &key, horizon_ms, &stable);
            }
            self.look_for_doubts(body.db, &key, stamp);
            self.keys.apply(body.db, &key, &body.op, |_| stamp).1
        };
        if changed {
            self.stats.merged_won += 1;
            self.stats.dirty += 1;
        } else {
            self.stats.merged_lost += 1;
        }
        if !advance {
            self.keys.raise_joined(partition, stamp);
            self.raise_ahead(partition, from, head.hlc);
        } else {
            self.log(head.partition, stamp, body.db, body.key, &body.op);
        }
        Merged::Applied
    }

    /// Bounded background work: deadlines, what is stable, tables cut off by a flush. True: call again soon.
    pub fn background(&mut self, now: Now, work: &mut usize) -> bool {
        const BUDGET: usize = 64;
        // An idle clock must not hold up the end of deadlines.
        let promised = self.promise(now);
        let time_ms = self.time_ms(now);
        let horizon_ms = self.stability.horizon_ms(promised);
        let all_final_ms = self.stability.all_final_ms(self.keys.final_ms());
        self.remembering.retain(|_, until_us| *until_us > now.mono_us);
        let (stability, remembering) = (&self.stability, &self.remembering);
        let stable_in =
            |slot: crate::base::ids::Slot, stamp| stability.is_stable(usize::from(slot.partition().0), stamp);
        let (expired, mut more) = self.keys.expire(time_ms, horizon_ms, all_final_ms, &stable_in, BUDGET);
        self.stats.expired += expired as u64;
        let (first, end) = self.keys.partitions();
        // A few partitions a call, in turn.
        for _ in 0..8 {
            let partition = first + *work % (end - first);
            *work += 1;
            if remembering.contains_key(&(partition as u8)) {
                continue;
            }
            more |= self.keys.collect(partition, &|stamp| stability.is_stable(partition, stamp), BUDGET);
        }
        more | self.keys.free_trash(4096)
    }

    /// The latest stamp applied in a partition, whoever wrote it.
    pub fn newest_applied(&self, partition: usize) -> Stamp {
        let stamps = self.versions.column(partition).map(|(origin, hlc)| Stamp::new(hlc, origin));
        // What a merge of the whole partition has brought so far is ahead of the version vector.
        stamps.fold(self.keys.joined(partition), |newest, stamp| self.realm.origins.later(newest, stamp))
    }

    // Returns whether anything was there to go.
    fn flush_dbs(&mut self, db: Db, partition: usize, stamp: Stamp, newest: Stamp) -> bool {
        let all = (0..self.keys.databases() as u16).filter(|&each| db == record::EVERY_DB || db == Db(each));
        all.fold(false, |gone, each| self.keys.flush(Db(each), partition, stamp, newest) | gone)
    }

    #[inline]
    fn log(&mut self, partition: Partition, stamp: Stamp, db: Db, key: &[u8], op: &Op<'_>) {
        self.versions.raise(stamp.origin(), usize::from(partition.0), stamp.hlc());
        if self.logging {
            self.backlog.push(|out| record::encode(out, partition, stamp, db, key, op));
        } else {
            self.backlog.raise_trimmed(usize::from(partition.0), stamp);
        }
    }

    fn malformed(&mut self) -> Merged {
        self.stats.malformed += 1;
        Merged::Malformed
    }
}

/// Stamps a local write above a floor and above the stream's `last` stamp, which may be ahead of the clock.
#[inline]
fn mint(clock: &mut Clock, now: Now, last: Hlc, drift_ms_max: u64) -> impl FnOnce(Stamp) -> Stamp + '_ {
    move |floor| Stamp::new(clock.mint(now.wall_ms, floor.hlc().max(last), drift_ms_max), OriginIdx::OWN)
}
