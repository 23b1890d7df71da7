//! Digests: equal for equal data, whatever the order, packing and forgetting, and different for different data.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use tutti::base::ids::{Db, ShardId, Slot};
use tutti::base::slot::ShardMap;
use tutti::merge::digest::{key_id, of_state};
use tutti::merge::key::KeyState;
use tutti::merge::realm::Realm;
use tutti::merge::stamp::Stamp;
use tutti::store::keyspace::weigh::Over;
use tutti::store::keyspace::{KeyRef, Keyspace};

use crate::gen_ops::{Write, cases, realm, writes};
use crate::mesh::{canonical, settings, tag};

fn applied(realm: &Realm, writes: &[Write]) -> KeyState {
    let mut state = KeyState::default();
    writes.iter().for_each(|write| _ = state.apply(realm, write.stamp, &write.op));
    state
}

/// What a walk over the data of a slot counts.
fn walked(keys: &Keyspace, db: Db, slot: Slot, over: Over) -> u64 {
    let mut sum = 0u64;
    keys.each_in_slot(db, slot, |entry| sum = sum.wrapping_add(keys.weigh(db, slot, entry, over).writes));
    sum
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn prop_what_can_be_forgotten_counts_for_nothing(writes in writes(5)) {
        let realm = realm();
        let mut state = applied(&realm, &writes);
        let before = of_state(&realm, 1, &state, false);
        (0..4).for_each(|_| state.collect(&realm, &|_| true, &mut |_| {}, 100));
        prop_assert_eq!(of_state(&realm, 1, &state, false), before);
    }

    #[test]
    fn prop_a_deadline_that_is_over_counts_as_one_that_has_ended(writes in writes(6)) {
        let realm = realm();
        let mut state = applied(&realm, &writes);
        let before = of_state(&realm, 1, &state, true);
        state.finish(&realm);
        prop_assert_eq!(of_state(&realm, 1, &state, false), before);
        prop_assert_eq!(of_state(&realm, 1, &state, true), before);
    }

    #[test]
    fn prop_a_key_counts_alike_however_it_came(writes in writes(7), others in writes(7)) {
        let realm = Arc::new(realm());
        let (first, end) = settings().map.range(ShardId(0));
        let mut by_writes = Keyspace::new(Arc::clone(&realm), first, end, 2);
        let mut by_states = Keyspace::new(Arc::clone(&realm), 0, 256, 2);
        let name = format!("k{{{}}}", tag(0));
        let key = KeyRef::new(&realm, name.as_bytes());
        for write in writes.iter().chain(&others) {
            by_writes.apply(Db(1), &key, &write.op, |_| write.stamp);
        }
        by_states.join(Db(1), &key, applied(&realm, &others));
        by_states.join(Db(1), &key, applied(&realm, &writes));
        let (one, other) = (by_writes.digest(Db(1), key.slot), by_states.digest(Db(1), key.slot));
        prop_assert_eq!(one, other);
        prop_assert_eq!(one, walked(&by_writes, Db(1), key.slot, Over::Passed));
        // Neither how many partitions a shard owns nor a deadline that nobody has looked at makes a difference.
        let at = Over::At(u64::MAX - 1);
        prop_assert_eq!(walked(&by_writes, Db(1), key.slot, at), walked(&by_states, Db(1), key.slot, at));
    }

    #[test]
    fn prop_keys_that_differ_for_a_reader_count_differently(a in writes(8), b in writes(8)) {
        let realm = realm();
        let (a, b) = (applied(&realm, &a), applied(&realm, &b));
        let seen = |state: &KeyState| {
            let mut copy = state.copy(&realm);
            (0..4).for_each(|_| copy.collect(&realm, &|_: Stamp| true, &mut |_| {}, 100));
            canonical(&realm, &copy, &|origin| usize::from(origin.0))
        };
        if of_state(&realm, 1, &a, false) == of_state(&realm, 1, &b, false) {
            // What is left once all is forgotten may still differ by clear stamps that stand for a value's own.
            prop_assert_eq!(a.visible_type(&realm), b.visible_type(&realm), "{}\n{}", seen(&a), seen(&b));
            prop_assert_eq!(a.deadline_at().is_some(), b.deadline_at().is_some());
        }
    }
}

#[test]
fn names_and_databases_count() {
    let names = [&b""[..], b"a", b"b", b"ab", b"ba", b"a longer name of a key", b"a longer name of a kez"];
    let ids: BTreeSet<u64> =
        names.iter().flat_map(|name| [key_id(Db(0), name), key_id(Db(1), name), key_id(Db(256), name)]).collect();
    assert_eq!(ids.len(), 3 * names.len());
}

#[test]
fn digests_can_be_switched_off_and_on() {
    let realm = Arc::new(realm());
    let (first, end) = ShardMap::new(1).range(ShardId(0));
    let mut keys = Keyspace::new(Arc::clone(&realm), first, end, 1);
    let key = KeyRef::new(&realm, b"k");
    let set = |keys: &mut Keyspace, n: u64| {
        let stamp = Stamp::new(crate::gen_ops::reading(n), tutti::merge::origins::OriginIdx::OWN);
        keys.apply(Db(0), &key, &tutti::merge::op::Op::set(b"v"), |_| stamp);
    };
    set(&mut keys, 1);
    let one = keys.digest(Db(0), key.slot);
    keys.switch_digests(false);
    set(&mut keys, 2);
    assert_eq!(keys.digest(Db(0), key.slot), 0);
    keys.switch_digests(true);
    let two = keys.digest(Db(0), key.slot);
    assert!(two != one && two != 0 && two == walked(&keys, Db(0), key.slot, Over::Passed));
}
