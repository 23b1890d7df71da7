//! What was cut off whole by a delete, an expiry or a flush, freed in slices: a table or a hash of a million entries
//! would stop the core for as long as it takes to free them.

use super::{KeyState, Packed, Stamp};
use crate::mem::table::IntoIter;
use crate::merge::realm::Realm;
use crate::merge::waste::Waste;
use crate::store::deadlines::Deadlines;

/// Giving back a chunk of deadlines counts like giving back so many keys.
const CHUNK_ENTRIES: usize = 16;

/// See the file's head.
#[derive(Default)]
pub(super) struct Trash {
    tables: Vec<IntoIter<Packed>>,
    hashes: Vec<Waste>,
    deadlines: Vec<Deadlines>,
}

impl Trash {
    pub(super) fn put_table(&mut self, entries: IntoIter<Packed>) {
        self.tables.push(entries);
    }

    pub(super) fn put_hash(&mut self, waste: Option<Waste>) {
        self.hashes.extend(waste);
    }

    pub(super) fn put_deadlines(&mut self, deadlines: Deadlines) {
        self.deadlines.push(deadlines);
    }

    /// Keys and fields that wait to be freed.
    pub(super) fn len(&self) -> usize {
        let keys: usize = self.tables.iter().map(ExactSizeIterator::len).sum();
        keys + self.hashes.iter().map(Waste::len).sum::<usize>()
    }

    /// Frees about `budget` keys and fields. Returns whether anything is left.
    pub(super) fn free(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while freed < budget {
            if let Some(hash) = self.hashes.last_mut() {
                freed += hash.free(budget - freed);
                if hash.is_empty() {
                    self.hashes.pop();
                }
            } else if let Some(entries) = self.tables.last_mut() {
                freed += 1;
                match entries.next() {
                    Some(mut entry) => {
                        let waste = entry.rich_mut().and_then(|state| state.cut_off(&|_| true));
                        self.put_hash(waste);
                    }
                    None => drop(self.tables.pop()),
                }
            } else if let Some(due) = self.deadlines.last_mut() {
                freed += CHUNK_ENTRIES;
                if !due.free_some() {
                    self.deadlines.pop();
                }
            } else {
                return false;
            }
        }
        !(self.hashes.is_empty() && self.tables.is_empty() && self.deadlines.is_empty())
    }
}

/// Takes out of a state what a write stamped `stamp` is about to delete whole, so that it is not freed on the spot.
pub(super) fn cut_off(realm: &Realm, state: &mut KeyState, stamp: Stamp) -> Option<Waste> {
    state.cut_off(&|newest| realm.origins.newer(stamp, newest))
}
