//! Readings by partition and origin that are to be remembered until a version vector has come that far. Nearly always
//! none.

use std::collections::BTreeMap;

use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::merge::version::Versions;

/// See the file's head.
#[derive(Default)]
pub(super) struct Marks(BTreeMap<u8, BTreeMap<OriginIdx, Hlc>>);

impl Marks {
    /// Remembers a reading; the latest of an origin and partition is kept.
    pub(super) fn raise(&mut self, partition: usize, origin: OriginIdx, to: Hlc) {
        let known = self.0.entry(partition as u8).or_default().entry(origin).or_default();
        *known = to.max(*known);
    }

    /// Those of a partition.
    pub(super) fn of(&self, partition: usize) -> impl Iterator<Item = (OriginIdx, Hlc)> + Clone + '_ {
        self.0.get(&(partition as u8)).into_iter().flatten().map(|(&origin, &hlc)| (origin, hlc))
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Partitions with any.
    pub(super) fn partitions(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.keys().copied()
    }

    /// Forgets those that `versions` covers.
    pub(super) fn settle(&mut self, partition: usize, versions: &Versions) {
        if let Some(marks) = self.0.get_mut(&(partition as u8)) {
            marks.retain(|&origin, hlc| *hlc > versions.get(origin, partition));
            if marks.is_empty() {
                self.0.remove(&(partition as u8));
            }
        }
    }
}
