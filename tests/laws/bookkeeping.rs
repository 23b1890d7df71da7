//! A keyspace against the plain truth: any order of writes gives one state, counts equal a walk over everything, and
//! what can be forgotten is.

use std::sync::Arc;

use proptest::prelude::*;
use tutti::base::ids::{Db, ShardId, Slot};
use tutti::base::rng::Rng;
use tutti::merge::origins::OriginIdx;
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{EPOCH_MS, Stamp};
use tutti::store::keyspace::weigh::Over;
use tutti::store::keyspace::{KeyRef, Keyspace, deadline_of, unpack};

use crate::gen_ops::{ORIGINS, READINGS, cases, reading, realm, write};
use crate::mesh::{canonical, settings, tag};

const KEYS: u64 = 4;

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
