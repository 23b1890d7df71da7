//! What all cores of a node share while they merge: the origin dictionary and the seed of the key hashes.

use super::origins::{OriginId, Origins};

/// Shared by reference; never changes but for new origins being added.
pub struct Realm {
    /// Who the 12-bit origin indices are.
    pub origins: Origins,
    hasher: ahash::RandomState,
}

impl Realm {
    /// A node whose own origin is `own`. `hash_seed` guards tables against chosen keys; the simulator fixes it.
    pub fn new(own: OriginId, hash_seed: u64) -> Self {
        let seed = |n: u64| hash_seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n);
        Self { origins: Origins::new(own), hasher: ahash::RandomState::with_seeds(seed(1), seed(2), seed(3), seed(4)) }
    }

    /// The hash under which tables keep a key or a field.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }
}
