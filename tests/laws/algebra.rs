//! Joining is commutative, associative and idempotent; applying a write and joining a state commute.

use std::cmp::Ordering;

use proptest::prelude::*;
use tutti::base::rng::Rng;
use tutti::merge::cell::{Cell, Observed};
use tutti::merge::hlc::Clock;
use tutti::merge::key::{Deadline, KeyState};
use tutti::merge::origins::OriginIdx;
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{EPOCH_MS, Hlc, Stamp};
use tutti::merge::total::Total;
use tutti::merge::version::Versions;

use crate::gen_ops::{ORIGINS, READINGS, Write, cases, reading, realm, slot, writes};
use crate::mesh::canonical;

fn applied(realm: &Realm, writes: &[Write]) -> KeyState {
    let mut state = KeyState::default();
    for write in writes {
        state.apply(realm, write.stamp, &write.op);
    }
    state
}

fn joined(realm: &Realm, a: &KeyState, b: &KeyState) -> KeyState {
    let mut join = a.copy(realm);
    join.join(realm, b);
    join
}

fn text(realm: &Realm, state: &KeyState) -> String {
    canonical(realm, state, &|origin: OriginIdx| usize::from(origin.0))
}

fn shuffled<T: Clone>(items: &[T], seed: u64) -> Vec<T> {
    let mut rng = Rng::new(seed);
    let mut items = items.to_vec();
    for at in (1..items.len()).rev() {
        items.swap(at, rng.below(at as u64 + 1) as usize);
    }
    items
}

fn cells() -> impl Strategy<Value = Cell> {
    let slots = prop::collection::vec((0..ORIGINS, 0..READINGS), 0..5);
    let observed = prop::collection::vec((0..ORIGINS, 0..READINGS, 0..ORIGINS, 0..READINGS), 0..5);
    (slots, observed, prop::option::of((0..ORIGINS, 0..READINGS))).prop_map(|(slots, observed, register)| {
        let realm = realm();
        let mut cell = Cell::default();
        if let Some((origin, n)) = register {
            let value = n.to_string();
            let stamp = Stamp::new(reading(n), OriginIdx(origin));
            cell.join_register(&realm, stamp, (n % 4 != 0).then_some(value.as_bytes()));
        }
        slots.iter().for_each(|&(origin, n)| _ = cell.join_slot(slot(origin, n)));
        for (origin, n, by, at) in observed {
            let by = Stamp::new(reading(at), OriginIdx(by));
            cell.join_observed(&realm, Observed { slot: slot(origin, n), by });
        }
        cell
    })
}

fn cell_text(realm: &Realm, cell: &Cell) -> String {
    text(realm, &KeyState { string: cell.clone(), ..KeyState::default() })
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn prop_cells_join_as_a_semilattice(a in cells(), b in cells(), c in cells()) {
        let realm = realm();
        let join = |a: &Cell, b: &Cell| { let mut join = a.clone(); join.join(&realm, b); join };
        let text = |cell: &Cell| cell_text(&realm, cell);
        prop_assert_eq!(text(&join(&a, &b)), text(&join(&b, &a)));
        prop_assert_eq!(text(&join(&join(&a, &b), &c)), text(&join(&a, &join(&b, &c))));
        prop_assert_eq!(text(&join(&a, &a)), text(&a));
        let mut again = join(&a, &b);
        prop_assert!(!again.join(&realm, &b), "what is known changes nothing");
    }

    #[test]
    fn prop_keys_join_as_a_semilattice(a in writes(1), b in writes(1), c in writes(1)) {
        let realm = realm();
        let (a, b, c) = (applied(&realm, &a), applied(&realm, &b), applied(&realm, &c));
        let text = |state: &KeyState| text(&realm, state);
        prop_assert_eq!(text(&joined(&realm, &a, &b)), text(&joined(&realm, &b, &a)));
        let left = joined(&realm, &joined(&realm, &a, &b), &c);
        prop_assert_eq!(text(&left), text(&joined(&realm, &a, &joined(&realm, &b, &c))));
        prop_assert_eq!(text(&joined(&realm, &a, &a)), text(&a));
        prop_assert_eq!(text(&a.copy(&realm)), text(&a));
    }

    #[test]
    fn prop_writes_in_any_order_and_number_give_one_key(writes in writes(2), seed: u64) {
        let realm = realm();
        let mut again = shuffled(&writes, seed);
        again.extend(shuffled(&writes, seed ^ 1).into_iter().take(5));
        prop_assert_eq!(text(&realm, &applied(&realm, &writes)), text(&realm, &applied(&realm, &again)));
    }

    #[test]
    fn prop_a_write_applied_is_a_state_joined(writes in writes(3), others in writes(3)) {
        let realm = realm();
        let whole = applied(&realm, &writes);
        let mut by_writes = applied(&realm, &others);
        writes.iter().for_each(|write| _ = by_writes.apply(&realm, write.stamp, &write.op));
        prop_assert_eq!(text(&realm, &joined(&realm, &applied(&realm, &others), &whole)), text(&realm, &by_writes));
    }

    #[test]
    fn prop_apply_says_whether_it_changed_anything(writes in writes(4)) {
        let realm = realm();
        let mut state = KeyState::default();
        for write in writes {
            let before = text(&realm, &state);
            let changed = state.apply(&realm, write.stamp, &write.op);
            prop_assert_eq!(changed, text(&realm, &state) != before, "{:?}", write);
        }
    }

    #[test]
    fn prop_a_flush_before_or_after_is_the_same(writes in writes(5), n in 0..READINGS, at in 0usize..24) {
        let realm = realm();
        let floor = Stamp::new(reading(n), OriginIdx(0));
        let mut after = applied(&realm, &writes);
        after.flush(&realm, floor);
        let mut between = KeyState::default();
        for (index, write) in writes.iter().enumerate() {
            if index == at {
                between.flush(&realm, floor);
            }
            // As the keyspace does it.
            if index >= at && !realm.origins.newer(write.stamp, floor) {
                between.apply_observed(&realm, write.stamp, &write.op);
            } else {
                between.apply(&realm, write.stamp, &write.op);
            }
        }
        between.flush(&realm, floor);
        prop_assert_eq!(text(&realm, &after), text(&realm, &between));
    }

    #[test]
    fn prop_collecting_changes_nothing_a_reader_sees(writes in writes(6), n in 0..READINGS) {
        let realm = realm();
        let mut state = applied(&realm, &writes);
        let seen = |state: &KeyState| {
            let hash = state.hash.iter().flat_map(|hash| hash.iter());
            let mut fields: Vec<_> = hash
                .map(|field| (field.key().to_vec(), format!("{:?}", tutti::merge::hash::unpack(field).visible())))
                .filter(|(_, value)| value != "Absent")
                .collect();
            fields.sort();
            format!("{:?} {:?} {fields:?}", state.visible_type(&realm), state.string.visible())
        };
        let before = seen(&state);
        state.collect(&realm, &|stamp| stamp.hlc() <= reading(n), &mut |_| (), usize::MAX);
        prop_assert_eq!(seen(&state), before.clone());
        state.collect(&realm, &|_| true, &mut |_| (), usize::MAX);
        prop_assert_eq!(seen(&state), before);
        prop_assert!(!state.has_garbage(), "all is stable: {}", text(&realm, &state));
    }

    #[test]
    fn prop_the_order_of_stamps_is_total(a in (0..ORIGINS, 0u64..4), b in (0..ORIGINS, 0u64..4), c in (0..ORIGINS, 0u64..4)) {
        let realm = realm();
        let [a, b, c] = [a, b, c].map(|(origin, n)| Stamp::new(reading(n), OriginIdx(origin)));
        let order = |a, b| realm.origins.order(a, b);
        prop_assert_eq!(order(a, b), order(b, a).reverse());
        prop_assert_eq!(order(a, b) == Ordering::Equal, a == b);
        if order(a, b) != Ordering::Greater && order(b, c) != Ordering::Greater {
            prop_assert_ne!(order(a, c), Ordering::Greater);
        }
        prop_assert_eq!(realm.origins.later(a, b), realm.origins.later(b, a));
    }

    #[test]
    fn prop_stamps_pack(hlc in 0..=Hlc::MAX.0, origin in 0u16..4096) {
        let stamp = Stamp::new(Hlc(hlc), OriginIdx(origin));
        prop_assert_eq!((stamp.hlc(), stamp.origin()), (Hlc(hlc), OriginIdx(origin)));
        prop_assert_eq!(Stamp::from_raw(stamp.raw()), stamp);
    }

    #[test]
    fn prop_clocks_mint_ever_higher_and_drift_no_further_than_allowed(
        steps in prop::collection::vec((0u64..5000, prop::option::of(0u64..20_000_000), 0u8..3), 1..60),
    ) {
        const DRIFT_MS: u64 = 1000;
        let mut clock = Clock::default();
        let (mut last, mut furthest_ms) = (Hlc::ZERO, EPOCH_MS);
        for (wall, other, kind) in steps {
            let wall_ms = EPOCH_MS + wall;
            furthest_ms = furthest_ms.max(wall_ms + DRIFT_MS);
            match kind {
                0 => _ = clock.observe(Hlc(other.unwrap_or(0)), wall_ms, DRIFT_MS),
                _ => {
                    let before = clock.last();
                    // As a stream does it: above its own last stamp.
                    let floor = Hlc(other.unwrap_or(0)).max(last);
                    let minted = clock.mint(wall_ms, floor, DRIFT_MS);
                    prop_assert!(minted > floor && minted > before && minted >= Hlc::at_ms(wall_ms));
                    last = minted;
                }
            }
            // A minted stamp takes the place of the last reading even at the limit.
            prop_assert!(clock.last().wall_ms() <= furthest_ms + 1, "{:?}", clock);
        }
    }

    #[test]
    fn prop_totals_add_and_print_exactly(a in -10i64.pow(15)..10i64.pow(15), b in -10i64.pow(15)..10i64.pow(15), places in 0usize..6) {
        let decimal = |n: i64| {
            let digits = format!("{:0width$}", n.unsigned_abs(), width = places + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places);
            format!("{}{whole}.{fraction}", if n < 0 { "-" } else { "" })
        };
        let parse = |text: &str| Total::parse(text.as_bytes()).expect("a decimal");
        let sum = parse(&decimal(a)).checked_add(parse(&decimal(b))).expect("small");
        prop_assert_eq!(sum, parse(&decimal(b)).checked_add(parse(&decimal(a))).expect("small"));
        prop_assert_eq!(sum, parse(&decimal(a + b)));
        let mut printed = Vec::new();
        Total::print(sum.fixed(), &mut printed);
        prop_assert_eq!(Total::parse(&printed), Some(sum));
        prop_assert_eq!(sum.simplified(), sum);
    }

    #[test]
    fn prop_versions_remember_the_highest(raises in prop::collection::vec((0u16..5, 10usize..14, 0u64..100), 0..40)) {
        let mut versions = Versions::new(10, 14);
        let mut known = std::collections::BTreeMap::new();
        for (origin, partition, hlc) in raises {
            let before = known.get(&(origin, partition)).copied().unwrap_or(0);
            prop_assert_eq!(versions.raise(OriginIdx(origin), partition, Hlc(hlc)), hlc > before);
            if hlc > before {
                known.insert((origin, partition), hlc);
            }
        }
        let all: std::collections::BTreeMap<_, _> =
            versions.all().map(|(origin, partition, hlc)| ((origin.0, partition), hlc.0)).collect();
        prop_assert_eq!(all, known);
    }
}

#[test]
fn prop_deadlines_join_as_a_semilattice() {
    let realm = realm();
    let registers: Vec<Deadline> = (0..4)
        .flat_map(|n| {
            [None, Some(n * 7)].map(|at| Deadline { stamp: Stamp::new(reading(n), OriginIdx(n as u16 % 3)), at })
        })
        .collect();
    for a in &registers {
        for b in &registers {
            for c in &registers {
                let join = |order: [&Deadline; 4]| {
                    let mut state = KeyState::default();
                    order.into_iter().for_each(|register| _ = state.join_deadline(&realm, *register));
                    state.deadline
                };
                assert_eq!(join([a, b, c, a]), join([c, b, a, b]));
            }
        }
    }
}

#[test]
fn sums_beyond_128_bits_do_not_depend_on_the_order_of_their_parts() {
    let huge = Total::Fixed(10i128.pow(36).into());
    let slots: Vec<_> = (0..400u16)
        .map(|origin| {
            let total = if origin % 2 == 0 { huge } else { Total::Fixed((-huge.fixed()).into()) };
            tutti::merge::cell::SlotCount { origin: OriginIdx(origin), last: Hlc(5), epoch: Hlc(1), total }
        })
        .collect();
    let sum = |order: Vec<tutti::merge::cell::SlotCount>| {
        let mut cell = Cell::default();
        order.into_iter().for_each(|slot| _ = cell.join_slot(slot));
        format!("{:?}", cell.visible())
    };
    let (even, odd): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| slot.origin.0 % 2 == 0);
    assert_eq!(sum(slots.clone()), sum([even, odd].concat()));
}
