//! The end of keys: deadlines that pass, and when they are final, so that what they put an end to may go.

use std::cell::RefCell;
use std::sync::Arc;

use smallvec::SmallVec;

use super::ahead::Soon;
use super::packing::{deadline_of, every_stamp_of, newest_of, tally_of};
use super::{KeyRef, KeyState, Keyspace, Packed};
use crate::base::ids::{Db, Slot};
use crate::mem::entry::View;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Stamp;
use crate::store::deadlines::{Due, SUSPECTS};

/// Stale entries among the deadlines that are not worth a look.
const STALE_MAX: usize = 4096;

impl Keyspace {
    /// Moves keys whose deadline has passed out of the counts, and drops those whose end is final on every member
    /// (`all_final_ms`: the least of what members' [`Keyspace::final_ms`] answered). Looks at no more than `budget`
    /// keys; returns how many expired and whether more are due.
    ///
    /// A deadline is final where everything in the key is stable and every member's clock (`horizon_ms`) has passed
    /// it: no late EXPIRE or PERSIST can revive the key. It is dropped only when that is so everywhere, because a
    /// node that has dropped it writes as if it had never been, and such a write must not meet the old content:
    /// elsewhere it is dropped before the write is joined ([`Keyspace::finish`]).
    pub fn expire(
        &mut self,
        time_ms: u64,
        horizon_ms: u64,
        all_final_ms: u64,
        stable: &impl Fn(Slot, Stamp) -> bool,
        budget: usize,
    ) -> (usize, bool) {
        let mut expired = 0;
        let mut looks = budget;
        while let Some(due) = self.due.pop(time_ms, &mut looks) {
            self.pass(due);
            // An entry may come twice.
            if self.past.contains(&due) {
                continue;
            }
            let Some(tally) = self.entry_of(&due).map(tally_of) else { continue };
            expired += usize::from(tally.live);
            self.counts.change(due.db, self.local(due.slot), tally.counted(false), tally.counted(true));
            self.past.insert(due);
            self.passed_ms = self.passed_ms.max(due.at);
            if due < self.final_from {
                self.undecided.insert(due);
            }
        }
        let first_due = self.due.first_ms();
        // What is final everywhere goes.
        let dropped_ms = all_final_ms.min(self.final_ms());
        let ending = self.past.iter().take_while(|due| due.at < dropped_ms).filter(|due| !self.undecided.contains(due));
        let ending: Vec<Due> = ending.take(budget).copied().collect();
        let mut looked = ending.len();
        for due in &ending {
            if self.is_final(due, dropped_ms, stable) {
                self.finish_due(due);
            } else {
                // Written to since: judged again like one that came late.
                self.undecided.insert(*due);
            }
        }
        // What is final here is found in the order of deadlines, up to the first that is not. What came late holds it up
        // where it was written.
        let mut final_ms = horizon_ms.min(first_due);
        let undecided: Vec<Due> = self.undecided.iter().take(budget).copied().collect();
        for due in &undecided {
            if !self.past.contains(due) || self.is_final(due, horizon_ms, stable) {
                self.undecided.remove(due);
            } else if let Some(entry) = self.entry_of(due) {
                final_ms = final_ms.min(newest_of(&self.realm, entry).hlc().wall_ms());
            }
        }
        if undecided.len() >= budget {
            final_ms = 0;
        }
        let found = self.past.range(self.final_from..).take_while(|due| due.at < final_ms).enumerate();
        let mut found = found.filter(|(at, due)| *at >= budget || !self.is_final(due, horizon_ms, stable));
        // Many keys may end in one millisecond, so the walk goes on from a key.
        let from = match found.next() {
            None => beginning_of(final_ms),
            Some((at, due)) => {
                looked = looked.max(at);
                *due
            }
        };
        self.final_from = self.final_from.max(from);
        (expired, first_due <= time_ms || looked >= budget || self.walks.take_under_way())
    }

    /// Deadlines before this Unix millisecond are final here: whatever they put an end to never counts again, and is
    /// dropped before another write is joined. Members tell each other (`Stability::finalise`).
    pub fn final_ms(&self) -> u64 {
        self.final_from.at
    }

    /// Raises what [`Keyspace::final_ms`] answers (a snapshot brings what was said before it).
    pub fn raise_final_ms(&mut self, final_ms: u64) {
        self.final_from = self.final_from.max(beginning_of(final_ms));
    }

    /// Whether any deadline has passed of a key that is still kept.
    #[inline]
    pub fn has_past(&self) -> bool {
        !self.past.is_empty()
    }

    /// Drops what a key's final deadline has put an end to. Called before a merged write is joined, while
    /// [`Keyspace::has_past`]; parameters as for [`Keyspace::expire`].
    pub fn finish(&mut self, db: Db, key: &KeyRef<'_>, horizon_ms: u64, stable: &impl Fn(Slot, Stamp) -> bool) {
        let Some(at) = self.find(db, key).and_then(deadline_of).and_then(|deadline| deadline.at) else { return };
        let due = Due { at, hash: key.hash, slot: key.slot, db };
        // What was final once stays so, also when members join.
        if self.past.contains(&due)
            && (!self.undecided.contains(&due) && self.is_old(&due, self.final_ms())
                || self.is_final(&due, horizon_ms, stable))
        {
            self.finish_due(&due);
        }
    }

    /// Keys whose deadline has passed and that are still kept.
    pub fn past_len(&self) -> usize {
        self.past.len()
    }

    /// How many deadlines are kept in the future, those included that belong to nobody any more.
    pub fn due_len(&self) -> usize {
        self.due.len()
    }

    // Looks at some deadlines when more than half of them must be stale: what is rewritten all the time must not fill
    // the memory. Called for every deadline that is written, so about two looks each keep them below three per key.
    #[inline]
    pub(super) fn doubt_deadlines(&mut self) {
        if self.due.len() > 2 * self.counts.due() + STALE_MAX {
            self.doubted += 1;
            if self.doubted >= SUSPECTS / 2 {
                self.doubted = 0;
                self.drop_stale();
            }
        }
    }

    fn drop_stale(&mut self) {
        let mut suspects = [beginning_of(0); SUSPECTS];
        let count = self.due.suspect(&mut suspects);
        let suspects = &suspects[..count];
        let soon = suspects.iter().map(|due| Soon::hashed(due.db, due.slot, due.hash));
        self.fetch(&soon.collect::<SmallVec<[Soon; SUSPECTS]>>());
        // The same deadline may have been written in turns with another.
        let is_stale = |nth: usize| suspects[..nth].contains(&suspects[nth]) || self.entry_of(&suspects[nth]).is_none();
        let stale = (0..count).filter(|&nth| is_stale(nth)).fold(0, |bits, nth| bits | 1 << nth);
        self.due.judge(count, stale);
    }

    // Everything in the key is stable, and older than what nobody will write before any more (`limit_ms`). A large hash
    // is looked at in slices: until that is done it is not.
    fn is_final(&self, due: &Due, limit_ms: u64, stable: &impl Fn(Slot, Stamp) -> bool) -> bool {
        let is_stable = |stamp| stable(due.slot, stamp);
        self.is_old(due, limit_ms)
            && self.entry_of(due).is_none_or(|entry| {
                every_stamp_of(entry, &is_stable)
                    && match entry.view() {
                        View::Rich(KeyState { hash: Some(hash), .. }) => {
                            self.walks.every_stamp(&self.realm, *due, hash, &is_stable)
                        }
                        _ => true,
                    }
            })
    }

    // Everything in the key was written before `limit_ms`, and its deadline is.
    fn is_old(&self, due: &Due, limit_ms: u64) -> bool {
        let is_old = |stamp: Stamp| stamp.hlc().wall_ms() < limit_ms;
        due.at < limit_ms && self.entry_of(due).is_none_or(|entry| every_stamp_of(entry, &is_old))
    }

    // Of every origin that has a write in a key a stamp that is not below its last there. Fields of a hash are not
    // walked: any origin may have written the newest.
    fn all_of(&self, entry: &Packed) -> SmallVec<[Stamp; 8]> {
        let found = RefCell::new(SmallVec::new());
        every_stamp_of(entry, &|stamp| {
            found.borrow_mut().push(stamp);
            true
        });
        let mut found = found.into_inner();
        if let View::Rich(KeyState { hash: Some(hash), .. }) = entry.view() {
            let newest = hash.newest().hlc();
            found.extend((0..self.realm.origins.count()).map(|origin| Stamp::new(newest, OriginIdx(origin as u16))));
        }
        found
    }

    fn finish_due(&mut self, due: &Due) {
        let Some(bytes) = self.owner_of(due) else {
            self.past.remove(due);
            return;
        };
        let realm = Arc::clone(&self.realm);
        let key = KeyRef { bytes: &bytes, hash: due.hash, slot: due.slot };
        let Some(entry) = self.find(due.db, &key) else { return };
        for stamp in self.all_of(entry) {
            self.raise_forgotten(usize::from(due.slot.partition().0), stamp);
        }
        let mut waste = None;
        self.update(due.db, &key, |state| {
            waste = state.cut_off_finished(&realm);
            state.finish(&realm);
            true
        });
        self.trash.put_hash(waste);
        self.walks.forget(due);
    }

    // The key a deadline belongs to, if it still has that deadline.
    fn owner_of(&self, due: &Due) -> Option<Box<[u8]>> {
        self.entry_of(due).map(|entry| Box::from(entry.key()))
    }

    pub(super) fn entry_of(&self, due: &Due) -> Option<&Packed> {
        let tables = self.dbs[usize::from(due.db.0)].as_ref()?;
        let is = |entry: &Packed| tally_of(entry).deadline == Some(due.at) && self.realm.hash(entry.key()) == due.hash;
        tables[self.table_index(due.slot)].find(due.hash, is)
    }
}

/// Before every deadline of a millisecond.
pub(super) const fn beginning_of(at: u64) -> Due {
    Due { at, hash: 0, slot: Slot(0), db: Db(0) }
}
