//! Watches over partitions that are compared: every change through the door is told to them. Where nothing is watched
//! that costs a write one look.

use super::weigh::entry_deadline;
use super::{KeyRef, Keyspace, Packed};
use crate::base::ids::{Db, Partition};
use crate::mem::entry::View;
use crate::merge::digest::{contents, key_id};
use crate::merge::stamp::Stamp;
use crate::store::deadlines::Due;
use crate::store::watches::{Cause, Shift, Watch, WatchId, Watches, Watching};

/// Values of hashes with more fields are not looked at for every write.
const FIELDS_MAX: usize = 64;

/// What a key in a watched partition counted for before a change.
#[derive(Clone, Copy)]
pub(super) struct Before {
    /// By the digest of its slot.
    slot: u64,
    /// Its values; `None`: too much to look at.
    contents: Option<u64>,
}

/// A key in a watched partition whose deadline passes.
pub(super) struct Passing {
    newest: Stamp,
    contents: Option<u64>,
}

impl Keyspace {
    /// Begins a watch.
    pub fn watch(&mut self, what: Watching) -> WatchId {
        self.watches.get_or_insert_default().begin(what)
    }

    /// Ends one.
    pub fn end_watch(&mut self, id: WatchId) {
        if let Some(watches) = &mut self.watches {
            watches.end(id);
            if watches.is_empty() {
                self.watches = None;
            }
        }
    }

    /// A watch that has begun.
    pub fn watched(&self, id: WatchId) -> Option<&Watch> {
        self.watches.as_deref()?.get(id)
    }

    /// The same, for the walk over its values.
    pub fn watched_mut(&mut self, id: WatchId) -> Option<&mut Watch> {
        self.watches.as_deref_mut()?.get_mut(id)
    }

    /// Writes noted by all watches.
    pub fn noted(&self) -> usize {
        self.watches.as_deref().map_or(0, Watches::noted)
    }

    /// The latest deadline that counts as over in the digests.
    pub fn last_passed_ms(&self) -> u64 {
        self.passed.map_or(0, |due| due.at)
    }

    /// All deadlines before this Unix millisecond count as over in the digests.
    pub fn next_due_ms(&self) -> u64 {
        self.due.first_ms()
    }

    #[inline]
    pub(super) fn watched_before(&self, db: Db, key: &KeyRef<'_>) -> Option<Before> {
        let watches = self.watches.as_deref()?;
        self.look(watches, db, key)
    }

    #[inline]
    pub(super) fn watched_after(&mut self, db: Db, key: &KeyRef<'_>, before: Option<Before>, cause: Cause) {
        if let Some(before) = before {
            self.tell_watches(db, key, before, cause);
        }
    }

    /// Whole tables go.
    pub(super) fn disturb_watches(&mut self, partition: usize) {
        if let Some(watches) = &mut self.watches {
            watches.disturb(Partition(partition as u8));
        }
    }

    /// Notes a key whose deadline passes, if it is watched.
    pub(super) fn before_passing(&self, due: &Due, entry: &Packed) -> Option<Passing> {
        let with_contents = self.watches.as_deref()?.covers(due.slot)?;
        let contents = if with_contents { self.contents_of(due.db, entry) } else { Some(0) };
        Some(Passing { newest: self.newest_of(entry), contents })
    }

    /// A deadline has passed: its key counts for so much more, and its values no longer.
    pub(super) fn after_passing(&mut self, due: &Due, writes: u64, passing: Option<Passing>) {
        if let (Some(watches), Some(Passing { newest, contents })) = (&mut self.watches, passing) {
            let contents = contents.map(u64::wrapping_neg);
            let shift = Shift { db: due.db, slot: due.slot, hash: due.hash, writes, contents };
            watches.note(&shift, Cause::Passed(due.at, newest));
        }
    }

    // `None`: too much to look at for every write.
    fn contents_of(&self, db: Db, entry: &Packed) -> Option<u64> {
        match entry.view() {
            View::Rich(state) if state.hash.as_ref().is_some_and(|hash| hash.kept_len() > FIELDS_MAX) => None,
            view => Some(contents(&self.realm, key_id(db, entry.key()), view)),
        }
    }

    #[cold]
    fn look(&self, watches: &Watches, db: Db, key: &KeyRef<'_>) -> Option<Before> {
        let with_contents = watches.covers(key.slot)?;
        // No other key changes between two looks: the slot's digest tells what this one counts for more, and the key
        // need not be looked up for it.
        let slot = self.digest(db, key.slot);
        if !with_contents {
            return Some(Before { slot, contents: Some(0) });
        }
        let contents = match self.find(db, key) {
            // Where nothing counts the bytes may be on their way out.
            Some(entry) if !self.scale(db, key).is_over(entry_deadline(entry)) => self.contents_of(db, entry),
            _ => Some(0),
        };
        Some(Before { slot, contents })
    }

    #[cold]
    fn tell_watches(&mut self, db: Db, key: &KeyRef<'_>, before: Before, cause: Cause) {
        let Some(watches) = self.watches.as_deref() else { return };
        let Some(after) = self.look(watches, db, key) else { return };
        let writes = after.slot.wrapping_sub(before.slot);
        let contents = after.contents.zip(before.contents).map(|(after, before)| after.wrapping_sub(before));
        if (writes, contents) != (0, Some(0))
            && let Some(watches) = &mut self.watches
        {
            watches.note(&Shift { db, slot: key.slot, hash: key.hash, writes, contents }, cause);
        }
    }
}
