//! Asking for keys ahead of the commands that use them.
//!
//! A look-up waits for memory three to six times in a row, about 100 ns each once the keys no longer fit the caches:
//! measured, half of the CPU time of pipelined GETs and SETs on 100,000 keys. Several keys asked for in a row arrive
//! together, in little more than the time of one.

use super::{KeyRef, Keyspace, Packed, Table};
use crate::base::ids::{Db, Slot};
use crate::mem::entry::View;
use crate::mem::prefetch::prefetch;
use crate::merge::realm::Realm;

/// A key somebody will ask for soon.
#[derive(Clone, Copy, Debug)]
pub struct Soon {
    /// Its database.
    pub db: Db,
    /// Its slot; of this shard.
    pub slot: Slot,
    /// Its hash.
    pub hash: u64,
    /// The hash of the field, if it seems to be a hash's.
    pub field: Option<u64>,
    /// Where its bytes lie, and how many there are.
    place: (usize, usize),
}

impl Soon {
    /// Hashes a key both ways; `field` names one of its fields.
    #[inline]
    pub fn new(realm: &Realm, db: Db, key: &[u8], slot: Slot, field: Option<&[u8]>) -> Self {
        let field = field.map(|field| realm.hash(field));
        Self { db, slot, hash: realm.hash(key), field, place: place_of(key) }
    }

    /// A key that only its hash is known of.
    pub fn hashed(db: Db, slot: Slot, hash: u64) -> Self {
        Self { db, slot, hash, field: None, place: (0, 0) }
    }

    /// Whether it was made of these very bytes, in this place: then they need not be hashed again. Only to be asked
    /// while the bytes it was made of cannot have changed.
    #[inline]
    pub fn is_of(&self, key: &[u8]) -> bool {
        self.place == place_of(key)
    }
}

#[inline]
fn place_of(key: &[u8]) -> (usize, usize) {
    (key.as_ptr().addr(), key.len())
}

/// How many keys one [`Keyspace::fetch`] asks for. More would push the first ones out of the nearest cache again.
pub const SOON_MAX: usize = 64;

impl Keyspace {
    /// Asks for the memory of a key without waiting for it: for commands with many keys.
    #[inline]
    pub fn prefetch(&self, db: Db, key: &KeyRef<'_>) {
        if let Some(entry) = self.glance(db, key.slot, key.hash) {
            entry.prefetch();
        }
    }

    /// Asks for where [`Keyspace::fetch`] will have to look for a key.
    #[inline]
    pub fn prefetch_table(&self, db: Db, slot: Slot) {
        let tables = self.dbs.get(usize::from(db.0)).and_then(Option::as_ref);
        if let Some(table) = tables.and_then(|tables| tables.get(self.table_index(slot))) {
            prefetch(table, size_of::<Table>());
            self.digests.prefetch(db, self.table_index(slot));
        }
    }

    /// Asks for the memory of several keys, at most [`SOON_MAX`], as far as their values.
    pub fn fetch(&self, keys: &[Soon]) {
        let mut found: [Option<&Packed>; SOON_MAX] = [None; SOON_MAX];
        for (key, found) in keys.iter().zip(&mut found) {
            *found = self.glance(key.db, key.slot, key.hash);
            if let Some(entry) = found {
                entry.prefetch();
            }
        }
        if keys.iter().all(|key| key.field.is_none()) {
            return;
        }
        for (key, entry) in keys.iter().zip(&found) {
            if let (Some(View::Rich(state)), Some(field)) = (entry.map(Packed::view), key.field)
                && let Some(hash) = &state.hash
            {
                hash.prefetch(field);
            }
        }
    }

    // The first key with this hash tag: nearly always the one.
    #[inline]
    fn glance(&self, db: Db, slot: Slot, hash: u64) -> Option<&Packed> {
        let tables = self.dbs.get(usize::from(db.0))?.as_ref()?;
        tables.get(self.table_index(slot))?.find(hash, |_| true)
    }
}
