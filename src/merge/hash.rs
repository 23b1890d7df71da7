//! A hash: a cell per field. Fields that are only a register are packed like plain keys.
//!
//! Up to [`SMALL_MAX`] fields stand in a list in the order they were added, as Redis' listpack hashes do; beyond that
//! in a table that grows without a pause.

use std::collections::VecDeque;

use super::cell::{Cell, Observed, SlotCount};
use super::digest::{of_field, of_field_cell, of_plain_field};
use super::op::Observations;
use super::realm::Realm;
use super::stamp::Stamp;
use super::waste::Waste;
use crate::base::rng::Rng;
use crate::mem::entry::{Entry, View};
use crate::mem::table::ScanTable;

/// How many fields a hash lists before it hashes them: a walk of that many pointers costs about as much as hashing.
pub const SMALL_MAX: usize = 32;

/// A packed cell and its field name.
pub type Field = Entry<Cell>;

/// See the file's head.
#[derive(Default)]
pub struct Hash {
    fields: Fields,
    live: usize,
    /// At least the latest stamp of any field, deletions included.
    newest: Stamp,
    /// The sum of what its fields count for in digests.
    digest: u64,
    /// Some field was a counter once.
    counted: bool,
    /// How many fields hold something to forget once it is stable.
    garbage: usize,
    /// Their hashes, walked instead of the whole hash. May name fields twice, or such as hold nothing any more.
    garbage_queue: VecDeque<u64>,
}

enum Fields {
    Small(Vec<Field>),
    Large(Box<ScanTable<Field>>),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

impl Hash {
    /// How many fields a reader sees.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether a reader sees none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether nothing is kept at all, not even memories of deleted fields.
    pub fn is_void(&self) -> bool {
        match &self.fields {
            Fields::Small(list) => list.is_empty(),
            Fields::Large(table) => table.is_empty(),
        }
    }

    /// At least the latest stamp of any field write, deletions included: a new local write must be above it. Nodes
    /// that remember different deletions answer differently; what readers see is decided by [`Hash::is_newer_than`].
    pub fn newest(&self) -> Stamp {
        self.newest
    }

    /// Whether a reader sees a write in here that is later than `stamp`.
    pub fn is_newer_than(&self, realm: &Realm, stamp: Stamp) -> bool {
        // In a clash of types nearly every field is later than what cleared the older ones: the first decides.
        realm.origins.newer(self.newest, stamp)
            && self.iter().any(|field| {
                let seen = match field.view() {
                    View::Plain { stamp, .. } => Stamp::from_raw(stamp),
                    View::Tombstone { .. } => Stamp::ZERO,
                    View::Rich(cell) => cell.newest_seen(realm),
                };
                realm.origins.newer(seen, stamp)
            })
    }

    /// What its fields count for in digests (`digest`).
    #[inline]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The same, counted from the fields.
    pub fn counted_digest(&self, realm: &Realm) -> u64 {
        self.iter().fold(0, |sum, field| sum.wrapping_add(of_field(realm, field)))
    }

    /// Sets what is kept to what is counted.
    pub fn recount(&mut self, realm: &Realm) {
        self.digest = self.counted_digest(realm);
    }

    /// Whether some field may hold counts, or what resets have observed of them. May say so too long.
    pub fn may_count(&self) -> bool {
        self.counted
    }

    /// Whether something in here waits for stability.
    pub fn has_garbage(&self) -> bool {
        self.garbage > 0
    }

    /// The same fields again.
    pub fn copy(&self, realm: &Realm) -> Self {
        let mut copy = Self {
            newest: self.newest,
            live: self.live,
            digest: self.digest,
            counted: self.counted,
            garbage: self.garbage,
            garbage_queue: self.garbage_queue.clone(),
            ..Self::default()
        };
        for field in self.iter() {
            copy.insert(realm, pack(field.key(), unpack(field)));
        }
        copy
    }

    /// The packed cell of a field, deleted ones included.
    pub fn find(&self, realm: &Realm, name: &[u8]) -> Option<&Field> {
        match &self.fields {
            Fields::Small(list) => list.iter().find(|field| field.key() == name),
            Fields::Large(table) => table.find(realm.hash(name), |field| field.key() == name),
        }
    }

    /// Asks for the memory of the field with this hash, without waiting for it. A small hash is left alone.
    pub fn prefetch(&self, hash: u64) {
        if let Fields::Large(table) = &self.fields
            && let Some(field) = table.find(hash, |_| true)
        {
            field.prefetch();
        }
    }

    /// Some field that a reader sees, to be changed past the books.
    pub(super) fn first_live(&mut self, realm: &Realm) -> Option<&mut Field> {
        let is_live = |field: &Field| match field.view() {
            View::Plain { .. } => true,
            View::Tombstone { .. } => false,
            View::Rich(cell) => cell.is_live(),
        };
        match &mut self.fields {
            Fields::Small(list) => list.iter_mut().find(|field| is_live(field)),
            Fields::Large(table) => {
                let name: Box<[u8]> = table.iter().find(|field| is_live(field)).map(|field| Box::from(field.key()))?;
                table.find_mut(realm.hash(&name), |field| *field.key() == *name)
            }
        }
    }

    /// Every packed cell, deleted ones included.
    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        let (list, table) = match &self.fields {
            Fields::Small(list) => (list.as_slice(), None),
            Fields::Large(table) => (&[][..], Some(table.iter())),
        };
        list.iter().chain(table.into_iter().flatten())
    }

    /// One step of a scan over the packed cells; see [`ScanTable::scan`]. A small hash is one step.
    pub fn scan(&self, realm: &Realm, cursor: u64, count: usize, mut each: impl FnMut(&Field)) -> u64 {
        match &self.fields {
            Fields::Small(list) => {
                list.iter().for_each(&mut each);
                0
            }
            Fields::Large(table) => table.scan(cursor, count, |field| realm.hash(field.key()), each),
        }
    }

    /// A packed cell picked by chance, possibly a deleted one.
    pub fn sample(&self, rng: &mut Rng) -> Option<&Field> {
        match &self.fields {
            Fields::Small(list) if list.is_empty() => None,
            Fields::Small(list) => list.get(rng.below(list.len() as u64) as usize),
            Fields::Large(table) => table.sample(rng),
        }
    }

    /// Joins a register write of one field. `clear` is the key's clear stamp: what is older is already gone.
    pub fn join_field(
        &mut self,
        realm: &Realm,
        clear: Stamp,
        stamp: Stamp,
        name: &[u8],
        value: Option<&[u8]>,
        observed: &Observations,
    ) -> bool {
        if stamp_is_void(realm, clear, stamp) && observed.is_empty() {
            return false;
        }
        if observed.is_empty() {
            self.note_newest(realm, stamp);
            return self.join_plain(realm, stamp, name, value);
        }
        self.update(realm, name, |cell| {
            let mut changed = false;
            if !stamp_is_void(realm, clear, stamp) {
                changed |= cell.join_register(realm, stamp, value);
            }
            for slot in observed {
                changed |= cell.join_observed(realm, Observed { slot: *slot, by: stamp });
            }
            changed
        })
    }

    /// Writes a field with a stamp above everything in here, which `mint` gives. Returns it, and whether the field is new.
    /// `None`: the field is a count or a memory of a delete; nothing was done.
    #[inline]
    pub fn set_over(
        &mut self,
        realm: &Realm,
        name: &[u8],
        value: &[u8],
        mint: impl FnOnce() -> Stamp,
    ) -> Option<(Stamp, bool)> {
        let Some(field) = self.find_mut(realm, name) else {
            let stamp = mint();
            self.newest = stamp;
            self.add_plain(realm, stamp, name, Some(value));
            return Some((stamp, true));
        };
        if field.is_rich() || field.is_tombstone() {
            return None;
        }
        let stamp = mint();
        let before = of_field(realm, field);
        field.set_plain(value, stamp.raw(), None);
        self.newest = stamp;
        self.digest = self.digest.wrapping_add(of_plain_field(realm, name, stamp).wrapping_sub(before));
        Some((stamp, false))
    }

    /// Joins a counter slot of one field.
    pub fn join_slot(&mut self, realm: &Realm, name: &[u8], slot: SlotCount) -> bool {
        self.update(realm, name, |cell| cell.join_slot(slot))
    }

    /// Joins a whole cell, as full merges and snapshots bring it. `clear` as in [`Hash::join_field`].
    pub fn join_cell(&mut self, realm: &Realm, clear: Stamp, name: &[u8], other: &Cell) -> bool {
        let mut other = other.clone();
        other.clear(realm, clear);
        if other.is_void() {
            return false;
        }
        self.update(realm, name, |cell| cell.join(realm, &other))
    }

    /// Changes one field's cell, creating it if absent, and keeps the counts right. `change` says whether it did.
    pub fn update(&mut self, realm: &Realm, name: &[u8], change: impl FnOnce(&mut Cell) -> bool) -> bool {
        let (was_live, had_garbage, before);
        let (is_live, has_garbage, newest, after);
        // A counter is changed where it is; other forms are unpacked and packed again.
        if let Some(cell) = self.find_mut(realm, name).and_then(Field::rich_mut)
            && !cell.is_register()
        {
            (was_live, had_garbage) = (cell.is_live(), cell.has_garbage());
            before = of_field_cell(realm, name, cell);
            if !change(cell) {
                return false;
            }
            (is_live, has_garbage, newest) = (cell.is_live(), cell.has_garbage(), cell.newest(realm));
            after = of_field_cell(realm, name, cell);
            if cell.is_register() {
                let cell = std::mem::take(cell);
                self.put(realm, name, cell);
            }
        } else {
            let mut cell = self.find(realm, name).map(unpack).unwrap_or_default();
            (was_live, had_garbage) = (cell.is_live(), cell.has_garbage());
            before = of_field_cell(realm, name, &cell);
            if !change(&mut cell) {
                return false;
            }
            (is_live, has_garbage, newest) = (cell.is_live(), cell.has_garbage(), cell.newest(realm));
            after = of_field_cell(realm, name, &cell);
            self.put(realm, name, cell);
        }
        self.note_newest(realm, newest);
        self.live = self.live + usize::from(is_live) - usize::from(was_live);
        self.digest = self.digest.wrapping_add(after.wrapping_sub(before));
        self.note_garbage(realm, name, had_garbage, has_garbage);
        true
    }

    /// Drops every register older than `clear`; returns whether any was there.
    pub fn clear(&mut self, realm: &Realm, clear: Stamp) -> bool {
        // Nearly always the clear is newer than all there is, and without counters nothing outlives it.
        if realm.origins.newer(clear, self.newest) && (!self.counted || !self.iter().any(Field::is_rich)) {
            let changed = !self.is_void();
            *self = Self { newest: self.newest, ..Self::default() };
            return changed;
        }
        self.rebuild(realm, |cell| cell.clear(realm, clear))
    }

    /// Takes all fields out at once, if the hash is large, holds no counts, and all of it `goes`, which is asked for the
    /// newest write: what a clear or a keep is about to drop, to be freed in slices.
    pub fn cut_off(&mut self, goes: &impl Fn(Stamp) -> bool) -> Option<Waste> {
        if self.counted || !goes(self.newest) {
            return None;
        }
        let Fields::Large(table) = &mut self.fields else { return None };
        let waste = Waste::new(table.drain());
        *self = Self { newest: self.newest, ..Self::default() };
        Some(waste)
    }

    /// Looks at some fields, from `cursor` on, as [`ScanTable::scan`] does: returns the next cursor, 0 at the end, and
    /// whether `holds` held for all stamps seen. A small hash is looked at whole.
    pub fn check_stamps(
        &self,
        realm: &Realm,
        cursor: u64,
        count: usize,
        holds: &impl Fn(Stamp) -> bool,
    ) -> (u64, bool) {
        let of_field = |field: &Field| match field.view() {
            View::Plain { stamp, .. } | View::Tombstone { stamp } => holds(Stamp::from_raw(stamp)),
            View::Rich(cell) => cell.every_stamp(holds),
        };
        match &self.fields {
            Fields::Small(list) => (0, list.iter().all(of_field)),
            Fields::Large(table) => {
                let mut all = true;
                let hasher = |field: &Field| realm.hash(field.key());
                let next = table.scan(cursor, count, hasher, |field| all &= of_field(field));
                (next, all)
            }
        }
    }

    /// How many fields are kept, memories of deleted ones included.
    pub fn kept_len(&self) -> usize {
        match &self.fields {
            Fields::Small(list) => list.len(),
            Fields::Large(table) => table.len(),
        }
    }

    /// Keeps only writes that survive, counts included; returns whether any went.
    pub fn keep(&mut self, realm: &Realm, by: Stamp, survives: &impl Fn(Stamp) -> bool) -> bool {
        self.rebuild(realm, |cell| cell.keep(by, survives))
    }

    /// Forgets what is stable, looking at no more than `budget` fields; `forget` is told the stamps that go. What is
    /// left to wait for says [`Hash::has_garbage`].
    pub fn collect(
        &mut self,
        realm: &Realm,
        stable: &impl Fn(Stamp) -> bool,
        forget: &mut impl FnMut(Stamp),
        budget: usize,
    ) {
        for _ in 0..budget.min(self.garbage_queue.len()) {
            let Some(hash) = self.garbage_queue.pop_front() else { break };
            for name in self.garbage_named(realm, hash) {
                let mut cell = self.find(realm, &name).map(unpack).unwrap_or_default();
                if !cell.has_garbage() {
                    continue;
                }
                cell.collect(stable, forget);
                if cell.has_garbage() {
                    self.garbage_queue.push_back(hash);
                } else {
                    self.garbage -= 1;
                }
                self.put(realm, &name, cell);
            }
        }
    }

    /// Heap bytes of all fields.
    pub fn heap_bytes(&self) -> usize {
        let table = match &self.fields {
            Fields::Small(list) => list.capacity() * size_of::<Field>(),
            Fields::Large(table) => table.heap_bytes(),
        };
        let cells: usize = self.iter().map(field_bytes).sum();
        table + cells + self.garbage_queue.capacity() * 8
    }

    /// As [`Hash::heap_bytes`], from the average of the first `samples` fields. 0: from all.
    pub fn heap_bytes_sampled(&self, samples: usize) -> usize {
        let (kept, table) = match &self.fields {
            Fields::Small(list) => (list.len(), list.capacity() * size_of::<Field>()),
            Fields::Large(table) => (table.len(), table.heap_bytes()),
        };
        let samples = if samples == 0 { kept } else { samples.min(kept) };
        let sampled: usize = self.iter().take(samples).map(field_bytes).sum();
        table + sampled * kept / samples.max(1) + self.garbage_queue.capacity() * 8
    }

    // The common write: no counters in the field, before or after. Nothing is unpacked.
    fn join_plain(&mut self, realm: &Realm, stamp: Stamp, name: &[u8], value: Option<&[u8]>) -> bool {
        let Some(field) = self.find_mut(realm, name) else {
            self.add_plain(realm, stamp, name, value);
            return true;
        };
        if field.is_rich() {
            return self.update(realm, name, |cell| cell.join_register(realm, stamp, value));
        }
        let known = Stamp::from_raw(field.stamp());
        let was_live = !field.is_tombstone();
        let larger = || match field.view() {
            View::Plain { value: known, .. } => value > Some(known),
            _ => value.is_some(),
        };
        if !(realm.origins.newer(stamp, known) || stamp == known && larger()) {
            return false;
        }
        let before = of_field(realm, field);
        match value {
            Some(value) => field.set_plain(value, stamp.raw(), None),
            None => field.set_tombstone(stamp.raw()),
        }
        let after = if value.is_some() { of_plain_field(realm, name, stamp) } else { 0 };
        self.digest = self.digest.wrapping_add(after.wrapping_sub(before));
        self.live = self.live + usize::from(value.is_some()) - usize::from(was_live);
        self.note_garbage(realm, name, !was_live, value.is_none());
        true
    }

    // A field that was unknown.
    fn add_plain(&mut self, realm: &Realm, stamp: Stamp, name: &[u8], value: Option<&[u8]>) {
        let field = match value {
            Some(value) => Entry::plain(name, value, stamp.raw(), None),
            None => Entry::tombstone(name, stamp.raw()),
        };
        self.live += usize::from(value.is_some());
        self.digest = self.digest.wrapping_add(of_field(realm, &field));
        self.note_garbage(realm, name, false, value.is_none());
        self.insert(realm, field);
    }

    fn note_garbage(&mut self, realm: &Realm, name: &[u8], before: bool, after: bool) {
        if before == after {
            return;
        }
        if before {
            self.garbage -= 1;
            return;
        }
        self.garbage += 1;
        self.garbage_queue.push_back(realm.hash(name));
        // A field set and deleted over and over while a member is away must not fill the queue.
        if self.garbage_queue.len() > 2 * self.garbage + SMALL_MAX {
            let queue = self.garbage_queue.make_contiguous();
            queue.sort_unstable();
            let mut last = None;
            self.garbage_queue.retain(|&hash| last.replace(hash) != Some(hash));
        }
    }

    fn note_newest(&mut self, realm: &Realm, stamp: Stamp) {
        self.newest = realm.origins.later(self.newest, stamp);
    }

    fn find_mut(&mut self, realm: &Realm, name: &[u8]) -> Option<&mut Field> {
        match &mut self.fields {
            Fields::Small(list) => list.iter_mut().find(|field| field.key() == name),
            Fields::Large(table) => table.find_mut(realm.hash(name), |field| field.key() == name),
        }
    }

    fn insert(&mut self, realm: &Realm, field: Field) {
        if let Fields::Small(list) = &mut self.fields {
            if list.len() < SMALL_MAX {
                list.push(field);
                return;
            }
            let mut table = ScanTable::new();
            for known in list.drain(..) {
                table.insert_unique(realm.hash(known.key()), known, |field| realm.hash(field.key()));
            }
            self.fields = Fields::Large(Box::new(table));
        }
        if let Fields::Large(table) = &mut self.fields {
            table.insert_unique(realm.hash(field.key()), field, |field| realm.hash(field.key()));
        }
    }

    fn remove(&mut self, realm: &Realm, name: &[u8]) {
        match &mut self.fields {
            Fields::Small(list) => {
                if let Some(at) = list.iter().position(|field| field.key() == name) {
                    list.remove(at);
                }
            }
            Fields::Large(table) => {
                table.remove(realm.hash(name), |field| field.key() == name, |field| realm.hash(field.key()));
            }
        }
    }

    // Writes a cell back, in its smallest form, or drops the field when nothing of it is left.
    fn put(&mut self, realm: &Realm, name: &[u8], cell: Cell) {
        if cell.is_void() {
            return self.remove(realm, name);
        }
        self.counted |= !cell.is_register();
        match self.find_mut(realm, name) {
            Some(field) => pack_into(field, cell),
            None => self.insert(realm, pack(name, cell)),
        }
    }

    // Visits every cell with a change that only removes.
    fn rebuild(&mut self, realm: &Realm, mut change: impl FnMut(&mut Cell)) -> bool {
        let names: Vec<Box<[u8]>> = self.iter().map(|field| Box::from(field.key())).collect();
        let mut changed = false;
        for name in names {
            let before = self.find(realm, &name).map(unpack).unwrap_or_default();
            let mut cell = before.clone();
            change(&mut cell);
            if cell != before {
                changed = true;
                self.live = self.live + usize::from(cell.is_live()) - usize::from(before.is_live());
                let counted = of_field_cell(realm, &name, &cell).wrapping_sub(of_field_cell(realm, &name, &before));
                self.digest = self.digest.wrapping_add(counted);
                self.note_garbage(realm, &name, before.has_garbage(), cell.has_garbage());
                self.put(realm, &name, cell);
            }
        }
        changed
    }

    fn garbage_named(&self, realm: &Realm, hash: u64) -> Vec<Box<[u8]>> {
        let holds_garbage = |field: &&Field| field.is_tombstone() || field.is_rich();
        match &self.fields {
            Fields::Small(list) => list
                .iter()
                .filter(holds_garbage)
                .filter(|field| realm.hash(field.key()) == hash)
                .map(|field| Box::from(field.key()))
                .collect(),
            Fields::Large(table) => table
                .find(hash, |field| holds_garbage(&field) && realm.hash(field.key()) == hash)
                .map(|field| Box::from(field.key()))
                .into_iter()
                .collect(),
        }
    }
}

fn field_bytes(field: &Field) -> usize {
    match field.view() {
        View::Rich(cell) => field.heap_bytes() + size_of::<Cell>() + cell.heap_bytes(),
        _ => field.heap_bytes(),
    }
}

/// A field's cell, whatever its packing.
pub fn unpack(field: &Field) -> Cell {
    match field.view() {
        View::Plain { stamp, value, .. } => {
            Cell { stamp: Stamp::from_raw(stamp), value: Some(Box::from(value)), ..Cell::default() }
        }
        View::Tombstone { stamp } => Cell { stamp: Stamp::from_raw(stamp), ..Cell::default() },
        View::Rich(cell) => cell.clone(),
    }
}

fn pack(name: &[u8], cell: Cell) -> Field {
    match (&cell.value, cell.is_register()) {
        (Some(value), true) => Entry::plain(name, value, cell.stamp.raw(), None),
        (None, true) => Entry::tombstone(name, cell.stamp.raw()),
        _ => Entry::rich(name, cell),
    }
}

fn pack_into(field: &mut Field, cell: Cell) {
    match (&cell.value, cell.is_register()) {
        (Some(value), true) => field.set_plain(value, cell.stamp.raw(), None),
        (None, true) => field.set_tombstone(cell.stamp.raw()),
        _ => match field.rich_mut() {
            Some(known) => *known = cell,
            None => field.set_rich(cell),
        },
    }
}

fn stamp_is_void(realm: &Realm, clear: Stamp, stamp: Stamp) -> bool {
    realm.origins.newer(clear, stamp)
}
