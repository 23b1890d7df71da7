//! What an earlier run of this node may have said and this one does not know: that deadlines are final.
//!
//! Others drop what a final deadline has put an end to and then write as if the key had never been. The run that said
//! so would drop it too before it joins such a write. A run that starts from a snapshot saved before that has the old
//! content and no word of it. So a write that meets content of the snapshot beyond its deadline leaves the partition in
//! doubt, and it is taken whole from somebody who has that write: who covers what we have and lacks it has dropped it.

use super::Shard;
use crate::base::ids::{Db, Partition};
use crate::base::time::Now;
use crate::merge::stamp::Stamp;
use crate::merge::version::Versions;
use crate::store::keyspace::{KeyRef, deadline_of};

/// What a shard has begun with.
pub(super) struct Loaded {
    /// What was in the snapshot.
    versions: Versions,
    /// Deadlines before this Unix millisecond may have been called final since it was saved.
    before_ms: u64,
}

impl Shard {
    /// A snapshot has been loaded. The run that saved it, and what came after that, are over.
    pub fn end_loading(&mut self, now: Now) {
        // No run calls final what is beyond its clock, which may have been ahead of the wall clock.
        let before_ms = self.time_ms(now).saturating_add(self.drift_ms_max);
        self.loaded = Some(Loaded { versions: self.versions.clone(), before_ms });
    }

    /// Whether any partition has to be taken whole from somebody.
    #[inline]
    pub fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Partitions that have to be taken whole from somebody.
    pub fn doubtful(&self) -> impl Iterator<Item = Partition> + '_ {
        self.doubts.partitions().map(Partition)
    }

    /// A merged write is about to be joined.
    #[inline]
    pub(super) fn look_for_doubts(&mut self, db: Db, key: &KeyRef<'_>, stamp: Stamp) {
        if let Some(loaded) = &self.loaded {
            if self.keys.final_ms() >= loaded.before_ms {
                // Whatever had ended by then is dropped in good order.
                self.loaded = None;
            } else {
                self.look_closely(db, key, stamp);
            }
        }
    }

    #[cold]
    fn look_closely(&mut self, db: Db, key: &KeyRef<'_>, stamp: Stamp) {
        let (Some(loaded), Some(entry)) = (&self.loaded, self.keys.find(db, key)) else { return };
        let partition = usize::from(key.slot.partition().0);
        let has_ended = deadline_of(entry).and_then(|deadline| deadline.at).is_some_and(|at| at < loaded.before_ms);
        if has_ended && loaded.versions.covers(partition, self.keys.newest_of(entry)) {
            self.doubts.raise(partition, stamp.origin(), stamp.hlc());
        }
    }

    /// A partition was taken whole from somebody who had applied `theirs`.
    pub(super) fn settle_doubts(&mut self, partition: usize, theirs: &Versions) {
        self.doubts.settle(partition, theirs);
    }
}
