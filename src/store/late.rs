//! Keys that changed behind a scan: what a snapshot must write again before it ends.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use crate::base::ids::{Db, Slot};

/// Which databases and slots a scan has passed, and the keys changed there since. Each key is kept once, however often
/// it changes; so memory is bounded by the keys changed while the scan runs.
#[derive(Default)]
pub struct Late {
    /// The last place passed or being passed; places are walked in ascending order.
    passed: Option<u32>,
    /// By place, so that taking some never walks the rest.
    keys: BTreeMap<u32, HashSet<Box<[u8]>, ahash::RandomState>>,
    count: usize,
}

impl Late {
    /// The scan is about to look at a slot of a database.
    pub fn pass(&mut self, db: Db, slot: Slot) {
        self.passed = self.passed.max(Some(place(db, slot)));
    }

    /// The scan has passed everything.
    pub fn pass_all(&mut self) {
        self.passed = Some(u32::MAX);
    }

    /// A key may have changed.
    pub fn note(&mut self, db: Db, slot: Slot, key: &[u8]) {
        let place = place(db, slot);
        if Some(place) > self.passed {
            return;
        }
        let keys = self.keys.entry(place).or_default();
        if !keys.contains(key) {
            keys.insert(Box::from(key));
            self.count += 1;
        }
    }

    /// How many keys are noted.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Takes the keys of one slot.
    pub fn take(&mut self) -> Option<(Db, impl Iterator<Item = Box<[u8]>> + use<>)> {
        let (place, keys) = self.keys.pop_first()?;
        self.count -= keys.len();
        Some((Db((place >> SLOT_BITS) as u16), keys.into_iter()))
    }
}

const SLOT_BITS: u32 = 14;

fn place(db: Db, slot: Slot) -> u32 {
    u32::from(db.0) << SLOT_BITS | u32::from(slot.0)
}
