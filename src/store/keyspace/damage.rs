//! Damage on purpose, past the door and past the books.

use super::packing::tally_of;
use super::{KeyRef, Keyspace, tables_of};
use crate::base::ids::Db;
use crate::merge::damage::{earlier, of_bytes};
use crate::merge::stamp::Stamp;
use crate::store::counts::Tally;

pub use crate::merge::damage::Damage;

impl Keyspace {
    /// Damages a key that is kept. False: there is nothing to damage. Only the numbers of keys follow, so that the
    /// node goes on; digests do not, and nobody is told.
    pub fn damage(&mut self, db: Db, key: &KeyRef<'_>, damage: Damage) -> bool {
        let index = self.table_index(key.slot);
        let Self { realm, dbs, slots, .. } = self;
        let table = &mut tables_of(dbs, *slots, db)[index];
        let Some(entry) = table.find_mut(key.hash, |entry| entry.key() == key.bytes) else { return false };
        if damage == Damage::Absence {
            let before = tally_of(entry);
            table.remove(key.hash, |entry| entry.key() == key.bytes, |entry| realm.hash(entry.key()));
            self.count(db, key, before, Tally::default());
            return true;
        }
        if let Some(state) = entry.rich_mut() {
            return state.damage(realm, damage);
        }
        match damage {
            Damage::Value => entry.value_mut().is_some_and(of_bytes),
            _ => {
                let stamp = earlier(Stamp::from_raw(entry.stamp()));
                entry.set_stamp(stamp.raw());
                true
            }
        }
    }
}
