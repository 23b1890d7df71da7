//! How many keys there are, kept per database and partition so that a flush of a partition subtracts in one step.

use crate::base::ids::Db;
use crate::base::time::DeadlineMs;

/// What one key adds to the counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// A reader sees it, deadlines aside.
    pub live: bool,
    /// It is kept as a memory only.
    pub tombstone: bool,
    /// It has a deadline, dead or alive.
    pub deadline: Option<DeadlineMs>,
    /// It holds something to forget once stable.
    pub garbage: bool,
    /// It may hold counts, or what resets have observed of them.
    pub counter: bool,
}

impl Tally {
    /// A reader sees it, and it has a deadline.
    fn is_volatile(&self) -> bool {
        self.live && self.deadline.is_some()
    }

    /// As it counts when its deadline `is_past`: no reader sees it.
    pub fn counted(self, is_past: bool) -> Self {
        if is_past { Self { live: false, deadline: None, ..self } } else { self }
    }
}

/// See the file's head.
pub struct Counts {
    width: usize,
    rows: Vec<Row>,
    /// Per database, the sums over `rows`.
    sums: Vec<Row>,
    /// Asked for at every deadline that is written.
    due: usize,
}

#[derive(Clone, Copy, Default)]
struct Row {
    live: usize,
    deadlines: usize,
    due: usize,
    tombstones: usize,
    garbage: usize,
    counters: usize,
}

impl Counts {
    /// All zero.
    pub fn new(databases: usize, width: usize) -> Self {
        Self { width, rows: vec![Row::default(); databases * width], sums: vec![Row::default(); databases], due: 0 }
    }

    /// A key changed from `before` to `after`.
    pub fn change(&mut self, db: Db, local: usize, before: Tally, after: Tally) {
        self.due = self.due + usize::from(after.deadline.is_some()) - usize::from(before.deadline.is_some());
        self.both(db, local, |row| {
            row.live = row.live + usize::from(after.live) - usize::from(before.live);
            row.deadlines = row.deadlines + usize::from(after.is_volatile()) - usize::from(before.is_volatile());
            row.due = row.due + usize::from(after.deadline.is_some()) - usize::from(before.deadline.is_some());
            row.tombstones = row.tombstones + usize::from(after.tombstone) - usize::from(before.tombstone);
            row.garbage = row.garbage + usize::from(after.garbage) - usize::from(before.garbage);
            row.counters = row.counters + usize::from(after.counter) - usize::from(before.counter);
        });
    }

    /// A partition's database was emptied.
    pub fn reset(&mut self, db: Db, local: usize) {
        let row = std::mem::take(&mut self.rows[usize::from(db.0) * self.width + local]);
        self.due -= row.due;
        let sum = &mut self.sums[usize::from(db.0)];
        sum.live -= row.live;
        sum.deadlines -= row.deadlines;
        sum.due -= row.due;
        sum.tombstones -= row.tombstones;
        sum.garbage -= row.garbage;
        sum.counters -= row.counters;
    }

    /// Keys a reader sees.
    pub fn live(&self, db: Db) -> usize {
        self.sums[usize::from(db.0)].live
    }

    /// Of these, keys with a deadline.
    pub fn deadlines(&self, db: Db) -> usize {
        self.sums[usize::from(db.0)].deadlines
    }

    /// Keys whose deadline has not passed, those that no reader sees included, over all databases.
    pub fn due(&self) -> usize {
        self.due
    }

    /// Memories of deletes, over all databases.
    pub fn tombstones(&self) -> usize {
        self.sums.iter().map(|row| row.tombstones).sum()
    }

    /// Keys of a partition that hold something to forget, over all databases.
    pub fn garbage(&self, local: usize) -> usize {
        self.rows.iter().skip(local).step_by(self.width).map(|row| row.garbage).sum()
    }

    /// Keys of a partition's database that may hold counts.
    pub fn counters(&self, db: Db, local: usize) -> usize {
        self.rows[usize::from(db.0) * self.width + local].counters
    }

    fn both(&mut self, db: Db, local: usize, change: impl Fn(&mut Row)) {
        change(&mut self.rows[usize::from(db.0) * self.width + local]);
        change(&mut self.sums[usize::from(db.0)]);
    }
}
