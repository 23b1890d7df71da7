//! The three writes everything is measured by, with one look-up each: SET of a key that is at most a plain value, INCR
//! of a key that is a counter already, and HSET of one plain field of a hash that exists.
//!
//! They leave exactly what `Keyspace::apply` would leave. They may be short because a local stamp is above everything
//! in the key, so nothing has to be compared, and because they know which of the counts can change.

use super::packing::newest_of;
use super::{KeyRef, Keyspace, Packed, Table, tables_of};
use crate::base::ids::Db;
use crate::base::time::DeadlineMs;
use crate::mem::entry::{Entry, NO_DEADLINE_MS, View};
use crate::merge::cell::SlotCount;
use crate::merge::origins::OriginIdx;
use crate::merge::realm::Realm;
use crate::merge::stamp::Stamp;
use crate::merge::total::Total;
use crate::store::counts::Tally;
use crate::store::watches::Cause;

/// An increment that was made.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Its stamp.
    pub stamp: Stamp,
    /// Our slot after it.
    pub slot: SlotCount,
    /// What a reader sees after it.
    pub sum: i64,
}

impl Keyspace {
    /// A local SET, with or without a deadline. `mint` returns a stamp above the one it is given. `None`: the key
    /// holds more than a plain value, whose counters must be observed first; nothing was done.
    #[inline]
    pub fn set_over(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        value: &[u8],
        deadline: Option<DeadlineMs>,
        mint: impl FnOnce(Stamp) -> Stamp,
    ) -> Option<Stamp> {
        self.note_late(db, key);
        let watched = self.watched_before(db, key);
        let base = self.base_floor(db, key.slot);
        let scale = self.scale(db, key);
        let (realm, table) = self.table_mut(db, key);
        let register = |stamp: Stamp| deadline.map(|at| (stamp.raw(), at));
        let (stamp, before, weight) = match table.find_mut(key.hash, |entry| entry.key() == key.bytes) {
            None => {
                let stamp = mint(base);
                let entry = Entry::plain(key.bytes, value, stamp.raw(), register(stamp));
                table.insert_unique(key.hash, entry, |entry| realm.hash(entry.key()));
                (stamp, Tally::default(), 0)
            }
            Some(entry) => {
                let before = match entry.view() {
                    View::Rich(_) => return None,
                    View::Tombstone { .. } => Tally { tombstone: true, garbage: true, ..Tally::default() },
                    View::Plain { deadline, .. } => plain_tally(deadline.map(|(_, at)| at)),
                };
                let stamp = mint(realm.origins.later(base, newest_of(realm, entry)));
                let weight = scale.of_entry(realm, entry);
                entry.set_plain(value, stamp.raw(), register(stamp));
                (stamp, before, weight)
            }
        };
        let written = scale.of_plain(realm, stamp.raw(), register(stamp));
        self.digests.shift(db, self.table_index(key.slot), weight, written);
        let after = plain_tally(deadline);
        if before != after {
            self.count(db, key, before, after);
        }
        self.watched_after(db, key, watched, Cause::Write(stamp));
        Some(stamp)
    }

    /// A local INCR of a key that counts already, is no hash and has not expired at `time_ms`. `mint` as above.
    /// `None`: the key is something else, or the sum leaves its range; nothing was done.
    #[inline]
    pub fn count_on(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        by: i64,
        time_ms: u64,
        mint: impl FnOnce(Stamp) -> Stamp,
    ) -> Option<Counted> {
        self.note_late(db, key);
        let watched = self.watched_before(db, key);
        let base = self.base_floor(db, key.slot);
        let scale = self.scale(db, key);
        let (realm, table) = self.table_mut(db, key);
        let entry: &mut Packed = table.find_mut(key.hash, |entry| entry.key() == key.bytes)?;
        let state = entry.rich_mut()?;
        if state.hash.is_some() || state.deadline_at().is_some_and(|at| at <= time_ms) {
            return None;
        }
        let sum = state.string.counted()?.checked_add(by)?;
        let stamp = mint(realm.origins.later(base, state.newest(realm)));
        let slot = state.string.incremented(OriginIdx::OWN, stamp.hlc(), Total::Int(by))?;
        // Nothing was reset, as `counted` has seen: only this slot comes to count for something else.
        let own = state.string.slots.iter().find(|own| own.origin == slot.origin);
        let before = own.map_or(0, |own| scale.of_slot(realm, own));
        state.string.join_slot(slot);
        let after = scale.of_slot(realm, &slot);
        self.digests.shift(db, self.table_index(key.slot), before, after);
        self.watched_after(db, key, watched, Cause::Write(stamp));
        Some(Counted { stamp, slot, sum })
    }

    /// A local HSET of one field of a hash that is nothing else, has no deadline and is not empty. `mint` as above.
    /// Returns the stamp and whether the field is new. `None`: the key is something else, or the field is a count or a
    /// memory of a delete; nothing was done.
    #[inline]
    pub fn set_field_over(
        &mut self,
        db: Db,
        key: &KeyRef<'_>,
        (name, value): (&[u8], &[u8]),
        mint: impl FnOnce(Stamp) -> Stamp,
    ) -> Option<(Stamp, bool)> {
        self.note_late(db, key);
        let watched = self.watched_before(db, key);
        let base = self.base_floor(db, key.slot);
        let scale = self.scale(db, key);
        let (realm, table) = self.table_mut(db, key);
        let entry: &mut Packed = table.find_mut(key.hash, |entry| entry.key() == key.bytes)?;
        let state = entry.rich_mut()?;
        if !state.string.is_void() || state.deadline.is_some() {
            return None;
        }
        let before = scale.of_state(realm, state);
        let floor = realm.origins.later(base, state.newest(realm));
        // The key stays as alive as it was, and so does all there is to forget in it: no count changes.
        let hash = state.hash.as_deref_mut().filter(|hash| !hash.is_empty())?;
        let (stamp, is_new) = hash.set_over(realm, name, value, || mint(floor))?;
        let after = scale.of_state(realm, state);
        self.digests.shift(db, self.table_index(key.slot), before, after);
        self.watched_after(db, key, watched, Cause::Write(stamp));
        Some((stamp, is_new))
    }

    #[inline]
    fn table_mut(&mut self, db: Db, key: &KeyRef<'_>) -> (&Realm, &mut Table) {
        let index = self.table_index(key.slot);
        (&self.realm, &mut tables_of(&mut self.dbs, self.slots, db)[index])
    }
}

fn plain_tally(at: Option<DeadlineMs>) -> Tally {
    let deadline = at.filter(|&at| at != NO_DEADLINE_MS);
    Tally { live: true, deadline, garbage: at == Some(NO_DEADLINE_MS), ..Tally::default() }
}
