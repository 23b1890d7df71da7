//! The same writes, and different histories: who forgot what when, and who got it whole, is nothing a reader sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tutti::base::ids::Db;
use tutti::base::rng::Rng;
use tutti::base::time::Now;
use tutti::merge::context::Context;
use tutti::merge::key::{KeyState, Type};
use tutti::merge::op::{Observations, Op, SetDeadline};
use tutti::merge::origins::OriginIdx;
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{EPOCH_MS, Stamp};
use tutti::shard::Shard;
use tutti::shard::write::{Value, visible};
use tutti::store::keyspace::{KeyRef, unpack};

use crate::gen_ops::{EPOCH_READINGS, ORIGINS, READINGS, Write, cases, reading, realm, write};
use crate::mesh::{settings, tag};

const KEYS: u64 = 3;

const NOW: Now = Now { wall_ms: EPOCH_MS, mono_us: 0 };

/// A node of one shard that is given writes, forgets, and is merged from.
struct Node {
    realm: Arc<Realm>,
    shard: Shard,
    names: Vec<String>,
}

impl Node {
    fn new() -> Self {
        let realm = Arc::new(realm());
        let names = (0..KEYS).map(|key| format!("k{key}{{{}}}", tag(0))).collect();
        Self { shard: Shard::new(Arc::clone(&realm), &settings()), realm, names }
    }

    fn apply(&mut self, key: u64, write: &Write) {
        let key = KeyRef::new(&self.realm, self.names[key as usize].as_bytes());
        self.shard.keys.apply(Db(0), &key, &write.op, |_| write.stamp);
    }

    /// Everything before the `n`-th reading has been heard of by all.
    fn collect(&mut self, n: u64) {
        let (first, _) = self.shard.keys.partitions();
        for _ in 0..10 {
            self.shard.keys.collect(first, &|stamp| stamp.hlc() < reading(n), 64);
        }
    }

    /// A node that had nothing and takes all of this one, which has applied everything before the `n`-th reading.
    fn merged_whole(&self, n: u64) -> Self {
        let mut other = Self::new();
        let context = Context { ours: &|_| false, theirs: &|stamp| stamp.hlc() < reading(n) };
        for name in &self.names {
            let key = KeyRef::new(&self.realm, name.as_bytes());
            let Some(entry) = self.shard.keys.find(Db(0), &key) else { continue };
            let state = unpack(&self.realm, entry);
            // Both realms number the origins alike, and differ in nothing else but what they are asked.
            let key = KeyRef::new(&other.realm, name.as_bytes());
            let realm = Arc::clone(&other.realm);
            other.shard.keys.update(Db(0), &key, |known| {
                known.join_with_context(&realm, &state, &context);
                true
            });
        }
        other
    }

    /// Per key type, value and deadline, and the digest an operator compares.
    fn shown(&self) -> BTreeMap<String, String> {
        let show = |name: &String| {
            let entry = self.shard.keys.find(Db(0), &self.shard.key(name.as_bytes()))?;
            // Long before every deadline.
            let found = visible(&self.realm, entry, 0)?;
            let text = |value: Value<'_>| format!("{:?}", value.bytes(&mut Vec::new()));
            let value = match found.value {
                Value::Hash(hash) => {
                    let live = hash.iter().filter_map(|field| {
                        Some((field.key().to_vec(), text(tutti::shard::hash::field_value(field)?)))
                    });
                    format!("{:?}", live.collect::<BTreeMap<_, _>>())
                }
                string => text(string),
            };
            let digest = self.shard.digest(Db(0), name.as_bytes(), NOW);
            Some((name.clone(), format!("{:?} {value} until {:?} {digest:?}", found.value.kind(), found.deadline)))
        };
        self.names.iter().filter_map(show).collect()
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn prop_what_was_forgotten_or_came_whole_is_nothing_a_reader_sees(
        dots in prop::collection::vec((0..KEYS, 0..ORIGINS, 0..READINGS), 0..60),
        merged_after in 0..READINGS / EPOCH_READINGS,
        seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let (mut remembers, mut forgets) = (Node::new(), Node::new());
        let mut joined = Node::new();
        // What happened before a round is stable in it: all know of it, and nothing older can still arrive.
        for round in 0..READINGS / EPOCH_READINGS {
            let mut writes: Vec<_> = dots.iter().filter(|(.., n)| n / EPOCH_READINGS == round).collect();
            for node in [&mut remembers, &mut forgets, &mut joined] {
                for at in (1..writes.len()).rev() {
                    writes.swap(at, rng.below(at as u64 + 1) as usize);
                }
                writes.iter().for_each(|&&(key, origin, n)| node.apply(key, &write(key, origin, n)));
            }
            let end = (round + 1) * EPOCH_READINGS;
            forgets.collect(end);
            if round == merged_after {
                joined = forgets.merged_whole(end);
            }
            prop_assert_eq!(remembers.shown(), forgets.shown(), "round {}", round);
            prop_assert_eq!(remembers.shown(), joined.shown(), "round {}, merged whole", round);
        }
    }
}

#[test]
fn a_clash_of_types_looks_alike_to_who_remembers_a_deleted_field_who_forgot_it_and_who_never_heard_of_it() {
    let realm = realm();
    let stamp = |n: u64, origin: u16| Stamp::new(reading(n), OriginIdx(origin));
    let mut remembers = KeyState::default();
    remembers.apply(&realm, stamp(1, 1), &Op::field(b"x", Some(b"1")));
    let add = Op::Add { epoch: reading(2), total: tutti::merge::total::Total::Int(1) };
    remembers.apply(&realm, stamp(2, 0), &add);
    remembers.apply(&realm, stamp(3, 1), &Op::field(b"y", None));
    let mut forgets = remembers.copy(&realm);
    forgets.collect(&realm, &|_| true, &mut |_| (), 10);
    let mut joined = KeyState::default();
    joined.join_with_context(&realm, &forgets, &Context { ours: &|_| false, theirs: &|_| true });
    let shown = [remembers, forgets, joined].map(|state| state.visible_type(&realm));
    assert_eq!(shown, [Some(Type::String); 3]);
}

#[test]
fn a_deadline_that_was_taken_away_does_not_come_back_from_who_had_not_heard_of_it() {
    let realm = realm();
    let stamp = |n: u64| Stamp::new(reading(n), OriginIdx(1));
    let set = Op::Set { value: b"v", deadline: SetDeadline::At(77), observed: Observations::new() };
    let mut old = KeyState::default();
    old.apply(&realm, stamp(1), &set);
    let mut forgets = old.copy(&realm);
    forgets.apply(&realm, stamp(2), &Op::Deadline { at: None });
    forgets.collect(&realm, &|_| true, &mut |_| (), 10);
    let (mut here, mut there) = (old.copy(&realm), forgets.copy(&realm));
    let behind = |stamp: Stamp| stamp.hlc() <= reading(1);
    here.join_with_context(&realm, &forgets, &Context { ours: &behind, theirs: &|_| true });
    there.join_with_context(&realm, &old, &Context { ours: &|_| true, theirs: &behind });
    assert_eq!([here.deadline_at(), there.deadline_at()], [None; 2]);
    assert!(here.is_live() && !here.has_garbage());
}
