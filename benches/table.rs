//! What the keyspace pays for its tables: look-ups, overwrites, memory per key, and the longest single insertion.
//!
//! Goals: a hit in a small table costs what plain hashbrown costs; an overwrite of equal size allocates nothing; no
//! insertion takes over 200 us however large a table grows; 16-byte keys with 64-byte values cost at most 130 bytes of
//! resident memory each, over one table per slot. Not goals: commands, merging, expiry.
//!
//! `cargo bench --bench table` runs everything (about 2 GiB of memory); without `--bench`, as under
//! `cargo test --benches`, everything runs once and small.

#![allow(clippy::print_stdout)]

use std::{
    env, fs,
    hint::black_box,
    ptr, slice,
    time::{Duration, Instant},
};

use ahash::RandomState;
use criterion::{BatchSize, Criterion};
use hashbrown::HashTable;
use tutti::{
    base::{ids::SLOTS, rng::Rng, slot::slot_of},
    mem::{entry::Entry, table::ScanTable},
};

#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

type Value = Entry<u8>;

const VALUE: [u8; 64] = [b'v'; 64];

/// How often a growing table is timed.
const RUNS: usize = 4;

fn main() {
    let is_full = env::args().any(|arg| arg == "--bench");
    let wants = |part: &str| env::args().skip(1).all(|arg| arg.starts_with('-')) || env::args().any(|arg| arg == part);
    if wants("pause") {
        let len = if is_full { 10_000_000 } else { 2000 };
        pauses("one table", 1, len);
        pauses("16384 tables", SLOTS, len);
    }
    if wants("memory") {
        memory(if is_full { 1_000_000 } else { 1000 });
    }
    if wants("scan") {
        scan(if is_full { 1_000_000 } else { 2000 });
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    small_tables(&mut criterion);
    for len in [1000, if is_full { 1_000_000 } else { 2000 }] {
        keyspace(&mut criterion, len);
    }
    criterion.final_summary();
}

/// 16 bytes, as `memtier_benchmark` and people write them.
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn entry(number: u64) -> Value {
    Entry::plain(&key(number), &VALUE, number, None)
}

/// One table or one per slot: what the keyspace does for each command.
struct Tables {
    tables: Vec<ScanTable<Value>>,
    seeds: RandomState,
}

impl Tables {
    fn new(count: usize) -> Self {
        let tables = (0..count).map(|_| ScanTable::new()).collect();
        Self { tables, seeds: RandomState::with_seeds(1, 2, 3, 4) }
    }

    fn filled(count: usize, len: u64) -> Self {
        let mut tables = Self::new(count);
        for number in 0..len {
            tables.insert(entry(number));
        }
        tables
    }

    fn slot(&self, key: &[u8]) -> usize {
        if self.tables.len() == 1 { 0 } else { usize::from(slot_of(key).0) }
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<&Value> {
        self.tables[self.slot(key)].find(self.seeds.hash_one(key), |e| e.key() == key)
    }

    #[inline]
    fn find_mut(&mut self, key: &[u8]) -> Option<&mut Value> {
        let slot = self.slot(key);
        self.tables[slot].find_mut(self.seeds.hash_one(key), |e| e.key() == key)
    }

    #[inline]
    fn insert(&mut self, entry: Value) {
        let (slot, hash) = (self.slot(entry.key()), self.seeds.hash_one(entry.key()));
        self.tables[slot].insert_unique(hash, entry, |e| self.seeds.hash_one(e.key()));
    }

    #[inline]
    fn remove(&mut self, key: &[u8]) -> Option<Value> {
        let (slot, hash) = (self.slot(key), self.seeds.hash_one(key));
        self.tables[slot].remove(hash, |e| e.key() == key, |e| self.seeds.hash_one(e.key()))
    }
}

/// Against plain hashbrown, where both are at their fullest.
fn small_tables(c: &mut Criterion) {
    let mut group = c.benchmark_group("find hit");
    for len in [50, 890] {
        let ours = Tables::filled(1, len);
        let mut plain = HashTable::new();
        for number in 0..len {
            let entry = entry(number);
            let hash = ours.seeds.hash_one(entry.key());
            plain.insert_unique(hash, entry, |e: &Value| ours.seeds.hash_one(e.key()));
        }
        let mut rng = Rng::new(1);
        group.bench_function(format!("ScanTable, {len} keys"), |b| {
            b.iter(|| ours.find(&key(rng.below(len))).map(Entry::stamp));
        });
        group.bench_function(format!("hashbrown, {len} keys"), |b| {
            b.iter(|| {
                let key = key(rng.below(len));
                plain.find(ours.seeds.hash_one(&key[..]), |e| e.key() == key).map(Entry::stamp)
            });
        });
    }
}

/// One table per slot, and one for all, which saves a cache line per look-up and loses slot-by-slot work.
fn keyspace(c: &mut Criterion, len: u64) {
    for (name, count) in [("16384 tables", SLOTS), ("one table", 1)] {
        let mut group = c.benchmark_group(format!("{name}, {len} keys"));
        let mut tables = Tables::filled(count, len);
        let mut rng = Rng::new(2);
        group.bench_function("find hit", |b| {
            b.iter(|| {
                let key = key(rng.below(len));
                black_box(tables.find(&key).map(Entry::view));
            });
        });
        group.bench_function("find miss", |b| {
            b.iter(|| {
                let key = key(len + rng.below(len));
                black_box(tables.find(&key).map(Entry::view));
            });
        });
        group.bench_function("overwrite 64 B", |b| {
            b.iter(|| {
                let number = rng.below(len);
                let entry = tables.find_mut(&key(number)).expect("all keys below len are present");
                entry.set_plain(black_box(&VALUE), number, None);
            });
        });
        group.bench_function("insert, then remove", |b| {
            b.iter(|| {
                let number = len + rng.below(len);
                tables.insert(entry(number));
                tables.remove(&key(number))
            });
        });
        drop(tables);
        group.bench_function("fill", |b| {
            // The whole table per iteration: divide by its length.
            let fill = |mut tables: Tables| {
                for number in 0..len {
                    tables.insert(entry(number));
                }
                tables
            };
            b.iter_batched(|| Tables::new(count), fill, BatchSize::PerIteration);
        });
    }
}

/// The time of every single insertion; the allocation of the entry is not part of it. The n-th insertion does the
/// same work in every run, so its shortest time over several runs is its own: the rest is what the machine did
/// meanwhile, shown by the last line.
///
/// With and without huge pages: where mimalloc's memory may consist of them, the first touch of each zeroes 2 MiB,
/// which took up to 13 ms on a small virtual machine, and some first touches are ours.
fn pauses(name: &str, count: usize, len: usize) {
    for (pages, is_disabled) in [("huge pages as the system has them", 0), ("no huge pages", 1)] {
        let best = SharedNanos::new(len);
        for run in 1..=RUNS {
            in_child(|| {
                // SAFETY: this sets one flag of this process.
                unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, is_disabled, 0, 0, 0) };
                let mut tables = Tables::new(count);
                time_each(best.get(), |entry| tables.insert(entry));
            });
            if run == 1 {
                report(&format!("insert into {name} up to {len}, {pages}, first run"), best.get().to_vec());
            }
        }
        report(&format!("insert into {name} up to {len}, {pages}, best of {RUNS} runs"), best.get().to_vec());
    }
    let mut nothing = vec![u32::MAX; len];
    time_each(&mut nothing, |entry| {
        black_box(entry.key()[15]);
    });
    report("nothing, as often, one run", nothing);
}

/// A list that a child process fills.
struct SharedNanos {
    at: *mut u32,
    len: usize,
}

impl SharedNanos {
    /// Leaked: a bench ends soon.
    fn new(len: usize) -> Self {
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping touches no memory of ours.
        let at = unsafe { libc::mmap(ptr::null_mut(), len * size_of::<u32>(), read_write, shared, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED, "no memory for {len} times");
        let nanos = Self { at: at.cast(), len };
        nanos.get().fill(u32::MAX);
        nanos
    }

    #[allow(clippy::mut_from_ref)]
    fn get(&self) -> &mut [u32] {
        // SAFETY: the mapping is `len` numbers long, zeroed by the kernel, and never unmapped. No two borrows are
        // alive at once: callers use them for one statement, and the parent waits while a child uses its own.
        unsafe { slice::from_raw_parts_mut(self.at, self.len) }
    }
}

/// Every run starts with a fresh allocator: in a reused one mimalloc gives the last run's memory back to the kernel in
/// the middle of our insertions, some milliseconds at a time.
fn in_child(work: impl FnOnce()) {
    // SAFETY: this process has one thread here, so the child may do whatever its parent could; it leaves by `_exit`.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0, "cannot fork");
        if child == 0 {
            work();
            libc::_exit(0);
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, 0);
        assert_eq!(status, 0, "the timing run failed");
    }
}

/// Lowers each place of `best` to the nanoseconds its call took.
fn time_each(best: &mut [u32], mut step: impl FnMut(Value)) {
    for (number, best) in best.iter_mut().enumerate() {
        let entry = black_box(entry(number as u64));
        let start = Instant::now();
        step(entry);
        *best = (*best).min(start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
    }
}

fn report(what: &str, mut sorted_ns: Vec<u32>) {
    sorted_ns.sort_unstable();
    let at = |share: f64| sorted_ns[((sorted_ns.len() - 1) as f64 * share) as usize];
    let over = sorted_ns.iter().filter(|ns| **ns > 200_000).count();
    let mean = sorted_ns.iter().map(|ns| f64::from(*ns)).sum::<f64>() / sorted_ns.len() as f64;
    println!(
        "{what}: mean {mean:.0} ns, p50 {} ns, p99.9 {:.1} us, p99.99 {:.1} us, max {:.1} us, {over} over 200 us",
        at(0.5),
        f64::from(at(0.999)) / 1000.0,
        f64::from(at(0.9999)) / 1000.0,
        f64::from(at(1.0)) / 1000.0,
    );
}

/// One whole scan of one table, as SCAN and HSCAN do it.
fn scan(len: u64) {
    let tables = Tables::filled(1, len);
    for count in [10, 100, 1000] {
        let (mut cursor, mut seen, mut steps, mut longest) = (0, 0u64, 0u64, Duration::ZERO);
        let start = Instant::now();
        loop {
            let step = Instant::now();
            cursor = tables.tables[0].scan(cursor, count, |e| tables.seeds.hash_one(e.key()), |_| seen += 1);
            longest = longest.max(step.elapsed());
            steps += 1;
            if cursor == 0 {
                break;
            }
        }
        let (step, key) = (start.elapsed() / steps as u32, start.elapsed() / seen as u32);
        println!("scan of {seen} by {count}: {steps} steps of {step:?} (longest {longest:?}), {key:?} per key");
    }
}

/// Resident memory with everything in it, per key.
fn memory(len: u64) {
    let before = resident_bytes();
    let tables = Tables::filled(SLOTS, len);
    let after = resident_bytes();
    let own: usize = tables.tables.iter().map(ScanTable::heap_bytes).sum();
    let entries: usize = tables.tables.iter().flat_map(ScanTable::iter).map(Entry::heap_bytes).sum();
    let per_key = |bytes: usize| bytes as f64 / len as f64;
    println!(
        "memory of {len} keys of 16 B with 64 B values in {SLOTS} tables: {:.1} bytes resident per key \
         ({:.1} entries, {:.1} tables)",
        per_key(after.saturating_sub(before)),
        per_key(entries),
        per_key(own + SLOTS * size_of::<ScanTable<Value>>()),
    );
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").expect("this bench runs on Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("statm has a second number");
    pages * 4096
}
