//! What joining costs: a string's register, a counter of four nodes, hashes, and a whole partition as a link brings it.
//!
//! `newer` is a write that wins, `known` one that was joined before. The partition has 2,000 keys: 16 bytes with a
//! 64-byte value each; an iteration is all of them, from blocks to a shard that had none (`empty`) or the same (`same`).

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tutti::base::ids::{Db, Partition, ShardId, Slot, Uuid};
use tutti::base::slot::{ShardMap, slot_of};
use tutti::base::time::Now;
use tutti::merge::cell::SlotCount;
use tutti::merge::key::KeyState;
use tutti::merge::op::{Op, SetDeadline};
use tutti::merge::origins::{OriginId, OriginIdx};
use tutti::merge::realm::Realm;
use tutti::merge::stamp::{EPOCH_MS, Hlc, Stamp};
use tutti::merge::total::Total;
use tutti::merge::version::Versions;
use tutti::shard::block::{self, Front, Kind};
use tutti::shard::feed::Feed;
use tutti::shard::{Shard, ShardSettings};

/// Allocates as the server does.
#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

const NODES: u16 = 4;

const VALUE: [u8; 64] = [b'v'; 64];

const PARTITION_KEYS: usize = 2000;

fn realm() -> Realm {
    let id = |node: u8| OriginId { node: Uuid([node + 1; 16]), incarnation: 1 };
    let realm = Realm::new(id(0), 1);
    (1..NODES).for_each(|node| _ = realm.origins.index(id(node as u8)).expect("room"));
    realm
}

fn stamp(n: u64, origin: u16) -> Stamp {
    Stamp::new(Hlc(Hlc::at_ms(EPOCH_MS + 1).0 + n), OriginIdx(origin))
}

fn strings_and_counters(criterion: &mut Criterion) {
    let realm = realm();
    let mut group = criterion.benchmark_group("merge");
    group.bench_function("string_newer", |bencher| {
        let (mut state, mut n) = (KeyState::default(), 0);
        bencher.iter(|| {
            n += 1;
            state.apply(&realm, stamp(n, (n % 4) as u16), black_box(&Op::set(&VALUE)))
        });
    });
    group.bench_function("string_known", |bencher| {
        let mut state = KeyState::default();
        state.apply(&realm, stamp(1, 1), &Op::set(&VALUE));
        bencher.iter(|| state.apply(&realm, stamp(1, 1), black_box(&Op::set(&VALUE))));
    });
    group.bench_function("counter_newer", |bencher| {
        let (mut state, mut n) = (KeyState::default(), 0);
        bencher.iter(|| {
            n += 1;
            let op = Op::Add { epoch: stamp(0, 0).hlc(), total: Total::Int(n as i64) };
            state.apply(&realm, stamp(n, (n % 4) as u16), black_box(&op))
        });
    });
    group.bench_function("counter_of_4_nodes_joined", |bencher| {
        let counter = |last: u64| {
            let mut state = KeyState::default();
            for origin in 0..NODES {
                let (last, epoch) = (stamp(last, 0).hlc(), stamp(0, 0).hlc());
                state.string.join_slot(SlotCount { origin: OriginIdx(origin), last, epoch, total: Total::Int(7) });
            }
            state
        };
        let (mut state, other) = (counter(1), counter(2));
        bencher.iter(|| state.join(&realm, black_box(&other)));
    });
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let realm = realm();
    let mut group = criterion.benchmark_group("merge_hash");
    for fields in [10u64, 1000] {
        let names: Vec<String> = (0..fields).map(|field| format!("field:{field:06}")).collect();
        let hash = |n: u64| {
            let mut state = KeyState::default();
            names
                .iter()
                .for_each(|name| _ = state.apply(&realm, stamp(n, 1), &Op::field(name.as_bytes(), Some(&VALUE))));
            state
        };
        group.throughput(Throughput::Elements(fields));
        group.bench_function(format!("{fields}_fields_newer"), |bencher| {
            bencher.iter_custom(|count| {
                let (base, mut spent) = (hash(1), Duration::ZERO);
                let other = hash(2);
                for _ in 0..count {
                    let mut state = base.copy(&realm);
                    let start = Instant::now();
                    black_box(state.join(&realm, black_box(&other)));
                    spent += start.elapsed();
                }
                spent
            });
        });
        group.bench_function(format!("{fields}_fields_known"), |bencher| {
            let (mut state, other) = (hash(1), hash(1));
            bencher.iter(|| state.join(&realm, black_box(&other)));
        });
    }
    group.finish();
}

fn shard(node: u8) -> Shard {
    let own = OriginId { node: Uuid([node; 16]), incarnation: 1 };
    let settings = ShardSettings {
        id: ShardId(0),
        map: ShardMap::new(1),
        databases: 1,
        backlog_bytes_max: 1 << 20,
        drift_ms_max: 1000,
        seed: 1,
    };
    Shard::new(Arc::new(Realm::new(own, u64::from(node))), &settings)
}

// The whole of a partition in blocks.
fn blocks(now: Now) -> Vec<u8> {
    let mut sender = shard(1);
    let names = (0..).map(|n: u32| format!("key:{n:012}"));
    for name in names.filter(|name| slot_of(name.as_bytes()).partition() == Partition(0)).take(PARTITION_KEYS) {
        let key = sender.key(name.as_bytes());
        sender.set(Db(0), &key, &VALUE, SetDeadline::Clear, now);
    }
    let (first, end) = sender.keys.partitions();
    let mut feed = Feed::new(&sender, Versions::new(first, end), Vec::new());
    feed.pull(&sender, Partition(0));
    let mut blocks = Vec::new();
    feed.pump(&sender, &mut blocks, usize::MAX);
    blocks
}

fn take(shard: &mut Shard, mut blocks: &[u8], from: OriginIdx, now: Now) {
    let origin = |_: u16| Some(from);
    let mut merging = None;
    while let Front::Block(kind, payload, used) = block::front(blocks) {
        blocks = &blocks[used..];
        match (kind, &mut merging) {
            (Kind::FullBegin, _) => merging = shard.begin_merging(payload, &origin),
            (Kind::FullKeys, Some(merging)) => assert!(shard.merge_keys(merging, &payload[1..], &origin)),
            (Kind::FullSlot, Some(merging)) => {
                shard.merge_slot(merging, Slot(u16::from_le_bytes([payload[0], payload[1]])));
            }
            (Kind::FullEnd, Some(merging)) => shard.end_merging(merging, now),
            _ => {}
        }
    }
    assert_eq!(shard.keys.len(Db(0)), PARTITION_KEYS);
}

fn partitions(criterion: &mut Criterion) {
    let now = Now { wall_ms: 1_770_000_000_000, mono_us: 0 };
    let blocks = blocks(now);
    let receiver = || {
        let shard = shard(2);
        let id = OriginId { node: Uuid([1; 16]), incarnation: 1 };
        let from = shard.realm().origins.index(id).expect("room");
        (shard, from)
    };
    let mut group = criterion.benchmark_group("merge_partition");
    group.throughput(Throughput::Elements(PARTITION_KEYS as u64));
    for (name, times_before) in [("empty", 0), ("same", 1)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut spent = Duration::ZERO;
                for _ in 0..count {
                    let (mut shard, from) = receiver();
                    (0..times_before).for_each(|_| take(&mut shard, &blocks, from, now));
                    let start = Instant::now();
                    take(&mut shard, &blocks, from, now);
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = strings_and_counters, hashes, partitions
}
criterion_main!(benches);
