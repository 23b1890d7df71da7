//! What a hop between two cores costs: a ring between two threads pinned to cores of their own, both awake.
//!
//! `throughput` is one batch of so many calls (8 bytes each) sent and taken, the ring being kept full; `round_trip` is
//! a batch to the other core and one back. With one core only, the threads take turns and the numbers mean nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tutti::base::ids::ShardId;
use tutti::runtime::mesh::{Mesh, RING_BATCHES, build};

/// Allocates as the server does.
#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

type Batch = Vec<u64>;

// Looks before a thread that finds nothing lets another one run: there may be fewer cores than threads.
const SPINS: u32 = 1000;

fn pin(nth: usize) {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.get(nth % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}

/// Runs `near` here and `far` on another core, each with its end of the mesh.
fn on_two_cores(
    near: impl FnOnce(&mut Mesh<Batch>) -> Duration,
    far: impl FnOnce(&mut Mesh<Batch>) + Send,
) -> Duration {
    let mut ends = build::<Batch>(2, RING_BATCHES);
    let (mut far_end, mut near_end) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            far(&mut far_end);
        });
        pin(0);
        near(&mut near_end)
    })
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    loop {
        for _ in 0..SPINS {
            if is_so() {
                return;
            }
            std::hint::spin_loop();
        }
        thread::yield_now();
    }
}

fn send(mesh: &mut Mesh<Batch>, batch: Batch) {
    let mut batch = Some(batch);
    wait_until(|| {
        mesh.send(|_| batch.take(), &mut |_: ShardId| {});
        batch.is_none()
    });
}

fn receive(mesh: &mut Mesh<Batch>) -> Batch {
    let mut received = None;
    wait_until(|| {
        // At most one is under way.
        mesh.deliver(|_, batch| received = Some(batch), &mut |_: ShardId| {});
        received.is_some()
    });
    received.expect("waited for")
}

fn throughput(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh_throughput");
    for calls in [1usize, 16, 256] {
        group.throughput(Throughput::Elements(calls as u64));
        group.bench_function(format!("batches_of_{calls}"), |bencher| {
            bencher.iter_custom(|count| {
                let sum = Arc::new(AtomicU64::new(0));
                let far_sum = Arc::clone(&sum);
                on_two_cores(
                    |mesh| {
                        let start = Instant::now();
                        (0..count).for_each(|n| send(mesh, vec![n; calls]));
                        wait_until(|| sum.load(Ordering::Acquire) == count);
                        start.elapsed()
                    },
                    move |mesh| {
                        let mut taken = 0;
                        wait_until(|| {
                            mesh.deliver(
                                |_, batch| {
                                    assert_eq!(batch[calls - 1], taken, "once and in order");
                                    taken += 1;
                                },
                                &mut |_: ShardId| {},
                            );
                            taken == count
                        });
                        far_sum.store(taken, Ordering::Release);
                    },
                )
            });
        });
    }
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh_latency");
    group.bench_function("round_trip", |bencher| {
        bencher.iter_custom(|count| {
            on_two_cores(
                |mesh| {
                    let mut batch = vec![0];
                    let start = Instant::now();
                    for _ in 0..count {
                        send(mesh, std::mem::take(&mut batch));
                        batch = receive(mesh);
                    }
                    let spent = start.elapsed();
                    assert_eq!(batch, [count]);
                    spent
                },
                |mesh| {
                    for _ in 0..count {
                        let mut batch = receive(mesh);
                        batch[0] += 1;
                        send(mesh, batch);
                    }
                },
            )
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = throughput, round_trip
}
criterion_main!(benches);
