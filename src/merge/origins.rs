//! Who wrote: the identities behind the 12-bit origin indices of this process.
//!
//! An origin is one run of one node: node UUID and incarnation. Every start is a new incarnation, so a node that comes
//! back with an old copy of its data can never reuse a stamp its peers have seen; its own lost writes come back to it
//! like any other origin's.

use std::sync::{Mutex, OnceLock};

use crate::base::ids::Uuid;
use crate::base::mix;

/// How many origins one process can tell apart (12 bits of a stamp).
pub const ORIGINS_MAX: usize = 4096;

/// Local index of an origin: 0 is this run of this node. Means nothing outside this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OriginIdx(pub u16);

impl OriginIdx {
    /// This run of this node.
    pub const OWN: Self = Self(0);
}

/// One run of one node, as files and links name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct OriginId {
    /// The node.
    pub node: Uuid,
    /// Its start: Unix milliseconds of it, made larger than every incarnation of this node known before.
    pub incarnation: u64,
}

struct Known {
    id: OriginId,
    salt: u64,
}

/// The dictionary of origins, shared by the cores of a node. It only grows; reads take no lock.
pub struct Origins {
    ids: Box<[OnceLock<Known>]>,
    count: Mutex<u16>,
}

impl Origins {
    /// A dictionary whose index 0 is `own`.
    pub fn new(own: OriginId) -> Self {
        let origins = Self { ids: (0..ORIGINS_MAX).map(|_| OnceLock::new()).collect(), count: Mutex::new(0) };
        origins.index(own);
        origins
    }

    /// The index of an origin, given now if it is new. `None` when [`ORIGINS_MAX`] are known already.
    pub fn index(&self, id: OriginId) -> Option<OriginIdx> {
        // Taken once per origin and link or file, never per write.
        let mut count = self.count.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) =
            self.ids[..usize::from(*count)].iter().position(|known| known.get().is_some_and(|known| known.id == id))
        {
            return Some(OriginIdx(known as u16));
        }
        self.ids
            .get(usize::from(*count))?
            .set(Known { id, salt: salt_of(id) })
            .ok()
            .expect("indices are given in order under the lock");
        *count += 1;
        Some(OriginIdx(*count - 1))
    }

    /// The identity behind an index; the zero identity for an index never given.
    pub fn id(&self, index: OriginIdx) -> OriginId {
        self.ids
            .get(usize::from(index.0))
            .and_then(|known| known.get())
            .map_or_else(OriginId::default, |known| known.id)
    }

    /// What stands for an origin in digests, alike on every node.
    #[inline]
    pub fn salt(&self, index: OriginIdx) -> u64 {
        self.ids.get(usize::from(index.0)).and_then(|known| known.get()).map_or(0, |known| known.salt)
    }

    /// This run of this node.
    pub fn own(&self) -> OriginId {
        self.id(OriginIdx::OWN)
    }

    /// How many origins are known.
    pub fn count(&self) -> usize {
        self.ids.iter().take_while(|known| known.get().is_some()).count()
    }

    /// All known origins with their indices.
    pub fn all(&self) -> impl Iterator<Item = (OriginIdx, OriginId)> + '_ {
        self.ids.iter().map_while(|known| Some(known.get()?.id)).enumerate().map(|(at, id)| (OriginIdx(at as u16), id))
    }
}

fn salt_of(id: OriginId) -> u64 {
    mix::hash(id.incarnation, &id.node.0)
}
