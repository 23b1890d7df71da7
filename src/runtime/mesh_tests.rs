use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::*;
use crate::base::rng::Rng;

/// A message and the numbers that prove it was neither lost, doubled nor overtaken.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Message {
    Request { number: u64 },
    Answer { number: u64 },
}

/// One core of the stress: sends `requests` to every other core, answers what it gets, and sleeps for real (thread
/// park without timeout) whenever the mesh lets it. A lost wake-up or a wait-cycle therefore hangs the test.
struct StressCore {
    mesh: Mesh<Vec<Message>>,
    threads: Arc<Vec<Thread>>,
    rng: Rng,
    outbox: Vec<Vec<Message>>,
    next_request: Vec<u64>,
    answered: Vec<u64>,
    requests_seen: Vec<u64>,
    naps: u64,
}

impl StressCore {
    fn run(&mut self, requests: u64, running: &AtomicU64) -> u64 {
        let cores = self.outbox.len();
        let mut reading = true;
        let mut done = false;
        loop {
            let threads = Arc::clone(&self.threads);
            let mut bell = move |target: ShardId| threads[target.0 as usize].unpark();
            let Self { outbox, answered, requests_seen, .. } = self;
            self.mesh.deliver(
                |from, batch| {
                    let from = from.0 as usize;
                    for message in batch {
                        match message {
                            Message::Request { number } => {
                                assert_eq!(number, requests_seen[from], "requests from {from} out of order");
                                requests_seen[from] += 1;
                                outbox[from].push(Message::Answer { number });
                            }
                            Message::Answer { number } => {
                                assert_eq!(number, answered[from], "answers from {from} out of order");
                                answered[from] += 1;
                            }
                        }
                    }
                },
                &mut bell,
            );
            if self.rng.below(50) == 0 {
                thread::sleep(Duration::from_micros(self.rng.below(200)));
            }
            // "Sockets": new requests appear only while nothing is kept back, a few per round and target.
            if reading {
                for to in (0..cores).filter(|&to| to != self.mesh.me) {
                    for _ in 0..self.rng.below(3) {
                        if self.next_request[to] < requests {
                            self.outbox[to].push(Message::Request { number: self.next_request[to] });
                            self.next_request[to] += 1;
                        }
                    }
                }
            }
            let outbox = &mut self.outbox;
            let take = |to: ShardId| {
                let batch = std::mem::take(&mut outbox[to.0 as usize]);
                (!batch.is_empty()).then_some(batch)
            };
            reading = !self.mesh.send(take, &mut bell);

            let mine = |counts: &[u64]| counts.iter().sum::<u64>() == requests * (cores as u64 - 1);
            if !done && mine(&self.answered) && mine(&self.requests_seen) && self.outbox.iter().all(Vec::is_empty) {
                done = true;
                if running.fetch_sub(1, Ordering::SeqCst) == 1 {
                    self.threads.iter().for_each(Thread::unpark);
                }
            }
            if running.load(Ordering::SeqCst) == 0 {
                return self.naps;
            }
            let asked_all = self.next_request.iter().sum::<u64>() == requests * (cores as u64 - 1);
            let kept_back = self.outbox.iter().any(|batch| !batch.is_empty());
            let idle = if reading { asked_all && !kept_back } else { true };
            if idle && self.mesh.park() {
                // A few wake-ups are also given by the end of the run; sleeping longer than this is a hang.
                let slept = Instant::now();
                thread::park_timeout(Duration::from_secs(20));
                assert!(slept.elapsed() < Duration::from_secs(19), "core {} was never woken", self.mesh.me);
                self.naps += 1;
                self.mesh.unpark();
            }
        }
    }
}

fn stress(cores: usize, ring_batches: usize, requests: u64, seed: u64) -> u64 {
    let ends = build::<Vec<Message>>(cores, ring_batches);
    let barrier = Barrier::new(cores + 1);
    let running = AtomicU64::new(cores as u64);
    let threads = std::sync::OnceLock::new();
    thread::scope(|scope| {
        let mut handles = Vec::new();
        for (me, mesh) in ends.into_iter().enumerate() {
            let (barrier, running, threads) = (&barrier, &running, &threads);
            handles.push(scope.spawn(move || {
                barrier.wait();
                let threads: &Arc<Vec<Thread>> = threads.get().expect("set before the barrier opens");
                let mut core = StressCore {
                    mesh,
                    threads: Arc::clone(threads),
                    rng: Rng::new(seed + me as u64),
                    outbox: vec![Vec::new(); cores],
                    next_request: vec![0; cores],
                    answered: vec![0; cores],
                    requests_seen: vec![0; cores],
                    naps: 0,
                };
                core.run(requests, running)
            }));
        }
        let all: Vec<Thread> = handles.iter().map(|handle| handle.thread().clone()).collect();
        threads.set(Arc::new(all)).expect("set once");
        barrier.wait();
        handles.into_iter().map(|handle| handle.join().expect("a stress core failed")).sum()
    })
}

#[test]
fn tiny_rings_with_stalls_lose_nothing_reorder_nothing_and_never_deadlock() {
    let mut naps = 0;
    for (seed, (cores, ring_batches)) in [(2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (8, 1)].into_iter().enumerate() {
        naps += stress(cores, ring_batches, 5_000, seed as u64);
    }
    assert!(naps > 100, "the stress hardly slept ({naps} naps), so it proved nothing about wake-ups");
}

#[test]
fn full_ring_is_reported_and_its_sender_is_woken_when_room_appears() {
    let mut ends = build::<u32>(2, 1);
    let mut peer = ends.pop().expect("two ends");
    let mut me = ends.pop().expect("two ends");
    let mut rung = Vec::new();
    assert!(!me.send(|_| Some(1), &mut |target| rung.push(target)));
    assert!(me.send(|_| Some(2), &mut |target| rung.push(target)), "the second batch must be kept back");
    assert!(rung.is_empty(), "nobody slept");
    assert!(me.park(), "nothing to do until there is room");
    let mut got = Vec::new();
    assert_eq!(peer.deliver(|from, batch| got.push((from, batch)), &mut |target| rung.push(target)), 1);
    assert_eq!((got, rung), (vec![(ShardId(0), 1)], vec![ShardId(0)]));
}

#[test]
fn parked_core_is_rung_once_and_an_arrived_batch_forbids_parking() {
    let mut ends = build::<u32>(2, 8);
    let mut peer = ends.pop().expect("two ends");
    let mut me = ends.pop().expect("two ends");
    assert!(peer.park());
    let mut rung = 0;
    me.send(|_| Some(1), &mut |_| rung += 1);
    me.send(|_| Some(2), &mut |_| rung += 1);
    assert_eq!(rung, 1, "one doorbell wakes a core, more are waste");
    peer.unpark();
    assert!(!peer.park());
}
