//! Looking at every field of a large hash in slices, to see whether all of it is stable. What was found stable stays
//! so, and any write to the hash begins the walk anew.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::merge::hash::Hash;
use crate::merge::realm::Realm;
use crate::merge::stamp::Stamp;
use crate::store::deadlines::Due;

/// Fields looked at in one go.
pub(super) const STEP_FIELDS: usize = 1024;

/// More walks than this are not remembered at once: large hashes that end together.
const WALKS_MAX: usize = 256;

/// See the file's head. Judging a key changes nothing of it, so the progress lies in cells.
#[derive(Default)]
pub(super) struct Walks {
    by_deadline: RefCell<BTreeMap<Due, Walk>>,
    is_under_way: Cell<bool>,
}

struct Walk {
    /// The hash as it was found: its newest write, its digest and its length.
    of: (Stamp, u64, usize),
    cursor: u64,
    is_done: bool,
}

impl Walks {
    /// Whether every stamp of a hash holds, whose key has this deadline. Of a large one false also means: not all of
    /// it has been looked at yet.
    pub(super) fn every_stamp(&self, realm: &Realm, due: Due, hash: &Hash, holds: &impl Fn(Stamp) -> bool) -> bool {
        if hash.kept_len() <= STEP_FIELDS {
            return hash.check_stamps(realm, 0, usize::MAX, holds).1;
        }
        let of = (hash.newest(), hash.digest(), hash.kept_len());
        let mut walks = self.by_deadline.borrow_mut();
        if walks.len() >= WALKS_MAX && !walks.contains_key(&due) {
            walks.clear();
        }
        let walk = walks.entry(due).or_insert(Walk { of, cursor: 0, is_done: false });
        if walk.of != of {
            *walk = Walk { of, cursor: 0, is_done: false };
        }
        if !walk.is_done {
            let (next, all) = hash.check_stamps(realm, walk.cursor, STEP_FIELDS, holds);
            // Where it does not hold yet, the next look begins.
            if !all {
                return false;
            }
            (walk.cursor, walk.is_done) = (next, next == 0);
            self.is_under_way.set(!walk.is_done || self.is_under_way.get());
        }
        walk.is_done
    }

    /// The key of this deadline needs no more looks.
    pub(super) fn forget(&self, due: &Due) {
        self.by_deadline.borrow_mut().remove(due);
    }

    /// Whether some walk has gone on since the last time this was asked, and has not ended.
    pub(super) fn take_under_way(&self) -> bool {
        self.is_under_way.take()
    }
}
