//! One shard's side of a comparison of nodes: what its slots and keys count for, in bounded steps, and the repair of
//! keys that differ. Knows nothing of who compares.

use super::{Shard, state};
use crate::base::ids::{Db, Partition, SLOTS_PER_PARTITION, Slot};
use crate::mem::entry::View;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::store::keyspace::Packed;
use crate::store::keyspace::weigh::Over;
use crate::store::watches::{WatchId, Watching};

pub use crate::store::watches::Weights;

/// So many keys of a slot are fetched from memory together, and looked at in one go.
const TOGETHER: usize = 512;

/// Slots of at most so many keys are fetched ahead: more than a first-level cache holds would push out each other.
const AHEAD_MAX: usize = 128;

/// How closely slots are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// The kept digests of a partition as one number: the same writes were joined, going by the books.
    Total = 0,
    /// The kept digests of its slots.
    Kept = 1,
    /// Everything read again: the books are right, the same writes are there, and their bytes are the same.
    Data = 2,
}

/// A key by its name in digests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The name.
    pub id: u64,
    /// What it counts for.
    pub weights: Weights,
}

/// A key that is kept.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its database.
    pub db: Db,
    /// Its name.
    pub key: Box<[u8]>,
    /// What it counts for.
    pub weights: Weights,
    /// `state` form.
    pub state: Vec<u8>,
}

/// What had been applied of a partition.
pub type Applied = Vec<(OriginIdx, Hlc)>;

/// A place in what happens to a partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// Writes up to these have been applied.
    pub applied: Applied,
    /// Deadlines up to this Unix millisecond have passed.
    pub passed_ms: u64,
}

/// What the slots of a partition count for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// By slot.
    pub sums: Vec<Weights>,
    /// Those of which that cannot be said: what happened there meanwhile is too much, or no stamp explains it.
    pub unsure: u64,
}

/// A walk over the keys of some slots, in steps, while writes go on.
pub struct Walk {
    slot: u16,
    end: u16,
    databases: u16,
    over: Over,
    /// Those of the first 64 slots that are walked over.
    mask: u64,
    first: u16,
    /// Who is told what values count for.
    watch: Option<WatchId>,
    db: u16,
    cursor: u64,
    /// The slot whose keys were asked for ahead of their turn.
    ahead: Option<(Db, Slot)>,
    list: Option<(u64, u64)>,
    /// Of the slot and database under way: what the keys count for by the sweep over deadlines, and what was kept when
    /// it began. If that is what is kept at its end, no write came between.
    passed: u64,
    kept: u64,
    /// What had been applied when it began; `None`: it has not.
    applied: Option<Applied>,
    /// Keys, if they are listed.
    pub keys: Vec<Listed>,
    /// Slots whose digest was not what their data counts for; it is now.
    pub wrong: Vec<Slot>,
}

impl Walk {
    /// Checks the digests of those slots of a partition that are in `mask` against their data, and tells a watch what
    /// their values count for.
    pub fn over_partition(partition: Partition, mask: u64, databases: u16, watch: WatchId) -> Self {
        let first = partition.first_slot().0;
        let walk = Self::new(first, first + SLOTS_PER_PARTITION as u16, databases, Over::Passed);
        Self { mask, watch: Some(watch), ..walk }
    }

    /// Lists the keys of a slot whose ids are in a range, both ends included.
    pub fn over_slot(slot: Slot, databases: u16, over_ms: u64, from: u64, to: u64) -> Self {
        Self { list: Some((from, to)), ..Self::new(slot.0, slot.0 + 1, databases, Over::At(over_ms)) }
    }

    fn new(slot: u16, end: u16, databases: u16, over: Over) -> Self {
        let (keys, wrong) = (Vec::new(), Vec::new());
        Self {
            slot,
            end,
            databases,
            over,
            mask: u64::MAX,
            first: slot,
            watch: None,
            db: 0,
            cursor: 0,
            ahead: None,
            list: None,
            passed: 0,
            kept: 0,
            applied: None,
            keys,
            wrong,
        }
    }

    /// Whether all has been looked at.
    pub fn is_over(&self) -> bool {
        self.slot == self.end
    }

    /// What had been applied when it began.
    pub fn applied(&self) -> &[(OriginIdx, Hlc)] {
        self.applied.as_deref().unwrap_or_default()
    }

    /// Looks at about `budget` keys; returns at how many.
    pub fn step(&mut self, shard: &mut Shard, budget: usize) -> usize {
        self.applied.get_or_insert_with(|| shard.applied_of(Slot(self.slot).partition()));
        let mut looked = 0;
        while looked < budget && !self.is_over() {
            let is_wanted = self.mask & 1 << (self.slot - self.first) != 0;
            if !is_wanted || self.db == self.databases.min(shard.keys.databases() as u16) {
                (self.db, self.slot) = (0, self.slot + 1);
                // Passing over nothing costs something, too.
                looked += 1;
                continue;
            }
            looked += self.look(shard);
        }
        looked
    }

    fn look(&mut self, shard: &mut Shard) -> usize {
        let (db, slot) = (Db(self.db), Slot(self.slot));
        if self.cursor == 0 {
            (self.passed, self.kept) = (0, shard.keys.digest(db, slot));
        }
        if shard.keys.slot_len(db, slot) == 0 && self.kept == 0 {
            self.tell(shard, 0);
            self.db += 1;
            return 0;
        }
        let mut touched = 0u8;
        // The keys of the slot after it are on their way while this one's are looked at.
        if self.cursor != 0 || self.ahead != Some((db, slot)) {
            shard.keys.scan_slot(db, slot, self.cursor, TOGETHER, |entry| touch(entry, &mut touched));
        }
        let next = Slot(self.slot + 1);
        let is_next = next.0 < self.end && self.mask & 1 << (next.0 - self.first) != 0;
        if is_next && shard.keys.slot_len(db, next) <= AHEAD_MAX {
            shard.keys.scan_slot(db, next, 0, TOGETHER, |entry| touch(entry, &mut touched));
            self.ahead = Some((db, next));
        }
        std::hint::black_box(touched);
        let (mut looked, mut contents) = (0, 0u64);
        let (mut passed, over, keys) = (self.passed, self.over, &shard.keys);
        let Self { list, keys: listed, .. } = self;
        self.cursor = keys.scan_slot(db, slot, self.cursor, TOGETHER, |entry| {
            looked += 1;
            let weight = keys.weigh(db, slot, entry, over);
            let weights = Weights { writes: weight.writes, contents: weight.contents };
            contents = contents.wrapping_add(weight.contents);
            // The two differ only by deadlines between the sweep and the time agreed on.
            let has_deadline = match entry.view() {
                View::Plain { deadline, .. } => deadline.is_some(),
                View::Rich(state) => state.deadline.is_some(),
                View::Tombstone { .. } => false,
            };
            let counted = if has_deadline && over != Over::Passed {
                keys.weigh(db, slot, entry, Over::Passed).writes
            } else {
                weight.writes
            };
            passed = passed.wrapping_add(counted);
            if list.is_some_and(|(from, to)| (from..=to).contains(&weight.id)) && weights != Weights::default() {
                listed.push(Listed { id: weight.id, weights });
            }
        });
        self.passed = passed;
        self.tell(shard, contents);
        if self.cursor == 0 {
            let kept = shard.keys.digest(db, slot);
            if shard.keys.has_digests() && kept == self.kept && kept != self.passed {
                shard.keys.recount(db, slot);
                self.wrong.push(slot);
            }
            self.db += 1;
        }
        looked
    }

    fn tell(&self, shard: &mut Shard, contents: u64) {
        if let Some(watch) = self.watch.and_then(|id| shard.keys.watched_mut(id)) {
            watch.walk(Db(self.db), Slot(self.slot), self.cursor, contents);
        }
    }
}

impl Position {
    /// Whether this is as far as that, or further.
    pub fn has_reached(&self, other: &Self) -> bool {
        let of = |origin: OriginIdx| self.applied.iter().find(|(known, _)| *known == origin);
        self.passed_ms >= other.passed_ms
            && other.applied.iter().all(|(origin, hlc)| of(*origin).is_some_and(|(_, reached)| reached >= hlc))
    }
}

impl Told {
    /// As one number.
    pub fn total(&self) -> Weights {
        self.sums.iter().copied().fold(Weights::default(), Weights::with)
    }
}

impl Level {
    /// The inverse of `as u8`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Total, Self::Kept, Self::Data].get(usize::from(byte)).copied()
    }
}

impl Shard {
    /// Begins to watch a partition that is to be compared. `changes`: so that [`Shard::sums_at`] can be asked.
    pub fn watch(&mut self, partition: Partition, databases: u16, level: Level, changes: bool) -> WatchId {
        self.keys.watch(Watching { partition, databases, contents: level == Level::Data, changes })
    }

    /// How far we are in a partition.
    pub fn position_of(&self, partition: Partition) -> Position {
        Position { applied: self.applied_of(partition), passed_ms: self.keys.last_passed_ms() }
    }

    /// Whether we are as far as that, or further.
    pub fn has_reached(&self, partition: Partition, position: &Position) -> bool {
        let at = usize::from(partition.0);
        position.passed_ms < self.keys.next_due_ms()
            && position.applied.iter().all(|&(origin, hlc)| self.versions.get(origin, at) >= hlc)
    }

    /// What a partition's slots count for now by their kept digests.
    pub fn sums_kept(&self, partition: Partition, databases: u16) -> Told {
        let databases = databases.min(self.keys.databases() as u16);
        let first = partition.first_slot().0;
        let of_slot = |slot: u16| {
            let sum = (0..databases).fold(0, |sum: u64, db| sum.wrapping_add(self.keys.digest(Db(db), Slot(slot))));
            Weights { writes: sum, contents: 0 }
        };
        let sums = (first..first + SLOTS_PER_PARTITION as u16).map(of_slot).collect();
        Told { sums, unsure: 0 }
    }

    /// What the slots of a watched partition count for now: by the kept digests, and of values by the walk that is over.
    pub fn sums_now(&self, id: WatchId) -> Option<Told> {
        let watch = self.keys.watched(id)?;
        let mut told = self.sums_kept(watch.partition(), watch.databases());
        told.sums.iter_mut().zip(watch.contents()).for_each(|(sum, contents)| sum.contents = *contents);
        told.unsure = watch.unsure();
        Some(told)
    }

    /// What they counted for there, which is not before the watch began and which we have reached.
    pub fn sums_at(&self, id: WatchId, position: &Position) -> Option<Told> {
        let mut told = self.sums_now(id)?;
        let of =
            |origin| position.applied.iter().find(|(known, _)| *known == origin).map_or(Hlc::ZERO, |(_, hlc)| *hlc);
        let beyond = self.keys.watched(id)?.beyond(|stamp| stamp.hlc() <= of(stamp.origin()), position.passed_ms);
        told.sums.iter_mut().zip(beyond).for_each(|(sum, beyond)| *sum = sum.without(beyond));
        Some(told)
    }

    /// What has been applied of a partition.
    pub fn applied_of(&self, partition: Partition) -> Applied {
        self.versions.column(usize::from(partition.0)).collect()
    }

    /// Memories in a partition stay until then (`Now::mono_us`): states captured elsewhere may be joined to it, and
    /// what we had forgotten meanwhile would come back.
    pub fn keep_memories(&mut self, partition: Partition, until_us: u64) {
        self.remembering.insert(partition.0, until_us);
    }

    /// The key of that name, what it counts for, and its state.
    pub fn held(&self, slot: Slot, databases: u16, over_ms: u64, id: u64) -> Option<Held> {
        (0..databases.min(self.keys.databases() as u16)).map(Db).find_map(|db| {
            let mut found = None;
            self.keys.each_in_slot(db, slot, |entry| {
                if crate::merge::digest::key_id(db, entry.key()) == id {
                    let weight = self.keys.weigh(db, slot, entry, Over::At(over_ms));
                    let mut bytes = Vec::new();
                    state::encode(entry, &mut bytes);
                    let weights = Weights { writes: weight.writes, contents: weight.contents };
                    found = Some(Held { db, key: Box::from(entry.key()), weights, state: bytes });
                }
            });
            found
        })
    }

    /// Joins what another node holds of a key that was damaged here or there, as if nobody had ever forgotten it: a
    /// key lost here comes back. `None`: malformed; else whether anything changed.
    pub fn repair(
        &mut self,
        db: Db,
        key: &[u8],
        mut bytes: &[u8],
        origin: &impl Fn(u16) -> Option<OriginIdx>,
    ) -> Option<bool> {
        let other = state::decode(&self.realm, &mut bytes, origin)?;
        if usize::from(db.0) >= self.keys.databases() || !bytes.is_empty() {
            return None;
        }
        let key = self.key(key);
        let (first, end) = self.keys.partitions();
        if !(first..end).contains(&usize::from(key.slot.partition().0)) {
            return None;
        }
        Some(self.keys.join(db, &key, other))
    }
}

// Reads a byte besides, because a prefetch alone does not wait for the page's translation, which takes longest here;
// many such reads go on at once. Measured: a sixth less time per key.
fn touch(entry: &Packed, touched: &mut u8) {
    entry.prefetch();
    *touched ^= entry.access();
}
