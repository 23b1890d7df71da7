//! Rules with a name: what the design's model taught, what its decisions promise, and every bug the laws have found.

use std::sync::Arc;

use tutti::base::ids::{Db, Partition, ShardId, Uuid};
use tutti::merge::cell::{Cell, Observed};
use tutti::merge::hlc::Clock;
use tutti::merge::key::{KeyState, Type};
use tutti::merge::op::{Observations, Op, SetDeadline};
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::merge::stamp::{Hlc, Stamp};
use tutti::merge::total::Total;
use tutti::merge::version::Versions;
use tutti::shard::record::EVERY_DB;
use tutti::shard::stability::Stability;
use tutti::store::keyspace::{KeyRef, Keyspace};

use crate::gen_ops::{reading, realm, slot};
use crate::mesh::{Broken, DB, Item, Mesh, settings, tag};

pub fn key(name: &str) -> String {
    format!("{name}{{{}}}", tag(0))
}

pub fn partition() -> usize {
    settings().map.range(ShardId(0)).0
}

pub fn mesh(nodes: usize) -> Mesh {
    Mesh::new(nodes, &vec![0; nodes], Broken::default())
}

impl Mesh {
    pub fn set(&mut self, at: usize, key: &str, value: &str) {
        self.write(at, |shard, now| {
            shard.set(DB, &shard.key(key.as_bytes()), value.as_bytes(), SetDeadline::Clear, now)
        });
    }

    pub fn incr(&mut self, at: usize, key: &str, by: i64) {
        self.write(at, |shard, now| _ = shard.incr(DB, &shard.key(key.as_bytes()), by, now).expect("an integer"));
    }

    pub fn del(&mut self, at: usize, key: &str) {
        self.write(at, |shard, now| assert!(shard.del(DB, &shard.key(key.as_bytes()), now)));
    }

    pub fn hset(&mut self, at: usize, key: &str, field: &str, value: &str) {
        self.write(at, |shard, now| {
            let fields = [(field.as_bytes(), value.as_bytes())];
            shard.hset(DB, &shard.key(key.as_bytes()), fields.into_iter(), now).expect("a hash");
        });
    }

    pub fn hdel(&mut self, at: usize, key: &str, field: &str) {
        self.write(at, |shard, now| {
            let removed = shard.hdel(DB, &shard.key(key.as_bytes()), [field.as_bytes()].into_iter(), now);
            assert_eq!(removed, Ok(1));
        });
    }

    pub fn expire(&mut self, at: usize, key: &str, deadline: Option<u64>) {
        self.write(at, |shard, now| shard.set_deadline(DB, &shard.key(key.as_bytes()), deadline, now));
    }

    pub fn flush(&mut self, at: usize) {
        let partition = tutti::base::ids::Partition(partition() as u8);
        self.write(at, |shard, now| shard.flush_local(EVERY_DB, partition, now));
    }

    /// Everything `from` has that `to` lacks.
    pub fn pass_all(&mut self, from: usize, to: usize) {
        for origin in 0..self.nodes.len() {
            while self.pass(from, to, origin) {}
        }
    }

    pub fn exchange(&mut self) {
        for _ in 0..self.nodes.len() {
            for from in 0..self.nodes.len() {
                for to in (0..self.nodes.len()).filter(|&to| to != from) {
                    self.pass_all(from, to);
                }
            }
        }
    }

    /// Time passes, everybody hears of everything and forgets what may be forgotten.
    pub fn settle(&mut self, ms: u64) {
        for _ in 0..4 {
            self.wall_ms += ms;
            for at in 0..self.nodes.len() {
                self.background(at);
                self.background(at);
                self.beat(at);
            }
            self.exchange();
        }
    }

    pub fn texts(&self, key: &str) -> Vec<Option<String>> {
        (0..self.nodes.len()).map(|at| self.text(at, key)).collect()
    }

    pub fn records(&self, at: usize) -> usize {
        self.nodes[at].logs[at].iter().filter(|item| matches!(item, Item::Record { .. })).count()
    }
}

// --- What the design's model taught (E.7) ---

#[test]
fn a_collected_slot_does_not_count_again_after_a_reset_that_does_not_mention_it() {
    let (mut mesh, k) = (mesh(3), key("k"));
    mesh.incr(0, &k, 5);
    mesh.exchange();
    mesh.set(1, &k, "100");
    // All have heard of the reset, but only node 1 hears that they have.
    mesh.exchange();
    (0..3).for_each(|at| mesh.beat(at));
    mesh.pass_all(0, 1);
    mesh.pass_all(2, 1);
    mesh.background(1);
    assert!(!mesh.kept(1, std::slice::from_ref(&k))[&k].contains("(0, "), "node 1 has forgotten the slot of node 0");
    assert!(mesh.kept(2, std::slice::from_ref(&k))[&k].contains("(0, "), "node 2 has not");
    mesh.set(1, &k, "200");
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("200".to_owned()); 3]);
    mesh.settle(100);
    assert_eq!(mesh.texts(&k), vec![Some("200".to_owned()); 3]);
}

#[test]
fn what_an_overwritten_reset_had_observed_stays_observed() {
    let (mut mesh, k) = (mesh(3), key("k"));
    mesh.incr(0, &k, 5);
    mesh.pass_all(0, 1);
    // Node 1 wipes the 5 and node 2, which has seen neither, wins with a later reset.
    mesh.set(1, &k, "100");
    mesh.wall_ms += 50;
    mesh.set(2, &k, "200");
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("200".to_owned()); 3]);
    // Node 0 goes on: only what is new counts.
    mesh.incr(0, &k, 1);
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("201".to_owned()); 3]);
}

#[test]
fn a_wiped_slot_is_kept_until_its_own_dot_is_stable() {
    let realm = realm();
    let mut cell = Cell::default();
    cell.join_slot(slot(1, 5));
    let by = Stamp::new(reading(9), OriginIdx(2));
    cell.join_observed(&realm, Observed { slot: slot(1, 5), by });
    cell.collect(&|stamp| stamp == by, &mut |_| panic!("nothing may go"));
    assert_eq!((cell.slots.len(), cell.observed.len()), (1, 1));
    let mut gone = Vec::new();
    cell.collect(&|_| true, &mut |stamp| gone.push(stamp));
    assert!(cell.is_void());
    assert_eq!(gone, [by, slot(1, 5).dot()]);
}

// --- What the design decides (README section 5) ---

#[test]
fn a_write_that_fails_or_changes_nothing_mints_no_stamp() {
    let (mut mesh, k, h) = (mesh(2), key("k"), key("h"));
    mesh.set(0, &k, "text");
    mesh.hset(0, &h, "f", "text");
    let before = (mesh.records(0), mesh.nodes[0].shard.versions.clone());
    mesh.write(0, |shard, now| {
        let (k, h, none) = (shard.key(k.as_bytes()), shard.key(h.as_bytes()), key("none"));
        let none = KeyRef::new(shard.realm(), none.as_bytes());
        assert!(shard.incr(DB, &k, 1, now).is_err());
        assert!(shard.incr(DB, &h, 1, now).is_err());
        assert!(shard.hincr(DB, &h, b"f", 1, now).is_err());
        assert!(!shard.del(DB, &none, now));
        assert_eq!(shard.hdel(DB, &h, [&b"g"[..]].into_iter(), now), Ok(0));
    });
    assert_eq!((mesh.records(0), mesh.nodes[0].shard.versions.clone()), before);
}

#[test]
fn a_fast_clock_wins_until_it_is_overwritten_and_drags_ours_only_to_the_limit() {
    let mut mesh = Mesh::new(2, &[0, 3_600_000], Broken::default());
    let (k, other) = (key("k"), key("other"));
    mesh.set(0, &k, "mine");
    mesh.set(1, &k, "fast");
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("fast".to_owned()); 2], "convergence first");
    assert_eq!(mesh.nodes[0].shard.stats.drifted, 1);
    mesh.set(0, &k, "later");
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("later".to_owned()); 2]);
    let dragged_ms = mesh.nodes[0].shard.last_hlc().wall_ms() - mesh.wall_ms;
    assert!(dragged_ms <= 1001, "{dragged_ms} ms");
    // Nor does overwriting make us take deadlines for passed.
    let deadline = mesh.wall_ms + 60_000;
    mesh.set(0, &other, "v");
    mesh.expire(0, &other, Some(deadline));
    assert_eq!(mesh.text(0, &other), Some("v".into()));
}

#[test]
fn an_expired_key_disappears_everywhere_without_a_record() {
    let (mut mesh, k) = (mesh(3), key("k"));
    mesh.set(0, &k, "v");
    let deadline = mesh.wall_ms + 100;
    mesh.expire(0, &k, Some(deadline));
    mesh.exchange();
    let before = (0..3).map(|at| mesh.records(at)).collect::<Vec<_>>();
    mesh.wall_ms += 100;
    assert_eq!(mesh.texts(&k), vec![None; 3]);
    mesh.settle(100);
    assert_eq!((0..3).map(|at| mesh.records(at)).collect::<Vec<_>>(), before);
    for at in 0..3 {
        assert!(mesh.kept(at, std::slice::from_ref(&k)).is_empty());
        let keys = &mesh.nodes[at].shard.keys;
        assert_eq!((keys.tombstones(), keys.has_past()), (0, false), "no tombstone either");
    }
}

// --- Bugs ---

// A key expires; node 1 has dropped it and begins it anew, node 0 still holds the old content when it hears.
fn begun_anew_after_its_end(broken: Broken) -> Vec<Option<String>> {
    let (mut mesh, k) = (Mesh::new(2, &[0, 0], broken), key("k"));
    mesh.incr(0, &k, 4);
    let deadline = mesh.wall_ms + 100;
    mesh.expire(0, &k, Some(deadline));
    mesh.exchange();
    mesh.wall_ms += 200;
    // Node 1 hears that node 0's clock has passed the deadline, node 0 hears nothing of node 1.
    mesh.beat(0);
    mesh.pass_all(0, 1);
    (0..3).for_each(|_| mesh.background(1));
    mesh.incr(1, &k, 1);
    let deadline = mesh.wall_ms + 1000;
    mesh.expire(1, &k, Some(deadline));
    mesh.exchange();
    mesh.texts(&k)
}

#[test]
fn a_key_begun_anew_where_it_had_expired_does_not_meet_its_old_content_elsewhere() {
    assert_eq!(begun_anew_after_its_end(Broken::default()), vec![Some("1".to_owned()); 2]);
    // The control: dropped as soon as it is final on node 1, the old 4 comes back on node 0.
    let hasty = Broken { hasty_expiry: true, ..Broken::default() };
    assert_ne!(begun_anew_after_its_end(hasty), vec![Some("1".to_owned()); 2]);
}

#[test]
fn a_deadline_left_on_a_deleted_key_binds_a_new_one_on_no_node() {
    let (mut mesh, k) = (mesh(2), key("k"));
    mesh.hset(0, &k, "f", "v");
    mesh.exchange();
    mesh.del(0, &k);
    mesh.wall_ms += 10;
    // Node 1 has not heard of the delete.
    let deadline = mesh.wall_ms + 500;
    mesh.expire(1, &k, Some(deadline));
    mesh.exchange();
    (0..2).for_each(|at| mesh.beat(at));
    mesh.exchange();
    // Only node 0 collects before it begins the key anew.
    (0..3).for_each(|_| mesh.background(0));
    mesh.hset(0, &k, "g", "w");
    mesh.exchange();
    mesh.wall_ms += 1000;
    assert_eq!((mesh.fields(0, &k).len(), mesh.fields(1, &k).len()), (1, 1));
    mesh.settle(100);
    assert_eq!((mesh.fields(0, &k).len(), mesh.fields(1, &k).len()), (1, 1));
}

#[test]
fn a_write_by_a_node_that_has_dropped_the_key_finds_it_dropped_elsewhere() {
    let (mut mesh, k) = (mesh(2), key("k"));
    mesh.incr(0, &k, 4);
    let deadline = mesh.wall_ms + 100;
    mesh.expire(0, &k, Some(deadline));
    mesh.exchange();
    mesh.wall_ms += 200;
    for _ in 0..2 {
        (0..2).for_each(|at| mesh.beat(at));
        mesh.exchange();
        // Node 0 knows that the end is final and says so, and does no more.
        (0..2).for_each(|at| mesh.background(at));
    }
    (0..2).for_each(|at| mesh.beat(at));
    mesh.pass_all(0, 1);
    mesh.background(1);
    assert!(!mesh.nodes[1].shard.keys.has_past(), "dropped on node 1");
    mesh.incr(1, &k, 1);
    let deadline = mesh.wall_ms + 1000;
    mesh.expire(1, &k, Some(deadline));
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("1".to_owned()); 2]);
}

#[test]
fn a_lone_node_without_writes_still_drops_expired_keys() {
    let (mut mesh, k) = (mesh(1), key("k"));
    mesh.set(0, &k, "v");
    let deadline = mesh.wall_ms + 100;
    mesh.expire(0, &k, Some(deadline));
    mesh.wall_ms += 1000;
    (0..3).for_each(|_| mesh.background(0));
    assert!(mesh.kept(0, &[k]).is_empty());
}

#[test]
fn a_flush_does_not_bring_back_the_counts_it_wiped_when_their_owner_goes_on_counting() {
    let (mut mesh, k, h) = (mesh(2), key("k"), key("h"));
    mesh.incr(1, &k, 1000);
    mesh.write(1, |shard, now| _ = shard.hincr(DB, &shard.key(h.as_bytes()), b"f", 1000, now).expect("an integer"));
    mesh.exchange();
    mesh.flush(0);
    mesh.wall_ms += 10;
    // Node 1 has not heard of the flush.
    mesh.incr(1, &k, 1);
    mesh.write(1, |shard, now| _ = shard.hincr(DB, &shard.key(h.as_bytes()), b"f", 1, now).expect("an integer"));
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("1".to_owned()); 2]);
    assert_eq!((mesh.fields(0, &h), mesh.fields(1, &h)), (mesh.fields(1, &h), [("f".into(), "1".into())].into()));
    mesh.settle(100);
    assert_eq!(mesh.texts(&k), vec![Some("1".to_owned()); 2]);
}

#[test]
fn what_a_reset_had_observed_outlives_a_flush_that_the_slots_owner_has_not_heard_of() {
    let realm = Arc::new(realm());
    let (first, end) = settings().map.range(ShardId(0));
    let name = key("k");
    let key = KeyRef::new(&realm, name.as_bytes());
    let reset = Op::Clear { observed: [slot(1, 9)].into_iter().collect(), fields: Vec::new() };
    let (reset_at, flush_at) = (Stamp::new(reading(11), OriginIdx(2)), Stamp::new(reading(13), OriginIdx(0)));
    let counted = [false, true].map(|was_stable_before| {
        let mut keys = Keyspace::new(Arc::clone(&realm), first, end, 1);
        let add = |keys: &mut Keyspace, n: u64| {
            let op = Op::Add { epoch: slot(1, n).epoch, total: slot(1, n).total };
            keys.apply(Db(0), &key, &op, |_| slot(1, n).dot());
        };
        add(&mut keys, 12);
        keys.apply(Db(0), &key, &reset, |_| reset_at);
        if was_stable_before {
            keys.collect(first, &|_| true, 10);
        }
        keys.flush(Db(0), first, flush_at, slot(1, 12).dot());
        keys.collect(first, &|stamp| stamp != flush_at, 10);
        add(&mut keys, 14);
        let state = tutti::store::keyspace::unpack(&realm, keys.find(Db(0), &key).expect("counted"));
        format!("{:?}", state.string.visible())
    });
    let since = slot(1, 14).total.fixed() - slot(1, 9).total.fixed();
    assert_eq!(counted, [format!("Number({since})"), format!("Number({since})")]);
}

#[test]
fn a_reset_overtaken_by_a_flush_still_says_what_it_had_observed() {
    let realm = Arc::new(realm());
    let (first, end) = settings().map.range(ShardId(0));
    let (mut before, mut after) =
        (Keyspace::new(Arc::clone(&realm), first, end, 1), Keyspace::new(Arc::clone(&realm), first, end, 1));
    let name = key("k");
    let key = KeyRef::new(&realm, name.as_bytes());
    let observed: Observations = [slot(1, 8)].into_iter().collect();
    let reset = Op::Clear { observed, fields: Vec::new() };
    let (reset_at, flush_at) = (Stamp::new(reading(9), OriginIdx(2)), Stamp::new(reading(10), OriginIdx(0)));
    let add = Op::Add { epoch: slot(1, 12).epoch, total: slot(1, 12).total };
    for (keys, reset_first) in [(&mut before, true), (&mut after, false)] {
        if reset_first {
            keys.apply(Db(0), &key, &reset, |_| reset_at);
        }
        keys.flush(Db(0), first, flush_at, if reset_first { reset_at } else { Stamp::ZERO });
        if !reset_first {
            keys.apply(Db(0), &key, &reset, |_| reset_at);
        }
        keys.apply(Db(0), &key, &add, |_| slot(1, 12).dot());
    }
    let seen = |keys: &Keyspace| {
        let state = tutti::store::keyspace::unpack(&realm, keys.find(Db(0), &key).expect("counted"));
        format!("{:?}", state.string.visible())
    };
    assert_eq!(seen(&before), seen(&after));
}

#[test]
fn a_deadline_older_than_a_flush_is_gone_though_a_later_value_had_kept_it() {
    let realm = realm();
    let stamp = |n: u64| Stamp::new(reading(n), OriginIdx(0));
    let mut state = KeyState::default();
    state.apply(&realm, stamp(1), &Op::set(b"v"));
    state.apply(&realm, stamp(2), &Op::Deadline { at: Some(u64::MAX / 2) });
    let kept = Op::Set { value: b"w", deadline: SetDeadline::Keep, observed: Observations::new() };
    state.apply(&realm, stamp(9), &kept);
    state.flush(&realm, stamp(5));
    assert_eq!((state.deadline_at(), state.is_live()), (None, true));
    // A deadline written after the flush, heard of late, is in force: nothing newer was said.
    state.apply(&realm, stamp(7), &Op::Deadline { at: Some(77) });
    assert_eq!(state.deadline_at(), Some(77));
}

#[test]
fn the_type_seen_in_a_clash_does_not_depend_on_deletes_that_were_forgotten() {
    let realm = realm();
    let stamp = |n: u64, origin: u16| Stamp::new(reading(n), OriginIdx(origin));
    let mut state = KeyState::default();
    state.apply(&realm, stamp(10, 0), &Op::set(b"v"));
    state.apply(&realm, stamp(11, 1), &Op::field(b"x", Some(b"1")));
    state.apply(&realm, stamp(12, 0), &Op::Add { epoch: reading(12), total: Total::Int(1) });
    state.apply(&realm, stamp(13, 1), &Op::field(b"y", None));
    let remembers = state.visible_type(&realm);
    state.collect(&realm, &|_| true, &mut |_| (), 10);
    assert_eq!((remembers, state.visible_type(&realm)), (Some(Type::String), Some(Type::String)));
}

#[test]
fn an_empty_hash_part_does_not_keep_a_string_from_being_packed() {
    let (mut mesh, k) = (mesh(2), key("k"));
    mesh.wall_ms += 10;
    mesh.hset(1, &k, "f", "v");
    mesh.wall_ms += 10;
    mesh.set(0, &k, "v");
    mesh.exchange();
    let node = &mesh.nodes[0].shard;
    let entry = node.keys.find(DB, &node.key(k.as_bytes())).expect("set");
    assert!(!entry.is_rich());
}

#[test]
fn a_difference_within_an_epoch_is_kept_until_the_next_epoch_opens() {
    let (mut mesh, k) = (mesh(2), key("k"));
    mesh.incr(1, &k, 5);
    mesh.exchange();
    mesh.set(0, &k, "100");
    mesh.incr(1, &k, 1);
    mesh.settle(100);
    assert_eq!(mesh.texts(&k), vec![Some("101".to_owned()); 2]);
    for at in 0..2 {
        assert_eq!(mesh.nodes[at].shard.keys.garbage_len(), 0, "nothing is waited for");
        assert!(mesh.kept(at, std::slice::from_ref(&k))[&k].contains("observed [(1"), "but the difference is needed");
    }
    // The next reset is collected like any other, and so is the one after that.
    for value in ["200", "300"] {
        mesh.set(0, &k, value);
        mesh.settle(100);
        mesh.incr(1, &k, 1);
        mesh.settle(100);
        for at in 0..2 {
            assert!(mesh.kept(at, std::slice::from_ref(&k))[&k].contains("observed []"));
        }
    }
    assert_eq!(mesh.texts(&k), vec![Some("301".to_owned()); 2]);
}

#[test]
fn counting_in_a_hash_leaves_nothing_to_collect() {
    let (mut mesh, h) = (mesh(2), key("h"));
    for _ in 0..100 {
        mesh.write(0, |shard, now| _ = shard.hincr(DB, &shard.key(h.as_bytes()), b"f", 1, now).expect("an integer"));
    }
    assert_eq!(mesh.nodes[0].shard.keys.garbage_len(), 0);
}

#[test]
fn a_key_set_and_deleted_over_and_over_is_queued_a_bounded_number_of_times() {
    let (mut mesh, k, h) = (mesh(2), key("k"), key("h"));
    mesh.hset(0, &h, "stays", "v");
    for _ in 0..2000 {
        mesh.set(0, &k, "v");
        mesh.del(0, &k);
        mesh.hset(0, &h, "f", "v");
        mesh.hdel(0, &h, "f");
    }
    let shard = &mesh.nodes[0].shard;
    assert!(shard.keys.garbage_len() < 100, "{}", shard.keys.garbage_len());
    let hash = shard.peek_hash(DB, &shard.key(h.as_bytes()), mesh.now(0)).expect("a hash").expect("it exists");
    assert!(hash.heap_bytes(0) < 2000, "{}", hash.heap_bytes(0));
}

#[test]
fn a_key_that_changes_all_the_time_does_not_keep_others_from_being_collected() {
    let (mut mesh, hot) = (mesh(2), key("hot"));
    mesh.hset(0, &hot, "stays", "v");
    mesh.hset(0, &hot, "f", "v");
    mesh.hdel(0, &hot, "f");
    for n in 0..20 {
        mesh.set(0, &key(&format!("k{n}")), "v");
        mesh.del(0, &key(&format!("k{n}")));
    }
    for _ in 0..30 {
        mesh.exchange();
        (0..2).for_each(|at| mesh.beat(at));
        mesh.exchange();
        mesh.hset(0, &hot, "f", "v");
        mesh.hdel(0, &hot, "f");
        mesh.background(0);
    }
    assert_eq!(mesh.nodes[0].shard.keys.tombstones(), 0);
}

#[test]
fn a_hash_that_lost_its_last_field_begins_anew_without_its_deadline() {
    let (mut mesh, h) = (mesh(2), key("h"));
    mesh.hset(0, &h, "f", "v");
    let deadline = mesh.wall_ms + 100;
    mesh.expire(0, &h, Some(deadline));
    mesh.hdel(0, &h, "f");
    mesh.hset(0, &h, "g", "w");
    mesh.exchange();
    mesh.wall_ms += 1000;
    assert_eq!((mesh.fields(0, &h).len(), mesh.fields(1, &h).len()), (1, 1));
}

#[test]
fn a_collected_delete_is_not_undone_by_a_slower_clock() {
    let mut mesh = Mesh::new(2, &[0, 5000], Broken::default());
    let k = key("k");
    mesh.set(1, &k, "fast");
    mesh.del(1, &k);
    mesh.settle(1);
    assert!(mesh.kept(0, std::slice::from_ref(&k)).is_empty());
    // Above what was forgotten, or a node that still remembers the delete would refuse it.
    let forgotten = mesh.nodes[0].shard.keys.forgotten(partition());
    let noted = mesh.write(0, |shard, now| {
        shard.set(DB, &shard.key(k.as_bytes()), b"slow", SetDeadline::Clear, now);
    });
    assert!(noted[0].0.hlc() > forgotten.hlc() && !forgotten.is_zero());
}

#[test]
fn an_acknowledgement_counts_only_once_what_its_member_had_applied_has_arrived() {
    let node = Uuid([8; 16]);
    let (member, other) = (OriginIdx(1), OriginIdx(2));
    let mut own = Versions::new(0, 2);
    let mut stability = Stability::new(0, 2);
    stability.add(node);
    // Its clock has passed all of it.
    stability.promise(node, Hlc(90));
    (0..2).for_each(|partition| _ = own.raise(other, partition, Hlc(50)));
    let write = Stamp::new(Hlc(50), other);
    // The other origin's entry comes first: the order within an acknowledgement says nothing.
    stability.acknowledge(&own, node, 0, &[(other, Hlc(50)), (member, Hlc(48))]);
    assert!(!stability.is_stable(0, write));
    // What it says of another partition does not wait.
    stability.acknowledge(&own, node, 1, &[(other, Hlc(50))]);
    assert!(stability.is_stable(1, write));
    // Nor does the first wait for what the member wrote or heard after it.
    stability.acknowledge(&own, node, 0, &[(other, Hlc(60)), (member, Hlc(59))]);
    own.raise(member, 0, Hlc(48));
    stability.settle(&own);
    assert!(stability.is_stable(0, write));
    own.raise(member, 0, Hlc(59));
    stability.settle(&own);
    assert!(!stability.is_stable(0, Stamp::new(Hlc(60), other)));
    own.raise(other, 0, Hlc(60));
    stability.settle(&own);
    assert!(stability.is_stable(0, Stamp::new(Hlc(60), other)));
}

#[test]
fn a_member_that_starts_again_has_acknowledged_nothing() {
    let (node, other) = (Uuid([8; 16]), OriginIdx(2));
    let mut own = Versions::new(0, 1);
    own.raise(other, 0, Hlc(50));
    let mut stability = Stability::new(0, 1);
    stability.add(node);
    stability.begin(OriginId { node, incarnation: 5 });
    stability.acknowledge(&own, node, 0, &[(other, Hlc(50))]);
    stability.promise(node, Hlc(49));
    assert!(!stability.is_stable(0, Stamp::new(Hlc(50), other)), "the next run of it could still write below");
    stability.promise(node, Hlc(50));
    // These wait for a write that dies with its run.
    stability.acknowledge(&own, node, 0, &[(OriginIdx(1), Hlc(70))]);
    stability.promise(node, Hlc(70));
    assert!(stability.is_stable(0, Stamp::new(Hlc(50), other)));
    stability.begin(OriginId { node, incarnation: 6 });
    assert!(!stability.is_stable(0, Stamp::new(Hlc(50), other)));
    stability.acknowledge(&own, node, 0, &[(other, Hlc(50))]);
    stability.promise(node, Hlc(60));
    assert!(stability.is_stable(0, Stamp::new(Hlc(50), other)));
    assert_eq!(stability.horizon_ms(Hlc(90)), Hlc(60).wall_ms());
    // Whom it has not met may hold what was deleted here.
    assert_eq!(stability.all_final_ms(90), 0);
    stability.finalise(node, 80);
    assert_eq!(stability.all_final_ms(90), 80);
    stability.set_strangers(node, true);
    // Held back by a stranger, a deadline that is final is not judged, or it would be taken for undecided again.
    assert_eq!(stability.all_final_ms(90), 0);
    assert_eq!(stability.horizon_ms(Hlc(90)), Hlc::ZERO.wall_ms());
    assert!(!stability.is_stable(0, Stamp::new(Hlc(50), other)));
}

#[test]
fn what_a_node_that_is_here_has_acknowledged_outlasts_word_that_it_was_forgotten_and_is_back() {
    let (node, other) = (Uuid([8; 16]), OriginIdx(2));
    let mut own = Versions::new(0, 1);
    own.raise(other, 0, Hlc(50));
    let mut stability = Stability::new(0, 1);
    stability.add(node);
    stability.acknowledge(&own, node, 0, &[(other, Hlc(50))]);
    stability.promise(node, Hlc(60));
    // It is told once, before or after what others say of the node.
    let turn = |stability: &mut Stability, forgotten, is_here| {
        let said = stability.standings().turned(node, forgotten);
        assert!(stability.judge(said, is_here));
        stability.is_stable(0, Stamp::new(Hlc(50), other))
    };
    assert!(turn(&mut stability, true, true) && turn(&mut stability, false, true));
    turn(&mut stability, true, false);
    assert!(!turn(&mut stability, false, false), "who has left begins anew");
}

#[test]
fn a_clock_followed_to_its_limit_still_mints_above_what_it_overwrites() {
    let mut clock = Clock::default();
    let wall_ms = tutti::merge::stamp::EPOCH_MS + 10_000;
    let fast = Hlc::at_ms(wall_ms + 3_600_000);
    assert!(clock.mint(wall_ms, fast, 1000) > fast);
    assert!(clock.last().wall_ms() <= wall_ms + 1000);
    assert!(clock.mint(wall_ms, Hlc::ZERO, 1000) < fast);
}

#[test]
fn a_deadline_written_late_by_a_slow_clock_is_final_only_when_all_have_heard_of_it() {
    // Node 1's clock has been dragged ahead of its wall clock, so it writes a deadline that its own stamp is beyond.
    let (mut mesh, k) = (Mesh::new(3, &[0, -200, 0], Broken::default()), key("k"));
    mesh.set(0, &k, "old");
    mesh.settle(1000);
    mesh.set(0, &key("other"), "v");
    mesh.exchange();
    let now = mesh.now(1);
    let deadline = now.wall_ms + 33;
    mesh.write(1, |shard, now| {
        shard.set(DB, &shard.key(k.as_bytes()), b"new", SetDeadline::At(deadline), now);
    });
    // Everybody's clock passes, but node 0 hears nothing of the write and keeps the key.
    for _ in 0..4 {
        mesh.wall_ms += 1000;
        (0..3).for_each(|at| mesh.background(at));
        mesh.beat(0);
        mesh.beat(2);
        mesh.pass_all(0, 1);
        mesh.pass_all(2, 1);
    }
    mesh.expire(0, &k, None);
    mesh.exchange();
    assert_eq!(mesh.texts(&k), vec![Some("new".to_owned()); 3]);
}

// A comparison of nodes must not take for damage what one of them has before its version vector says so.
#[test]
fn what_a_full_merge_has_brought_so_far_is_known_to_be_ahead_of_the_version_vector() {
    let mut mesh = mesh(2);
    let key = key("k");
    mesh.set(0, &key, "v");
    let at = Partition(partition() as u8);
    let writer = mesh.nodes[1].indices[0];
    let written = mesh.nodes[0].shard.versions.get(OriginIdx::OWN, partition());
    mesh.merge_most(0, 1, partition());
    let shard = &mesh.nodes[1].shard;
    assert!(shard.peek(DB, &shard.key(key.as_bytes()), mesh.now(1)).is_some(), "it is here already");
    assert_eq!(shard.applied_of(at), [], "the version vector waits for the end");
    assert_eq!(shard.beyond(at, &[]), [(writer, written)]);
    // The link has broken; the record comes another way.
    assert!(mesh.pass(0, 1, 0));
    let shard = &mesh.nodes[1].shard;
    assert_eq!(shard.applied_of(at), [(writer, written)]);
    assert_eq!(shard.beyond(at, &shard.applied_of(at)), []);
    mesh.merge_whole(0, 1);
    assert_eq!(mesh.nodes[1].shard.all_ahead().next(), None, "nothing is kept that the version vector says");
}

#[test]
fn a_full_merge_passes_on_what_its_sender_has_ahead_of_its_version_vector() {
    let mut mesh = mesh(3);
    let key = key("k");
    mesh.set(0, &key, "v");
    let written = mesh.nodes[0].shard.versions.get(OriginIdx::OWN, partition());
    mesh.merge_most(0, 1, partition());
    mesh.merge_whole(1, 2);
    let (writer, shard) = (mesh.nodes[2].indices[0], &mesh.nodes[2].shard);
    assert!(shard.peek(DB, &shard.key(key.as_bytes()), mesh.now(2)).is_some(), "it came with the rest");
    assert_eq!(shard.all_ahead().collect::<Vec<_>>(), [(writer, partition(), written)]);
}
