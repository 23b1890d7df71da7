//! Watching a partition while it is compared with another node's: what writes change meanwhile, so that what its slots
//! count for can be told as of a version vector that lies a moment back.
//!
//! Digests are sums, so a write is undone by taking away what it added. That is exact unless writes of two origins to
//! one key lie on both sides of the cut: these nodes joined them in another order. Then sums differ, and are looked at
//! again.
//!
//! A watch notes 32 bytes per write and at most [`CHANGES_MAX`] writes; with one more it gives up (every slot is
//! `unsure`), as it does for what no stamp explains: whole keys that are joined, flushes.

use crate::base::ids::{Db, Partition, SLOTS_PER_PARTITION, Slot};
use crate::mem::table::is_passed;
use crate::merge::stamp::Stamp;

/// Writes noted for one partition: 2 MiB, and more than a core applies in 50 ms.
pub const CHANGES_MAX: usize = 1 << 16;

/// Names a watch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WatchId(u64);

/// What one key, or several together, count for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weights {
    /// Writes, by their stamps.
    pub writes: u64,
    /// The bytes of values.
    pub contents: u64,
}

/// What is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watching {
    /// The partition.
    pub partition: Partition,
    /// Keys of databases from this one on do not count.
    pub databases: u16,
    /// Whether a walk will sum up what the bytes of values count for.
    pub contents: bool,
    /// Whether writes are noted, so that they can be undone; else only what is there now can be told.
    pub changes: bool,
}

/// All watches of a shard.
#[derive(Default)]
pub struct Watches {
    all: Vec<Watch>,
    last: u64,
}

/// One partition that is watched.
pub struct Watch {
    id: WatchId,
    what: Watching,
    changes: Vec<Change>,
    /// How far the walk over values has come: slot, database, cursor.
    walked: (u16, u16, u64),
    contents: [u64; SLOTS_PER_PARTITION],
    unsure: u64,
}

/// Why a key counts for something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A write.
    Write(Stamp),
    /// The sweep over deadlines has passed its deadline, this Unix millisecond; its newest write was that.
    Passed(u64, Stamp),
    /// Neither: no cut can be made behind it.
    Other,
}

struct Change {
    cause: Cause,
    slot: u8,
    by: Weights,
}

/// A change of what a key counts for.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// The key's database.
    pub db: Db,
    /// Its slot.
    pub slot: Slot,
    /// Its hash in the table.
    pub hash: u64,
    /// What it counts for more than before; `None`: its values are too large to be looked at for each write.
    pub writes: u64,
    /// The same of its values.
    pub contents: Option<u64>,
}

impl Weights {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { writes: self.writes.wrapping_add(other.writes), contents: self.contents.wrapping_add(other.contents) }
    }

    /// This without that.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self { writes: self.writes.wrapping_sub(other.writes), contents: self.contents.wrapping_sub(other.contents) }
    }
}

impl Watches {
    /// Begins a watch.
    pub fn begin(&mut self, what: Watching) -> WatchId {
        self.last += 1;
        let id = WatchId(self.last);
        let first = what.partition.first_slot().0;
        let (walked, contents) = ((first, 0, 0), [0; SLOTS_PER_PARTITION]);
        self.all.push(Watch { id, what, changes: Vec::new(), walked, contents, unsure: 0 });
        id
    }

    /// Ends one.
    pub fn end(&mut self, id: WatchId) {
        self.all.retain(|watch| watch.id != id);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One of them.
    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all.iter().find(|watch| watch.id == id)
    }

    /// The same, for the walk.
    pub fn get_mut(&mut self, id: WatchId) -> Option<&mut Watch> {
        self.all.iter_mut().find(|watch| watch.id == id)
    }

    /// Whether a slot is watched, and whether its values are.
    pub fn covers(&self, slot: Slot) -> Option<bool> {
        let of_it = self.all.iter().filter(|watch| watch.what.partition == slot.partition());
        of_it.map(|watch| watch.what.contents).reduce(|one, other| one | other)
    }

    /// A key counts for something else.
    pub fn note(&mut self, shift: &Shift, cause: Cause) {
        for watch in self.all.iter_mut().filter(|watch| watch.what.partition == shift.slot.partition()) {
            watch.note(shift, cause);
        }
    }

    /// Everything in a partition may count for something else.
    pub fn disturb(&mut self, partition: Partition) {
        self.all.iter_mut().filter(|watch| watch.what.partition == partition).for_each(Watch::give_up);
    }
}

impl Watch {
    /// Which partition.
    pub fn partition(&self) -> Partition {
        self.what.partition
    }

    /// How many databases count.
    pub fn databases(&self) -> u16 {
        self.what.databases
    }

    /// The slots of the partition that cannot be told.
    pub fn unsure(&self) -> u64 {
        self.unsure
    }

    /// What the values of each slot count for now, once the walk has passed it.
    pub fn contents(&self) -> &[u64; SLOTS_PER_PARTITION] {
        &self.contents
    }

    /// The walk has looked at some more keys of a slot, which count for so much, and comes to `cursor` (0: the
    /// database's keys in the slot are done).
    pub fn walk(&mut self, db: Db, slot: Slot, cursor: u64, contents: u64) {
        let sum = &mut self.contents[place(slot)];
        *sum = sum.wrapping_add(contents);
        self.walked = if cursor == 0 { (slot.0, db.0 + 1, 0) } else { (slot.0, db.0, cursor) };
    }

    /// What has been added to each slot beyond a cut: by writes that `covered` does not know, and by deadlines after
    /// `passed_ms`.
    pub fn beyond(&self, covered: impl Fn(Stamp) -> bool, passed_ms: u64) -> [Weights; SLOTS_PER_PARTITION] {
        let mut beyond = [Weights::default(); SLOTS_PER_PARTITION];
        for change in &self.changes {
            let is_beyond = match change.cause {
                Cause::Write(stamp) => !covered(stamp),
                // What an uncovered write has left is taken away with all that became of it.
                Cause::Passed(at_ms, newest) => at_ms > passed_ms || !covered(newest),
                Cause::Other => false,
            };
            if is_beyond {
                let sum = &mut beyond[usize::from(change.slot)];
                *sum = sum.with(change.by);
            }
        }
        beyond
    }

    fn note(&mut self, shift: &Shift, cause: Cause) {
        if shift.db.0 >= self.what.databases {
            return;
        }
        let at = place(shift.slot);
        if cause == Cause::Other {
            self.unsure |= 1 << at;
        }
        let contents = match shift.contents {
            _ if !self.what.contents => 0,
            Some(contents) => contents,
            None => {
                self.unsure |= 1 << at;
                0
            }
        };
        if self.has_walked(shift) {
            self.contents[at] = self.contents[at].wrapping_add(contents);
        }
        if !self.what.changes {
            return;
        }
        if self.changes.len() == CHANGES_MAX {
            return self.give_up();
        }
        self.changes.push(Change { cause, slot: at as u8, by: Weights { writes: shift.writes, contents } });
    }

    fn has_walked(&self, shift: &Shift) -> bool {
        let (slot, db, cursor) = self.walked;
        match (shift.slot.0, shift.db.0).cmp(&(slot, db)) {
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => is_passed(cursor, shift.hash),
            std::cmp::Ordering::Greater => false,
        }
    }

    fn give_up(&mut self) {
        self.unsure = u64::MAX;
        self.what.changes = false;
        self.changes = Vec::new();
    }
}

fn place(slot: Slot) -> usize {
    usize::from(slot.0) % SLOTS_PER_PARTITION
}
