//! The index of deadlines: bounded however often they are rewritten, on time, and in slices.

use std::sync::Arc;

use tutti::base::ids::Db;
use tutti::base::rng::Rng;
use tutti::base::time::Now;
use tutti::merge::op::SetDeadline;
use tutti::shard::Shard;

use crate::gen_ops::realm;
use crate::mesh::{START_MS, settings, tag};

struct Lone {
    shard: Shard,
    wall_ms: u64,
    work: usize,
}

impl Lone {
    fn new() -> Self {
        Self { shard: Shard::new(Arc::new(realm()), &settings()), wall_ms: START_MS, work: 0 }
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.wall_ms, mono_us: (self.wall_ms - START_MS) * 1000 }
    }

    fn set_for(&mut self, key: &str, ms: u64) {
        let now = self.now();
        self.shard.set(Db(0), &self.shard.key(key.as_bytes()), b"v", SetDeadline::At(now.wall_ms + ms), now);
    }

    fn del(&mut self, key: &str) {
        let now = self.now();
        self.shard.del(Db(0), &self.shard.key(key.as_bytes()), now);
    }

    /// One slice; whether there is more to do.
    fn background(&mut self) -> bool {
        let now = self.now();
        self.shard.background(now, &mut self.work)
    }
}

fn name(n: u64) -> String {
    format!("k{n}{{{}}}", tag((n % 2) as usize))
}

#[test]
fn a_deadline_rewritten_over_and_over_is_kept_a_bounded_number_of_times() {
    let mut lone = Lone::new();
    let mut rng = Rng::new(5);
    (0..1000).for_each(|n| lone.set_for(&name(n), 3_600_000));
    let mut most = 0;
    for step in 0..300_000u64 {
        let k = name(step % 10);
        match step % 4 {
            // A lock that is taken and released, and a session that is kept alive.
            0 => lone.set_for(&name(10_000), 30_000),
            1 => lone.del(&name(10_000)),
            2 => lone.set_for(&k, 100_000),
            _ => lone.set_for(&k, 1 + rng.below(1_000_000)),
        }
        lone.wall_ms += u64::from(step % 64 == 0);
        most = most.max(lone.shard.keys.due_len());
    }
    assert!(most < 3 * 1011 + 2 * 4096, "{most} entries for 1011 keys");
    assert_eq!(lone.shard.keys.deadlines(Db(0)), 1000);
}

#[test]
fn the_same_deadline_written_in_turns_with_another_is_kept_a_bounded_number_of_times() {
    let mut lone = Lone::new();
    let k = name(0);
    let mut rng = Rng::new(1);
    for _ in 0..200_000 {
        let at = START_MS + if rng.chance(2) { 1000 } else { 1_000_000 };
        let now = lone.now();
        lone.shard.set_deadline(Db(0), &lone.shard.key(k.as_bytes()), Some(at), now);
    }
    assert!(lone.shard.keys.due_len() < 5000, "{}", lone.shard.keys.due_len());
}

#[test]
fn keys_are_dropped_within_100_ms_of_their_deadline() {
    let mut lone = Lone::new();
    let mut rng = Rng::new(9);
    let mut deadlines = Vec::new();
    for n in 0..3000 {
        // Up to a quarter of an hour, the end of many at once among them.
        let ahead = 2 << rng.below(20);
        let ms = if n % 3 == 0 { 60_000 } else { 1 + rng.below(ahead) };
        lone.set_for(&name(n), ms);
        deadlines.push(START_MS + ms);
    }
    deadlines.sort_unstable();
    while let Some(&last) = deadlines.last().filter(|&&last| last + 200 > lone.wall_ms) {
        lone.wall_ms += 50.max((last - lone.wall_ms.min(last)) / 100);
        let mut slices = 0;
        while lone.background() {
            slices += 1;
            assert!(slices < 1000, "there is an end of it");
        }
        let alive = deadlines.len() - deadlines.partition_point(|&at| at <= lone.wall_ms);
        assert_eq!(lone.shard.keys.len(Db(0)), alive);
    }
    assert_eq!((lone.shard.stats.expired, lone.shard.keys.due_len()), (3000, 0));
}

#[test]
fn a_flush_takes_the_deadlines_along_in_slices() {
    let mut lone = Lone::new();
    (0..20_000).for_each(|n| lone.set_for(&name(n), 1_000_000 + n));
    let now = lone.now();
    lone.shard.flush(Db(0), now);
    assert_eq!(lone.shard.keys.due_len(), 0);
    let mut slices = 0;
    while lone.background() {
        slices += 1;
    }
    assert!((2..1000).contains(&slices), "{slices}");
    lone.set_for(&name(0), 10);
    lone.wall_ms += 10;
    while lone.background() {}
    assert_eq!(lone.shard.stats.expired, 1);
}

#[test]
fn however_many_keys_end_in_one_millisecond_they_are_dropped_and_then_there_is_rest() {
    let mut lone = Lone::new();
    (0..1000).for_each(|n| lone.set_for(&name(n), 100));
    for _ in 0..3 {
        lone.wall_ms += 100;
        let slices = (0..1000).take_while(|_| lone.background()).count();
        assert!(slices < 1000);
    }
    assert_eq!((lone.shard.keys.has_past(), lone.shard.keys.due_len()), (false, 0));
    (0..1000).for_each(|n| assert!(lone.shard.keys.find(Db(0), &lone.shard.key(name(n).as_bytes())).is_none()));
}
