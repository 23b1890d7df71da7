//! What a comparison found, as shards tell the core that asked.

use crate::base::ids::Slot;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::PeerId;
use crate::peer::verify::RunId;
use crate::shard::compare::Level;

/// Differences a shard names; the rest it only counts.
pub(super) const NAMED_MAX: usize = 1000;

/// Asked of every shard.
#[derive(Clone, Debug)]
pub struct VerifyAsk {
    /// Which comparison.
    pub run: RunId,
    /// With whom.
    pub peers: Vec<PeerId>,
    /// How closely.
    pub level: Level,
}

/// What a shard found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By peer, in the order asked.
    pub sides: Vec<SideReport>,
    /// Our slots whose kept digest did not agree with their data.
    pub wrong: u64,
    /// The version vector up to which all sides are proven equal, as a sum that is alike on every node.
    pub versions: u64,
    /// Of every origin the latest reading in it.
    pub newest: Vec<(OriginIdx, Hlc)>,
}

/// What it found of one peer.
#[derive(Clone, Debug, Default)]
pub struct SideReport {
    /// Why the comparison could not be brought to its end.
    pub problem: Option<&'static str>,
    /// Slots in which keys differed.
    pub slots: u64,
    /// Keys that differed though no write was under way.
    pub differing: u64,
    /// Of these, how many are now alike.
    pub repaired: u64,
    /// Keys that were written to between any two looks, so that each look found them different.
    pub changing: u64,
    /// Keys that differed, and the writes that may explain it did not arrive in time: nothing is said of them.
    pub behind: u64,
    /// Slots that differed, and one side had not applied what the other had in time: nothing is said of them.
    pub slots_behind: u64,
    /// The peer's slots whose kept digest did not agree with their data.
    pub wrong: u64,
    /// Which they were.
    pub differences: Vec<Difference>,
}

impl SideReport {
    /// Whether writes that may explain a difference did not arrive in time.
    pub fn is_behind(&self) -> bool {
        self.behind + self.slots_behind > 0
    }
}

/// One key that differed.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Its slot.
    pub slot: Slot,
    /// Its database.
    pub db: u16,
    /// Its name.
    pub key: Vec<u8>,
    /// How it differed.
    pub how: &'static str,
}
