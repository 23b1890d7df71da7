//! Watching a partition while it is compared with another node's: what writes change meanwhile, so that what its slots
//! count for can be told as of a version vector that lies a moment back.
//!
//! Digests are sums, so a write is undone by taking away what it added. That is exact unless writes of two origins to
//! one key lie on both sides of the cut: these nodes joined them in another order. Then sums differ, and are looked at
//! again.
//!
//! A watch notes 32 bytes per write, and all watches of a shard together at most [`CHANGES_MAX`] writes; the one that
//! would note one more gives up (every slot is `unsure`). What no stamp explains (whole keys that are joined, flushes)
//! leaves slots unsure as well.

use crate::base::ids::{Db, PARTITIONS, Partition, SLOTS_PER_PARTITION, Slot};
use crate::mem::table::is_passed;
use crate::merge::stamp::Stamp;

/// Writes noted by all watches of a shard: 32 MiB, and more than a core applies in a second.
pub const CHANGES_MAX: usize = 1 << 20;

/// Names a watch: its partition and a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WatchId(u8, u64);

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
pub struct Watches {
    /// By partition, because every write asks.
    all: Vec<Vec<Watch>>,
    count: usize,
    last: u64,
    /// Writes noted by all of them.
    noted: usize,
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

impl Default for Watches {
    fn default() -> Self {
        Self { all: (0..PARTITIONS).map(|_| Vec::new()).collect(), count: 0, last: 0, noted: 0 }
    }
}

impl Watches {
    /// Begins a watch.
    pub fn begin(&mut self, what: Watching) -> WatchId {
        self.last += 1;
        self.count += 1;
        let id = WatchId(what.partition.0, self.last);
        let first = what.partition.first_slot().0;
        let (walked, contents) = ((first, 0, 0), [0; SLOTS_PER_PARTITION]);
        let watch = Watch { id, what, changes: Vec::new(), walked, contents, unsure: 0 };
        self.all[usize::from(id.0)].push(watch);
        id
    }

    /// Ends one.
    pub fn end(&mut self, id: WatchId) {
        let watches = &mut self.all[usize::from(id.0)];
        if let Some(at) = watches.iter().position(|watch| watch.id == id) {
            self.noted -= watches.swap_remove(at).changes.len();
            self.count -= 1;
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One of them.
    pub fn get(&self, id: WatchId) -> Option<&Watch> {
        self.all[usize::from(id.0)].iter().find(|watch| watch.id == id)
    }

    /// The same, for the walk.
    pub fn get_mut(&mut self, id: WatchId) -> Option<&mut Watch> {
        self.all[usize::from(id.0)].iter_mut().find(|watch| watch.id == id)
    }

    /// Whether a slot is watched, and whether its values are.
    pub fn covers(&self, slot: Slot) -> Option<bool> {
        let of_it = self.all[usize::from(slot.partition().0)].iter();
        of_it.map(|watch| watch.what.contents).reduce(|one, other| one | other)
    }

    /// Writes noted by all of them.
    pub fn noted(&self) -> usize {
        self.noted
    }

    /// A key counts for something else.
    pub fn note(&mut self, shift: &Shift, cause: Cause) {
        for watch in &mut self.all[usize::from(shift.slot.partition().0)] {
            let before = watch.changes.len();
            watch.note(shift, cause, self.noted < CHANGES_MAX);
            self.noted = self.noted + watch.changes.len() - before;
        }
    }

    /// Everything in a partition may count for something else.
    pub fn disturb(&mut self, partition: Partition) {
        for watch in &mut self.all[usize::from(partition.0)] {
            self.noted -= watch.changes.len();
            watch.give_up();
        }
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

    fn note(&mut self, shift: &Shift, cause: Cause, has_room: bool) {
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
        if !has_room {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::origins::OriginIdx;
    use crate::merge::stamp::Hlc;

    #[test]
    fn watches_that_have_too_much_to_note_say_so_and_room_comes_back() {
        let what = |at| Watching { partition: Partition(at), databases: 1, contents: false, changes: true };
        let mut watches = Watches::default();
        let (full, late) = (watches.begin(what(0)), watches.begin(what(1)));
        let shift = |slot| Shift { db: Db(0), slot: Slot(slot), hash: 1, writes: 1, contents: Some(0) };
        let cause = |n| Cause::Write(Stamp::new(Hlc(n), OriginIdx::OWN));
        (0..CHANGES_MAX as u64).for_each(|n| watches.note(&shift(5), cause(n)));
        watches.note(&shift(64), cause(1));
        let unsure = |watches: &Watches, id| watches.get(id).map(Watch::unsure);
        assert_eq!((unsure(&watches, full), unsure(&watches, late)), (Some(0), Some(u64::MAX)));
        let beyond = watches.get(full).map(|watch| watch.beyond(|stamp| stamp.hlc().0 < 10, 0)[5].writes);
        assert_eq!(beyond, Some(CHANGES_MAX as u64 - 10));
        watches.end(full);
        let again = watches.begin(what(1));
        watches.note(&shift(64), cause(2));
        assert_eq!(unsure(&watches, again), Some(0));
        watches.end(again);
        watches.end(late);
        assert!(watches.is_empty());
    }
}
