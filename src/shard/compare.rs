//! One shard's side of a comparison of nodes: what its slots and keys count for, in bounded steps, and the repair of
//! keys that differ. Knows nothing of who compares.

use super::{Shard, state};
use crate::base::ids::{Db, Partition, SLOTS_PER_PARTITION, Slot};
use crate::mem::entry::View;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::store::keyspace::Packed;
use crate::store::keyspace::weigh::Over;

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

/// What one key, or several together, count for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weights {
    /// Writes, by their stamps.
    pub writes: u64,
    /// The bytes of values.
    pub contents: u64,
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

/// A walk over the keys of some slots, in steps, while writes go on.
pub struct Walk {
    slot: u16,
    end: u16,
    databases: u16,
    over_ms: u64,
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
    /// By slot.
    pub sums: Vec<Weights>,
    /// Keys, if they are listed.
    pub keys: Vec<Listed>,
    /// Slots whose digest was not what their data counts for; it is now.
    pub wrong: Vec<Slot>,
}

impl Walk {
    /// Sums up every slot of a partition.
    pub fn over_partition(partition: Partition, databases: u16, over_ms: u64) -> Self {
        let first = partition.first_slot().0;
        Self::new(first, first + SLOTS_PER_PARTITION as u16, databases, over_ms, None)
    }

    /// Lists the keys of a slot whose ids are in a range, both ends included.
    pub fn over_slot(slot: Slot, databases: u16, over_ms: u64, from: u64, to: u64) -> Self {
        Self::new(slot.0, slot.0 + 1, databases, over_ms, Some((from, to)))
    }

    fn new(slot: u16, end: u16, databases: u16, over_ms: u64, list: Option<(u64, u64)>) -> Self {
        let sums = vec![Weights::default(); usize::from(end - slot)];
        let (keys, wrong) = (Vec::new(), Vec::new());
        Self {
            slot,
            end,
            databases,
            over_ms,
            db: 0,
            cursor: 0,
            ahead: None,
            list,
            passed: 0,
            kept: 0,
            applied: None,
            sums,
            keys,
            wrong,
        }
    }

    /// How many databases are counted.
    pub fn databases(&self) -> u16 {
        self.databases
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
            if self.db == self.databases.min(shard.keys.databases() as u16) {
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
            self.db += 1;
            return 0;
        }
        let mut touched = 0u8;
        // The keys of the slot after it are on their way while this one's are looked at.
        if self.cursor != 0 || self.ahead != Some((db, slot)) {
            shard.keys.scan_slot(db, slot, self.cursor, TOGETHER, |entry| touch(entry, &mut touched));
        }
        let next = Slot(self.slot + 1);
        if next.0 < self.end && shard.keys.slot_len(db, next) <= AHEAD_MAX {
            shard.keys.scan_slot(db, next, 0, TOGETHER, |entry| touch(entry, &mut touched));
            self.ahead = Some((db, next));
        }
        std::hint::black_box(touched);
        let (mut looked, mut sum) = (0, Weights::default());
        let (mut passed, over, keys) = (self.passed, Over::At(self.over_ms), &shard.keys);
        let Self { list, keys: listed, .. } = self;
        self.cursor = keys.scan_slot(db, slot, self.cursor, TOGETHER, |entry| {
            looked += 1;
            let weight = keys.weigh(db, slot, entry, over);
            let weights = Weights { writes: weight.writes, contents: weight.contents };
            sum = sum.with(weights);
            // The two differ only by deadlines between the sweep and the time agreed on.
            let has_deadline = match entry.view() {
                View::Plain { deadline, .. } => deadline.is_some(),
                View::Rich(state) => state.deadline.is_some(),
                View::Tombstone { .. } => false,
            };
            let counted = if has_deadline { keys.weigh(db, slot, entry, Over::Passed).writes } else { weight.writes };
            passed = passed.wrapping_add(counted);
            if list.is_some_and(|(from, to)| (from..=to).contains(&weight.id)) && weights != Weights::default() {
                listed.push(Listed { id: weight.id, weights });
            }
        });
        self.passed = passed;
        let at = self.sums.len() - usize::from(self.end - self.slot);
        self.sums[at] = self.sums[at].with(sum);
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
}

impl Weights {
    /// Both together.
    pub fn with(self, other: Self) -> Self {
        Self { writes: self.writes.wrapping_add(other.writes), contents: self.contents.wrapping_add(other.contents) }
    }
}

impl Level {
    /// The inverse of `as u8`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Total, Self::Kept, Self::Data].get(usize::from(byte)).copied()
    }
}

impl Shard {
    /// The kept digests of a partition's slots; `None` while none are kept.
    pub fn kept_sums(&self, partition: Partition, databases: u16, level: Level) -> Option<Vec<Weights>> {
        let first = partition.first_slot().0;
        let databases = databases.min(self.keys.databases() as u16);
        let of_slot = |slot: u16| {
            let sum = (0..databases).fold(0, |sum: u64, db| sum.wrapping_add(self.keys.digest(Db(db), Slot(slot))));
            Weights { writes: sum, contents: 0 }
        };
        let sums = (first..first + SLOTS_PER_PARTITION as u16).map(of_slot);
        self.keys.has_digests().then(|| match level {
            Level::Total => vec![sums.fold(Weights::default(), Weights::with)],
            _ => sums.collect(),
        })
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
