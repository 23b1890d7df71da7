//! Joining whole states with causal context: what one side lacks although its version vector covers it was deleted or
//! forgotten there, so the other side lets it go too. Full merges need no tombstones for that.

use super::cell::Cell;
use super::hash::{Hash, unpack};
use super::key::{Deadline, KeyState, later};
use super::realm::Realm;
use super::stamp::Stamp;

/// What the two sides have applied of the partition being merged.
pub struct Context<'a> {
    /// Whether we had applied a write.
    pub ours: &'a dyn Fn(Stamp) -> bool,
    /// Whether the sender had, when it began.
    pub theirs: &'a dyn Fn(Stamp) -> bool,
}

impl Context<'_> {
    // One component that either side may lack; `both` joins when both have it.
    fn keep<T>(&self, ours: Option<(Stamp, T)>, theirs: Option<(Stamp, T)>, both: impl FnOnce(T, T) -> T) -> Option<T> {
        match (ours, theirs) {
            (Some((_, a)), Some((_, b))) => Some(both(a, b)),
            (Some((stamp, a)), None) => (!(self.theirs)(stamp)).then_some(a),
            (None, Some((stamp, b))) => (!(self.ours)(stamp)).then_some(b),
            (None, None) => None,
        }
    }
}

impl KeyState {
    /// Joins the sender's copy of a key (an empty one when the sender has none).
    pub fn join_with_context(&mut self, realm: &Realm, other: &Self, context: &Context<'_>) {
        let stamped = |stamp: Stamp| (!stamp.is_zero()).then_some((stamp, stamp));
        let clear = context.keep(stamped(self.clear), stamped(other.clear), |a, b| realm.origins.later(a, b));
        // The deadline register spelled out: a side without one of its own has one by its clear stamp. One that the
        // other side knew and has no more was overwritten or forgotten there.
        let spelled = |state: &Self| state.deadline.unwrap_or(Deadline { stamp: state.clear, at: None });
        let (mine, theirs) = (spelled(self), spelled(other));
        // Equal stamps are one write (SET with EX is clear and deadline in one); a side where it has no deadline any more
        // has forgotten that it was taken away.
        let mine = (mine == theirs || !(context.theirs)(mine.stamp)).then_some(mine);
        let theirs = (!(context.ours)(theirs.stamp)).then_some(theirs);
        let register = match (mine, theirs) {
            (Some(a), Some(b)) => Some(later(realm, a, b)),
            (one, other) => one.or(other),
        };
        let string = join_cells(realm, &self.string, &other.string, context);
        let hash = join_hashes(realm, self.hash.as_deref(), other.hash.as_deref(), context);
        let clear = clear.unwrap_or(Stamp::ZERO);
        *self = Self { clear: Stamp::ZERO, deadline: None, string, hash: hash.map(Box::new) };
        self.raise_clear(realm, clear);
        self.put_register(register.unwrap_or(Deadline { stamp: clear, at: None }));
    }
}

fn join_cells(realm: &Realm, ours: &Cell, theirs: &Cell, context: &Context<'_>) -> Cell {
    let register = |cell: &Cell| (!cell.stamp.is_zero()).then(|| (cell.stamp, (cell.stamp, cell.value.clone())));
    let mut joined = Cell::default();
    let kept = context.keep(register(ours), register(theirs), |a, b| {
        let mut cell = Cell { stamp: a.0, value: a.1, ..Cell::default() };
        cell.join_register(realm, b.0, b.1.as_deref());
        (cell.stamp, cell.value)
    });
    if let Some((stamp, value)) = kept {
        (joined.stamp, joined.value) = (stamp, value);
    }
    for slot in ours.slots.iter().chain(&theirs.slots) {
        let find = |cell: &Cell| {
            cell.slots.iter().find(|known| known.origin == slot.origin).map(|known| (known.dot(), *known))
        };
        let later = |a: super::cell::SlotCount, b: super::cell::SlotCount| if b.last > a.last { b } else { a };
        if let Some(kept) = context.keep(find(ours), find(theirs), later) {
            joined.join_slot(kept);
        }
    }
    for seen in ours.observed.iter().chain(&theirs.observed) {
        let origin = seen.slot.origin;
        let find = |cell: &Cell| {
            cell.observed.iter().find(|known| known.slot.origin == origin).map(|known| (known.by, *known))
        };
        let (mine, other) = (find(ours), find(theirs));
        let both = |a, b| {
            let mut cell = Cell::default();
            cell.join_observed(realm, a);
            cell.join_observed(realm, b);
            cell.observed[0]
        };
        // What all have heard of lasts as long as the slot needs it, and the slot was judged above.
        let kept = match (mine, other) {
            (Some((by, only)), None) | (None, Some((by, only))) if by.is_zero() => Some(only),
            (mine, other) => context.keep(mine, other, both),
        };
        if let Some(kept) = kept {
            joined.join_observed(realm, kept);
        }
    }
    joined.drop_needless();
    joined
}

fn join_hashes(realm: &Realm, ours: Option<&Hash>, theirs: Option<&Hash>, context: &Context<'_>) -> Option<Hash> {
    let find =
        |hash: Option<&Hash>, name: &[u8]| hash.and_then(|hash| hash.find(realm, name)).map(unpack).unwrap_or_default();
    let mut joined = Hash::default();
    for field in ours.into_iter().chain(theirs).flat_map(|hash| hash.iter()) {
        let cell = join_cells(realm, &find(ours, field.key()), &find(theirs, field.key()), context);
        joined.join_cell(realm, Stamp::ZERO, field.key(), &cell);
    }
    (!joined.is_void()).then_some(joined)
}
