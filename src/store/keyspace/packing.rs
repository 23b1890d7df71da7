//! Keys as they are kept: unpacked, changed and packed again, and what they add to the counts.

use super::{KeyState, Op, Packed, Realm, Stamp};
use crate::mem::entry::{Entry, NO_DEADLINE_MS, View};
use crate::merge::key::Deadline;
use crate::merge::op::SetDeadline;
use crate::store::counts::Tally;

/// What a change did to a key.
pub(super) struct Change {
    pub(super) changed: bool,
    /// Something is left to keep.
    pub(super) kept: bool,
}

// A key that was unknown, after its first write; `None` when the write changes nothing.
pub(super) fn made(realm: &Realm, key: &[u8], stamp: Stamp, op: &Op<'_>) -> Option<Packed> {
    if let Op::Set { value, deadline, observed } = op
        && observed.is_empty()
        && *deadline != SetDeadline::Keep
    {
        let deadline = match deadline {
            SetDeadline::At(at) => Some((stamp.raw(), *at)),
            _ => None,
        };
        return Some(Entry::plain(key, value, stamp.raw(), deadline));
    }
    let mut state = KeyState::default();
    (state.apply(realm, stamp, op) && !state.is_void()).then(|| pack(key, state))
}

// The most common writes on the most common keys, without unpacking: SET, DEL and EXPIRE of a lone register that are
// newer than everything in it. False: nothing was done, take the long way.
#[inline]
pub(super) fn apply_to_plain(realm: &Realm, entry: &mut Packed, stamp: Stamp, op: &Op<'_>) -> bool {
    let (known, register) = match entry.view() {
        View::Plain { stamp, deadline, .. } => (stamp, deadline),
        View::Tombstone { stamp } => (stamp, None),
        View::Rich(_) => return false,
    };
    let over = |other: u64| realm.origins.newer(stamp, Stamp::from_raw(other));
    if !over(known) || !register.is_none_or(|(written, _)| over(written)) {
        return false;
    }
    match op {
        Op::Set { value, deadline, observed } if observed.is_empty() => {
            let register = match deadline {
                SetDeadline::Clear => None,
                SetDeadline::At(at) => Some((stamp.raw(), *at)),
                // The register keeps its own, older stamp.
                SetDeadline::Keep => Some(register.unwrap_or((known, NO_DEADLINE_MS))),
            };
            entry.set_plain(value, stamp.raw(), register);
        }
        Op::Clear { observed, fields } if observed.is_empty() && fields.is_empty() => entry.set_tombstone(stamp.raw()),
        Op::Deadline { at } if !entry.is_tombstone() => {
            entry.set_deadline(Some((stamp.raw(), at.unwrap_or(NO_DEADLINE_MS))));
        }
        _ => return false,
    }
    true
}

// Changes a key of any packing and packs it again.
pub(super) fn change_entry(realm: &Realm, entry: &mut Packed, change: impl FnOnce(&mut KeyState) -> bool) -> Change {
    if let Some(state) = entry.rich_mut() {
        let changed = change(state);
        let kept = if is_packable(state) {
            let state = std::mem::take(state);
            pack_into(entry, state)
        } else {
            true
        };
        return Change { changed, kept };
    }
    let mut state = unpack(realm, entry);
    let changed = change(&mut state);
    Change { changed, kept: !changed || pack_into(entry, state) }
}

pub(super) fn tally_of(entry: &Packed) -> Tally {
    match entry.view() {
        View::Plain { deadline, .. } => Tally {
            live: true,
            deadline: deadline.and_then(|(_, at)| (at != NO_DEADLINE_MS).then_some(at)),
            garbage: deadline.is_some_and(|(_, at)| at == NO_DEADLINE_MS),
            ..Tally::default()
        },
        View::Tombstone { .. } => Tally { tombstone: true, garbage: true, ..Tally::default() },
        View::Rich(state) => {
            let live = state.is_live();
            Tally {
                live,
                tombstone: !live,
                deadline: state.deadline_at(),
                garbage: state.has_garbage(),
                counter: state.may_count(),
            }
        }
    }
}

/// A key's whole state, whatever its packing.
pub fn unpack(realm: &Realm, entry: &Packed) -> KeyState {
    match entry.view() {
        View::Plain { stamp, value, deadline } => {
            let stamp = Stamp::from_raw(stamp);
            let mut state = KeyState { clear: stamp, ..KeyState::default() };
            state.string.stamp = stamp;
            state.string.value = Some(Box::from(value));
            state.deadline = deadline.map(unpack_deadline);
            state
        }
        View::Tombstone { stamp } => KeyState { clear: Stamp::from_raw(stamp), ..KeyState::default() },
        View::Rich(state) => state.copy(realm),
    }
}

/// The deadline register of a packed key, if it was written apart from the value.
pub fn deadline_of(entry: &Packed) -> Option<Deadline> {
    match entry.view() {
        View::Plain { deadline, .. } => deadline.map(unpack_deadline),
        View::Tombstone { .. } => None,
        View::Rich(state) => state.deadline,
    }
}

#[inline]
pub(super) fn unpack_deadline((stamp, at): (u64, u64)) -> Deadline {
    Deadline { stamp: Stamp::from_raw(stamp), at: (at != NO_DEADLINE_MS).then_some(at) }
}

#[inline]
pub(super) fn newest_of(realm: &Realm, entry: &Packed) -> Stamp {
    match entry.view() {
        View::Plain { stamp, deadline: None, .. } | View::Tombstone { stamp } => Stamp::from_raw(stamp),
        View::Plain { stamp, deadline: Some((other, _)), .. } => {
            realm.origins.later(Stamp::from_raw(stamp), Stamp::from_raw(other))
        }
        View::Rich(state) => state.newest(realm),
    }
}

// A lone register whose stamp is the clear stamp, or a lone memory of a delete.
fn is_packable(state: &KeyState) -> bool {
    state.hash.is_none()
        && state.string.is_register()
        && match &state.string.value {
            Some(value) => state.string.stamp == state.clear && value.len() <= u32::MAX as usize,
            None => state.deadline.is_none() && state.string.stamp.is_zero(),
        }
}

fn packed_deadline(state: &KeyState) -> Option<(u64, u64)> {
    state.deadline.map(|deadline| (deadline.stamp.raw(), deadline.at.unwrap_or(NO_DEADLINE_MS)))
}

pub(super) fn pack(key: &[u8], state: KeyState) -> Packed {
    match &state.string.value {
        _ if !is_packable(&state) => Entry::rich(key, state),
        Some(value) => Entry::plain(key, value, state.string.stamp.raw(), packed_deadline(&state)),
        None => Entry::tombstone(key, state.clear.raw()),
    }
}

// Returns whether anything is left to keep.
fn pack_into(entry: &mut Packed, state: KeyState) -> bool {
    if state.is_void() {
        return false;
    }
    match &state.string.value {
        _ if !is_packable(&state) => entry.set_rich(state),
        Some(value) => entry.set_plain(value, state.string.stamp.raw(), packed_deadline(&state)),
        None => entry.set_tombstone(state.clear.raw()),
    }
    true
}

/// Whether every stamp of a key holds; of the fields of a hash only the newest is asked for.
pub(super) fn every_stamp_of(entry: &Packed, holds: &impl Fn(Stamp) -> bool) -> bool {
    let holds = |stamp: Stamp| stamp.is_zero() || holds(stamp);
    match entry.view() {
        View::Plain { stamp, deadline, .. } => {
            holds(Stamp::from_raw(stamp)) && deadline.is_none_or(|(stamp, _)| holds(Stamp::from_raw(stamp)))
        }
        View::Tombstone { stamp } => holds(Stamp::from_raw(stamp)),
        View::Rich(state) => {
            holds(state.clear)
                && state.deadline.is_none_or(|deadline| holds(deadline.stamp))
                && state.string.every_stamp(&holds)
                && state.hash.as_ref().is_none_or(|hash| holds(hash.newest()))
        }
    }
}
