//! A keyspace against the plain truth: any order of writes gives one state, counts equal a walk over everything, and
//! what can be forgotten is.

use std::sync::Arc;

use proptest::prelude::*;
use smallvec::smallvec;
use tutti::base::ids::{Db, ShardId, Slot};
use tutti::base::rng::Rng;
use tutti::merge::op::{FieldWrite, Observations, Op};
use tutti::merge::origins::OriginIdx;
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{EPOCH_MS, Stamp};
use tutti::store::keyspace::weigh::Over;
use tutti::store::keyspace::{KeyRef, Keyspace, deadline_of, unpack};

use crate::gen_ops::{ORIGINS, READINGS, cases, reading, realm, write};
use crate::mesh::{canonical, settings, tag};

const KEYS: u64 = 4;

const FIELDS: [&[u8]; 4] = [b"x", b"y", b"a longer field", b"new"];

#[derive(Clone, Debug)]
enum Step {
    Write { key: u64, origin: u16, n: u64 },
    Flush { n: u64 },
    Expire { time: u64 },
    Collect { n: u64 },
    Join { key: u64, dots: Vec<(u16, u64)> },
}

fn writes_and_flushes() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..KEYS, 0..ORIGINS, 0..READINGS).prop_map(|(key, origin, n)| Step::Write { key, origin, n });
    let flush = (0..READINGS).prop_map(|n| Step::Flush { n });
    prop::collection::vec(prop_oneof![12 => write, 1 => flush], 0..60)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..KEYS, 0..ORIGINS, 0..READINGS).prop_map(|(key, origin, n)| Step::Write { key, origin, n });
    let flush = (0..READINGS).prop_map(|n| Step::Flush { n });
    let expire = (0..12 * READINGS).prop_map(|time| Step::Expire { time });
    let collect = (0..READINGS).prop_map(|n| Step::Collect { n });
    let dots = prop::collection::vec((0..ORIGINS, 0..READINGS), 0..8);
    let join = (0..KEYS, dots).prop_map(|(key, dots)| Step::Join { key, dots });
    prop::collection::vec(prop_oneof![12 => write, 1 => flush, 3 => expire, 3 => collect, 2 => join], 0..80)
}

struct Books {
    realm: Arc<Realm>,
    keys: Keyspace,
    names: Vec<String>,
    newest: Stamp,
    time_ms: u64,
}

impl Books {
    fn new() -> Self {
        let realm = Arc::new(realm());
        let (first, end) = settings().map.range(ShardId(0));
        let keys = Keyspace::new(Arc::clone(&realm), first, end, 1);
        let names = (0..KEYS).map(|key| format!("k{key}{{{}}}", tag(0))).collect();
        Self { realm, keys, names, newest: Stamp::ZERO, time_ms: EPOCH_MS }
    }

    fn take(&mut self, step: &Step) {
        let realm = Arc::clone(&self.realm);
        let (first, _) = self.keys.partitions();
        match step {
            &Step::Write { key, origin, n } => {
                let write = write(key, origin, n);
                let key = KeyRef::new(&realm, self.names[key as usize].as_bytes());
                self.keys.apply(Db(0), &key, &write.op, |_| write.stamp);
                self.newest = realm.origins.later(self.newest, write.stamp);
            }
            &Step::Flush { n } => {
                let stamp = Stamp::new(reading(n), OriginIdx(ORIGINS - 1));
                self.keys.flush(Db(0), first, stamp, self.newest);
                self.newest = realm.origins.later(self.newest, stamp);
            }
            &Step::Expire { time } => {
                self.time_ms = self.time_ms.max(EPOCH_MS + time);
                let time_ms = self.time_ms;
                while self.keys.expire(time_ms, time_ms, u64::MAX, &|_, _| true, 64).1 {}
            }
            &Step::Collect { n } => {
                let is_stable = |stamp: Stamp| stamp.hlc() <= reading(n);
                (0..10).for_each(|_| _ = self.keys.collect(first, &is_stable, 64));
            }
            Step::Join { key, dots } => {
                let mut state = tutti::merge::key::KeyState::default();
                for &(origin, n) in dots {
                    let write = write(*key, origin, n);
                    state.apply(&realm, write.stamp, &write.op);
                    self.newest = realm.origins.later(self.newest, write.stamp);
                }
                let key = KeyRef::new(&realm, self.names[*key as usize].as_bytes());
                self.keys.join(Db(0), &key, state);
            }
        }
    }

    fn text(&self) -> Vec<Option<String>> {
        let state = |name: &String| {
            let entry = self.keys.find(Db(0), &KeyRef::new(&self.realm, name.as_bytes()))?;
            Some(canonical(&self.realm, &unpack(&self.realm, entry), &|origin| usize::from(origin.0)))
        };
        self.names.iter().map(state).collect()
    }

    // Deadlines at or before `time_ms` count as passed.
    fn check(&self) {
        let (mut live, mut deadlines, mut tombstones) = (0, 0, 0);
        let (first, _) = self.keys.partitions();
        for slot in first as u16 * 64..(first as u16 + 2) * 64 {
            let mut digest = 0u64;
            self.keys.each_in_slot(Db(0), Slot(slot), |entry| {
                digest = digest.wrapping_add(self.keys.weigh(Db(0), Slot(slot), entry, Over::Passed).writes);
                let is_live = unpack(&self.realm, entry).visible_type(&self.realm).is_some();
                let deadline = deadline_of(entry).and_then(|deadline| deadline.at);
                // What is due but not yet seen to is still counted.
                let is_past = deadline.is_some_and(|at| at <= self.time_ms);
                live += usize::from(is_live && !is_past);
                deadlines += usize::from(is_live && !is_past && deadline.is_some());
                tombstones += usize::from(!is_live);
            });
            assert_eq!(self.keys.digest(Db(0), Slot(slot)), digest, "digest of {slot}");
        }
        assert_eq!(self.keys.len(Db(0)), live, "live keys");
        assert_eq!(self.keys.deadlines(Db(0)), deadlines, "deadlines");
        assert_eq!(self.keys.tombstones(), tombstones, "tombstones");
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn prop_records_in_any_order_and_number_give_one_keyspace(steps in writes_and_flushes(), seed: u64) {
        let (mut one, mut other) = (Books::new(), Books::new());
        steps.iter().for_each(|step| one.take(step));
        let mut rng = Rng::new(seed);
        let mut order: Vec<usize> = (0..steps.len()).chain((0..steps.len()).filter(|at| at % 3 == 0)).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, rng.below(at as u64 + 1) as usize);
        }
        order.iter().for_each(|&at| other.take(&steps[at]));
        prop_assert_eq!(one.text(), other.text());
        one.check();
        other.check();
    }

    #[test]
    fn prop_counts_equal_a_walk_after_every_step(steps in steps()) {
        let mut books = Books::new();
        for step in steps {
            books.take(&step);
            let time = books.time_ms - EPOCH_MS;
            // Deadlines written in the past are seen to first.
            books.take(&Step::Expire { time });
            books.check();
        }
    }

    #[test]
    fn prop_all_that_is_stable_is_forgotten_and_all_that_is_due_goes(steps in steps()) {
        let mut books = Books::new();
        steps.iter().for_each(|step| books.take(step));
        books.time_ms = EPOCH_MS + 1_000_000;
        for _ in 0..4 {
            books.take(&Step::Expire { time: 1_000_000 });
            books.take(&Step::Collect { n: READINGS });
        }
        books.check();
        prop_assert_eq!(books.keys.tombstones(), 0);
        prop_assert_eq!(books.keys.garbage_len(), 0);
        prop_assert_eq!(books.keys.deadlines(Db(0)), 0);
        prop_assert!(!books.keys.has_past());
        prop_assert_eq!(books.keys.due_len(), 0);
    }

    #[test]
    fn prop_the_short_way_to_write_a_field_leaves_what_the_long_one_leaves(
        steps in steps(),
        writes in prop::collection::vec((0..KEYS, 0..FIELDS.len()), 1..8),
    ) {
        let (mut short, mut long) = (Books::new(), Books::new());
        for step in &steps {
            short.take(step);
            long.take(step);
        }
        for (key, field) in writes {
            let name = short.names[key as usize].clone();
            let key = KeyRef::new(&short.realm, name.as_bytes());
            let stamp = Stamp::new(long.keys.floor(Db(0), &key).hlc().next(), OriginIdx::OWN);
            let before = short.text();
            let (field, mut floor) = (FIELDS[field], None);
            let done = short.keys.set_field_over(Db(0), &key, (field, b"v"), |at| {
                floor = Some(at);
                stamp
            });
            let op = Op::Fields {
                fields: smallvec![FieldWrite { name: field, value: Some(b"v"), observed: Observations::new() }],
            };
            match done {
                Some((written, is_new)) => {
                    prop_assert_eq!((written, floor), (stamp, Some(long.keys.floor(Db(0), &key))));
                    let known = long.keys.find(Db(0), &key).map(|entry| unpack(&long.realm, entry));
                    let hash = known.as_ref().and_then(|state| state.hash.as_ref()).expect("only a hash is written so");
                    prop_assert_eq!(is_new, hash.find(&long.realm, field).is_none());
                }
                None => {
                    prop_assert_eq!((floor, before), (None, short.text()));
                    short.keys.apply(Db(0), &key, &op, |_| stamp);
                }
            }
            long.keys.apply(Db(0), &key, &op, |_| stamp);
            prop_assert_eq!(short.text(), long.text());
            // Deadlines written in the past are seen to first.
            let time = short.time_ms - EPOCH_MS;
            short.take(&Step::Expire { time });
            long.take(&Step::Expire { time });
            short.check();
            prop_assert_eq!(short.keys.garbage_len(), long.keys.garbage_len());
        }
    }

    #[test]
    fn prop_a_local_write_beats_all_that_is_there(steps in steps(), key in 0..KEYS) {
        let mut books = Books::new();
        steps.iter().for_each(|step| books.take(step));
        let name = books.names[key as usize].clone();
        let key = KeyRef::new(&books.realm, name.as_bytes());
        let floor = books.keys.floor(Db(0), &key);
        let stamp = Stamp::new(floor.hlc().next(), OriginIdx::OWN);
        books.keys.apply(Db(0), &key, &tutti::merge::op::Op::set(b"mine"), |_| stamp);
        let entry = books.keys.find(Db(0), &key).expect("just written");
        let state = unpack(&books.realm, entry);
        prop_assert_eq!(state.string.stamp, stamp);
        prop_assert_eq!(state.deadline_at(), None);
    }
}

#[test]
fn a_field_of_a_hash_that_is_nothing_else_takes_the_short_way_unless_it_counts_or_was_deleted() {
    let mut books = Books::new();
    let name = books.names[0].clone();
    let key = KeyRef::new(&books.realm, name.as_bytes());
    let stamp = |n: u64| Stamp::new(reading(n), OriginIdx::OWN);
    let mut write = |n: u64, name: &[u8]| books.keys.set_field_over(Db(0), &key, (name, b"v"), |_| stamp(n));
    assert_eq!(write(0, b"x"), None, "no hash yet");
    let fields = |value: Option<&'static [u8]>| Op::Fields {
        fields: smallvec![FieldWrite { name: b"x", value, observed: Observations::new() }],
    };
    books.keys.apply(Db(0), &key, &fields(Some(b"v")), |_| stamp(1));
    let mut write = |n: u64, name: &[u8]| books.keys.set_field_over(Db(0), &key, (name, b"v"), |_| stamp(n));
    assert_eq!(write(2, b"x"), Some((stamp(2), false)));
    // Beyond what a hash keeps in a list.
    for n in 3..40 {
        assert_eq!(write(n, format!("f{n}").as_bytes()), Some((stamp(n), true)));
    }
    assert_eq!(write(40, b"f7"), Some((stamp(40), false)));
    books.keys.apply(Db(0), &key, &fields(None), |_| stamp(41));
    let mut write = |n: u64, name: &[u8]| books.keys.set_field_over(Db(0), &key, (name, b"v"), |_| stamp(n));
    assert_eq!(write(42, b"x"), None, "a memory of a delete");
    let add = Op::FieldAdd { name: b"f8", epoch: reading(43), total: tutti::merge::total::Total::Int(1) };
    books.keys.apply(Db(0), &key, &add, |_| stamp(43));
    let mut write = |n: u64, name: &[u8]| books.keys.set_field_over(Db(0), &key, (name, b"v"), |_| stamp(n));
    assert_eq!(write(44, b"f8"), None, "a count");
    assert_eq!(write(44, b"f9"), Some((stamp(44), false)));
    books.check();
}

#[test]
fn every_delete_is_forgotten_however_many_keys_share_a_slot() {
    use tutti::merge::op::Op;
    use tutti::merge::stamp::Stamp;
    let realm = std::sync::Arc::new(crate::gen_ops::realm());
    let mut keys = tutti::store::keyspace::Keyspace::new(std::sync::Arc::clone(&realm), 0, 256, 1);
    let names: Vec<String> = (0..600).map(|n| format!("{n}{{t}}")).collect();
    let stamp = |n: usize| Stamp::new(crate::gen_ops::reading(n as u64), tutti::merge::origins::OriginIdx::OWN);
    for (n, name) in names.iter().enumerate() {
        let key = tutti::store::keyspace::KeyRef::new(&realm, name.as_bytes());
        keys.apply(Db(0), &key, &Op::set(b"v"), |_| stamp(n));
        keys.apply(Db(0), &key, &Op::clear(), |_| stamp(1000 + n * 7 % 600));
    }
    let partition = usize::from(tutti::base::slot::slot_of(b"{t}").partition().0);
    // What becomes stable does so bit by bit, in another order than it was queued.
    for until in (0..600).step_by(20).chain([600]) {
        (0..40).for_each(|_| _ = keys.collect(partition, &|at| at.hlc() <= stamp(1000 + until).hlc(), 64));
    }
    (0..40).for_each(|_| _ = keys.collect(partition, &|_| true, 64));
    assert_eq!((keys.tombstones(), keys.garbage_len()), (0, 0));
}
