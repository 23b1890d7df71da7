//! Fields that nothing refers to any more, on their way back to the allocator.

use super::hash::Field;
use crate::mem::table::IntoIter;

/// The fields of a large hash that was deleted whole. Dropping it frees them all at once; to spread that, free some.
pub struct Waste(IntoIter<Field>);

impl Waste {
    pub(super) fn new(fields: IntoIter<Field>) -> Self {
        Self(fields)
    }

    /// How many fields are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees at most so many fields; returns how many.
    pub fn free(&mut self, most: usize) -> usize {
        self.0.by_ref().take(most).count()
    }
}
