//! Writes made up from numbers. What a write is follows from its key, origin and reading alone, as in life: two copies
//! of one write are the same write, and an origin's slot holds the same wherever it is mentioned.

use proptest::prelude::*;
use smallvec::SmallVec;
use tutti::base::rng::Rng;
use tutti::merge::cell::SlotCount;
use tutti::merge::op::{FieldWrite, Observations, Op, SetDeadline};
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{EPOCH_MS, Hlc, Stamp};
use tutti::merge::total::Total;

/// Readings of made-up writes are below this.
pub const READINGS: u64 = 48;

/// An origin opens a new epoch of its slot every so many readings.
pub const EPOCH_READINGS: u64 = 8;

pub const ORIGINS: u16 = 3;

const VALUES: [&[u8]; 6] = [b"", b"7", b"text", b"-12.5", b"1000000", b"a somewhat longer value that is no number"];
const NAMES: [&[u8]; 3] = [b"x", b"y", b"a longer field"];

/// How often a law is tried; a failing case is printed in full and needs no file to be tried again.
pub fn cases(usual: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(usual) }
}

/// A write of one key.
#[derive(Clone, Debug)]
pub struct Write {
    pub stamp: Stamp,
    pub op: Op<'static>,
}

pub fn realm() -> Realm {
    let identity = |n: u8| OriginId { node: tutti::base::ids::Uuid([9 - n; 16]), incarnation: 1 };
    let realm = Realm::new(identity(0), 3);
    for other in 1..ORIGINS {
        realm.origins.index(identity(other as u8)).expect("room");
    }
    realm
}

/// Readings far apart, so that deadlines (whole milliseconds) fall between them.
pub fn reading(n: u64) -> Hlc {
    Hlc::at_ms(EPOCH_MS + 10 * (n + 1))
}

pub fn slot(origin: u16, n: u64) -> SlotCount {
    let from = n - n % EPOCH_READINGS;
    let total = (from..=n).map(|at| (at % 5) as i64 + 1).sum();
    SlotCount { origin: OriginIdx(origin), last: reading(n), epoch: reading(from), total: Total::Int(total) }
}

/// The write that origin `origin` made at reading `n` to key `key`.
pub fn write(key: u64, origin: u16, n: u64) -> Write {
    let mut rng = Rng::new((key << 32) | (u64::from(origin) << 16) | n);
    let stamp = Stamp::new(reading(n), OriginIdx(origin));
    let observed = |rng: &mut Rng| -> Observations {
        let origins = 0..if rng.chance(2) { 0 } else { ORIGINS };
        origins.filter(|_| n > 0).map(|origin| slot(origin, rng.below(n))).collect()
    };
    let value = VALUES[rng.below(6) as usize];
    let name = NAMES[rng.below(3) as usize];
    let at = EPOCH_MS + rng.below(12 * READINGS);
    let op = match rng.below(9) {
        0 => Op::Set { value, deadline: SetDeadline::Clear, observed: observed(&mut rng) },
        1 => Op::Set { value, deadline: SetDeadline::Keep, observed: observed(&mut rng) },
        2 => Op::Set { value, deadline: SetDeadline::At(at), observed: observed(&mut rng) },
        3 => {
            let fields = if rng.chance(2) { vec![(name.to_vec(), observed(&mut rng))] } else { Vec::new() };
            Op::Clear { observed: observed(&mut rng), fields }
        }
        4 => Op::Deadline { at: (!rng.chance(3)).then_some(at) },
        5 | 6 => {
            let mut fields = SmallVec::new();
            let count = 1 + rng.below(3) as usize;
            for &name in &NAMES[..count] {
                let value = (!rng.chance(3)).then(|| VALUES[rng.below(6) as usize]);
                fields.push(FieldWrite { name, value, observed: observed(&mut rng) });
            }
            Op::Fields { fields }
        }
        7 => {
            let SlotCount { epoch, total, .. } = slot(origin, n);
            Op::Add { epoch, total }
        }
        _ => {
            let SlotCount { epoch, total, .. } = slot(origin, n);
            Op::FieldAdd { name, epoch, total }
        }
    };
    Write { stamp, op }
}

/// Some writes of one key.
pub fn writes(key: u64) -> impl Strategy<Value = Vec<Write>> {
    prop::collection::vec((0..ORIGINS, 0..READINGS), 0..24)
        .prop_map(move |dots| dots.into_iter().map(|(origin, n)| write(key, origin, n)).collect())
}
