//! Stamps: one 64-bit number that is version and dot of a write.
//!
//! 40 bits milliseconds since 2025-01-01 (34 years), 12 bits counter that carries into the milliseconds, 12 bits local
//! index of the origin. The index means something inside this process only; files and links carry the origin's
//! identity (`origins`). The design page splits 14/10: every start of a node is a new origin here (see `origins`),
//! so 4096 origins serve longer, and 4 million stamps per second before the counter borrows from the next millisecond
//! are still more than a core can mint.

use std::cmp::Ordering;

use super::origins::{OriginIdx, Origins};

/// 2025-01-01T00:00:00Z in Unix milliseconds: where stamps start.
pub const EPOCH_MS: u64 = 1_735_689_600_000;

const COUNTER_BITS: u32 = 12;
const ORIGIN_BITS: u32 = 12;

/// A hybrid logical clock reading without its origin: milliseconds since [`EPOCH_MS`] and a counter, 52 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Before every write.
    pub const ZERO: Self = Self(0);

    /// The last there can be (the year 2059): what peers and files give beyond it is malformed.
    pub const MAX: Self = Self((1 << (64 - ORIGIN_BITS)) - 1);

    /// The first reading of a millisecond of Unix time; times before 2025 count as 2025.
    #[inline]
    pub fn at_ms(wall_ms: u64) -> Self {
        Self(wall_ms.saturating_sub(EPOCH_MS) << COUNTER_BITS)
    }

    /// The millisecond of Unix time this reading belongs to.
    #[inline]
    pub fn wall_ms(self) -> u64 {
        (self.0 >> COUNTER_BITS) + EPOCH_MS
    }

    /// The smallest reading above this one.
    #[inline]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// When and by whom a write was first accepted. Compared with [`Origins::newer`], because equal readings of two
/// origins are ordered by identity and not by the local index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// Before every write.
    pub const ZERO: Self = Self(0);

    /// Joins a reading and the origin that made it.
    #[inline]
    pub fn new(hlc: Hlc, origin: OriginIdx) -> Self {
        Self((hlc.0 << ORIGIN_BITS) | u64::from(origin.0))
    }

    /// The stamp as one number, as entries keep it.
    #[inline]
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The inverse of [`Stamp::raw`].
    #[inline]
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The reading.
    #[inline]
    pub fn hlc(self) -> Hlc {
        Hlc(self.0 >> ORIGIN_BITS)
    }

    /// The origin's local index.
    #[inline]
    pub fn origin(self) -> OriginIdx {
        OriginIdx((self.0 & ((1 << ORIGIN_BITS) - 1)) as u16)
    }

    /// Whether this is before every write.
    #[inline]
    pub fn is_zero(self) -> bool {
        self.0 >> ORIGIN_BITS == 0
    }
}

impl Origins {
    /// The total order of writes: reading first, then the origin's identity.
    #[inline]
    pub fn order(&self, a: Stamp, b: Stamp) -> Ordering {
        if a.hlc() != b.hlc() || a.origin() == b.origin() {
            return a.hlc().cmp(&b.hlc());
        }
        self.id(a.origin()).cmp(&self.id(b.origin()))
    }

    /// Whether `a` beats `b`.
    #[inline]
    pub fn newer(&self, a: Stamp, b: Stamp) -> bool {
        self.order(a, b) == Ordering::Greater
    }

    /// The later of two stamps.
    #[inline]
    pub fn later(&self, a: Stamp, b: Stamp) -> Stamp {
        if self.newer(b, a) { b } else { a }
    }
}
