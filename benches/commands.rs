//! What a command costs on its shard: handler, table and merge state, without parsing and sockets.
//!
//! One shard with 100,000 keys of 16 bytes and 64-byte values, keys picked at random: mostly waiting for memory. `solo`
//! does not log writes (no peer is configured); `logged` appends each to the backlog, as a node with peers does.
//! `cached` is `solo` with 1,000 keys: the instructions alone. Time is the thread's own. An iteration is one command.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tutti::base::ids::{Db, ShardId, Uuid};
use tutti::base::rng::Rng;
use tutti::base::slot::ShardMap;
use tutti::base::time::Now;
use tutti::command::args::Args;
use tutti::command::spec::Run;
use tutti::command::{Ctx, Handler, Limits, table};
use tutti::merge::origins::OriginId;
use tutti::merge::realm::Realm;
use tutti::resp::parse::{Argv, Limits as ParseLimits, Parser};
use tutti::resp::write::{Reply, Version, encode_command};
use tutti::shard::{Shard, ShardSettings};

const DIGITS: usize = 12;

/// Allocates as the server does.
#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

/// A command whose keys are rewritten in place before each run, so that the arguments stay in cache as they would be
/// after parsing.
struct Prepared {
    bytes: Vec<u8>,
    argv: Argv,
    key_digits: Vec<usize>,
    handler: Handler,
}

impl Prepared {
    /// Arguments that are `prefix:` followed by [`DIGITS`] zeros are keys.
    fn new(args: &[&str]) -> Option<Self> {
        let handler = match table::lookup(args[0].as_bytes())?.1.run {
            Run::Owner(handler) | Run::Split(handler, _) => handler,
            _ => return None,
        };
        let mut bytes = Vec::new();
        let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        encode_command(&mut bytes, &args);
        let mut argv = Argv::new();
        Parser::new().next(&bytes, &ParseLimits::default(), &mut argv).expect("well formed");
        let zeros = [b'0'; DIGITS];
        let is_key = |at: &usize| bytes[*at..].starts_with(&zeros) && bytes[at - 1] == b':';
        let key_digits = (1..bytes.len()).filter(is_key).collect();
        Some(Self { bytes, argv, key_digits, handler })
    }

    fn pick_keys(&mut self, rng: &mut Rng, keys: u64) {
        for &at in &self.key_digits {
            let mut key = rng.below(keys);
            for digit in self.bytes[at..at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (key % 10) as u8;
                key /= 10;
            }
        }
    }
}

/// Time this thread has run, so that a busy machine spoils the caches but not the count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux and `time` is ours to write.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the thread clock can be read");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

struct Bench {
    keys: u64,
    shard: Shard,
    rng: Rng,
    limits: Limits,
    scratch: Vec<u8>,
    out: Vec<u8>,
    ticks: u64,
    work: usize,
}

impl Bench {
    fn new(keys: u64, logging: bool) -> Self {
        let own = OriginId { node: Uuid([1; 16]), incarnation: 1 };
        let settings = ShardSettings {
            id: ShardId(0),
            map: ShardMap::new(1),
            databases: 16,
            backlog_bytes_max: 1 << 20,
            drift_ms_max: 1000,
            seed: 1,
        };
        let mut shard = Shard::new(Arc::new(Realm::new(own, 1)), &settings);
        shard.logging = logging;
        Self {
            keys,
            shard,
            rng: Rng::new(7),
            limits: Limits::default(),
            scratch: Vec::new(),
            out: Vec::new(),
            ticks: 0,
            work: 0,
        }
    }

    fn run(&mut self, command: &mut Prepared) {
        command.pick_keys(&mut self.rng, self.keys);
        // A millisecond per 256 commands: about what a busy core sees.
        self.ticks += 1;
        let ms = self.ticks >> 8;
        let now = Now { wall_ms: 1_770_000_000_000 + ms, mono_us: ms * 1000 };
        // A core looks after deadlines and what is stable in every round of its pump.
        if self.ticks.is_multiple_of(64) {
            self.shard.background(now, &mut self.work);
        }
        if self.out.len() > 1 << 14 {
            self.out.clear();
        }
        let mut reply = Reply::new(&mut self.out, Version::Resp2);
        let mut args = Args::new(&command.argv, &command.bytes);
        let mut ctx = Ctx {
            shard: &mut self.shard,
            db: Db(0),
            now,
            limits: &self.limits,
            scratch: &mut self.scratch,
            foreseen: None,
        };
        (command.handler)(&mut ctx, &mut args, &mut reply).expect("no error");
        black_box(&self.out);
    }

    /// Runs the command until each key was very likely met.
    fn fill(&mut self, args: &[&str]) {
        let Some(mut command) = Prepared::new(args) else { return };
        for _ in 0..self.keys * 12 / command.key_digits.len() as u64 {
            self.run(&mut command);
        }
    }
}

fn commands(criterion: &mut Criterion) {
    let value = "v".repeat(64);
    let mset: Vec<&str> = std::iter::once("mset").chain((0..10).flat_map(|_| ["key:000000000000", &*value])).collect();
    let mget: Vec<&str> = std::iter::once("mget").chain((0..10).map(|_| "key:000000000000")).collect();
    let rows: [(&str, &[&str]); 10] = [
        ("get", &["get", "key:000000000000"]),
        ("set", &["set", "key:000000000000", &value]),
        ("set_ex", &["set", "ttl:000000000000", &value, "EX", "1000"]),
        ("incr", &["incr", "num:000000000000"]),
        ("mset10", &mset),
        ("mget10", &mget),
        ("exists", &["exists", "key:000000000000"]),
        ("expire", &["expire", "key:000000000000", "1000"]),
        ("hget", &["hget", "obj:000000000000", "field"]),
        ("hset", &["hset", "obj:000000000000", "field", &value]),
    ];
    for (mode, keys, logging) in [("cached", 1000, false), ("solo", 100_000, false), ("logged", 100_000, true)] {
        let mut group = criterion.benchmark_group(mode);
        for (name, args) in rows {
            let Some(mut command) = Prepared::new(args) else { continue };
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                let mut bench = Bench::new(keys, logging);
                bench.fill(match name {
                    "get" | "mget10" | "exists" | "expire" => &mset,
                    "hget" => rows[rows.len() - 1].1,
                    _ => args,
                });
                bencher.iter_custom(|count| {
                    let start = cpu_time();
                    for _ in 0..count {
                        bench.run(&mut command);
                    }
                    cpu_time() - start
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = commands
}
criterion_main!(benches);
