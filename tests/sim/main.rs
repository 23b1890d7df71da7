//! A deterministic simulator: whole nodes of production workers under faults, everything from one number.
//!
//! Played are what `runtime` is: the network (`net`), the mesh's wake-ups and the pump's rounds (`world`), clocks
//! (`clock`), directories (`disk`), dials, kills and starts (`node`, `faults`). The rings between cores are the
//! production ones. Clients (`client`) send what `workload` draws; `ledger` reads every effect as it is minted;
//! `checks` says what must hold. A run is laid out beforehand (`plan`), so that steps can be left out: `shrink`.
//!
//! ```text
//! cargo test --test sim                                    300 runs on all cores, but at most about 80 seconds
//! cargo test --profile sim --test sim -- --seeds 0..20000 --jobs 2
//! cargo test --profile sim --test sim -- --seed 7          one run, twice; a failure is shrunk and told
//! cargo test --profile sim --test sim -- --seed 7 --keep 3,9 --trace [KEY]
//! ```

#![allow(missing_docs, unreachable_pub, clippy::print_stdout, reason = "a test program without the usual harness")]

mod absences;
mod checks;
mod client;
mod clock;
mod coverage;
mod disk;
mod faults;
mod ledger;
mod net;
mod node;
mod plan;
mod shrink;
mod topology;
mod trace;
mod workload;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coverage::Coverage;
use plan::Plan;
use trace::{Hash, Trace};
use world::World;

#[global_allocator]
static ALLOCATOR: tutti::mem::alloc::Mimalloc = tutti::mem::alloc::Mimalloc;

/// How a run ended.
pub struct Outcome {
    pub broken: Option<String>,
    pub hash: Hash,
    pub coverage: Coverage,
    pub commands: u64,
    pub rounds: u64,
    pub virtual_us: u64,
}

impl Outcome {
    /// Failures of one kind begin alike; `None`: none.
    pub fn kind(&self) -> Option<String> {
        let what = self.broken.as_ref()?;
        Some(what.chars().filter(|c| !c.is_ascii_digit()).take(14).collect())
    }
}

/// Runs a plan to its end.
pub fn run(plan: Plan, trace: Trace) -> Outcome {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let heal_us = plan.heal_us;
        let mut world = World::new(plan, trace);
        world.run_until(heal_us);
        world.settle();
        world.tell_status();
        Outcome {
            broken: world.broken.take(),
            hash: world.hash,
            commands: world.ledger.commands,
            rounds: world.rounds,
            virtual_us: world.now_us,
            coverage: world.coverage,
        }
    }));
    told.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Outcome {
            broken: Some(format!("crash: {text}")),
            hash: Hash::default(),
            coverage: Coverage::default(),
            commands: 0,
            rounds: 0,
            virtual_us: 0,
        }
    })
}

/// What was asked for.
struct Options {
    seeds: std::ops::Range<u64>,
    jobs: usize,
    /// Begin no run after so long.
    limit: Duration,
    keep: Option<Vec<usize>>,
    trace: Option<Vec<Vec<u8>>>,
    /// The whole table is judged.
    is_full: bool,
    progress: bool,
    /// Stop at the first failure and say only its number.
    is_brief: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        seeds: 0..300,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        limit: Duration::from_secs(80),
        keep: None,
        trace: None,
        is_full: false,
        progress: false,
        is_brief: false,
    };
    let number = |word: Option<String>| -> Result<u64, String> {
        let word = word.ok_or("a number is missing")?;
        word.parse().map_err(|_| format!("{word} is no number"))
    };
    let mut words = std::env::args().skip(1).peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => {
                let seed = number(words.next())?;
                options.seeds = seed..seed + 1;
                options.limit = Duration::MAX;
            }
            "--seeds" => {
                let range = words.next().ok_or("a range is missing")?;
                let (from, to) = range.split_once("..").ok_or("a range is FROM..TO")?;
                options.seeds = number(Some(from.into()))?..number(Some(to.into()))?;
                options.limit = Duration::MAX;
                options.progress = true;
            }
            "--jobs" => options.jobs = number(words.next())?.max(1) as usize,
            "--seconds" => options.limit = Duration::from_secs(number(words.next())?),
            "--keep" => {
                let list = words.next().ok_or("a list of steps is missing")?;
                options.keep = Some(list.split(',').filter_map(|word| word.parse().ok()).collect());
            }
            "--trace" => {
                let keys = words.next_if(|word| !word.starts_with("--"));
                options.trace =
                    Some(keys.map_or(Vec::new(), |keys| keys.split(',').map(|key| key.as_bytes().to_vec()).collect()));
            }
            "--full" => options.is_full = true,
            "--brief" => options.is_brief = true,
            // What `cargo test` passes on to every test program.
            "--nocapture" | "--quiet" | "-q" | "--include-ignored" | "--show-output" => {}
            "--test-threads" | "--color" | "--format" => _ = words.next(),
            "--list" => options.seeds = 0..0,
            _ if word.starts_with("--test-threads=") || word.starts_with("--color=") => {}
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            // A filter for names of tests: there is one here.
            _ if !"seeds_agree".contains(word.as_str()) => options.seeds = 0..0,
            _ => {}
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(reason) => {
            println!("sim: {reason}");
            return ExitCode::FAILURE;
        }
    };
    if options.keep.is_some() || options.trace.is_some() {
        return replay(&options);
    }
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let next = AtomicU64::new(options.seeds.start);
    let total = Mutex::new((Coverage::default(), Vec::new(), [0u64; 4]));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| work(&options, &next, &total, began));
        }
    });
    let (coverage, mut failures, [runs, commands, rounds, virtual_us]) =
        total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "sim: {runs} runs, {} failed, {commands} commands, {rounds} rounds, {} s played in {seconds:.1} s ({:.1} runs/s)",
        failures.len(),
        virtual_us / 1_000_000,
        runs as f64 / seconds
    );
    if options.progress && !options.is_brief {
        print!("{}", coverage.table());
    }
    failures.sort();
    for (seed, _) in failures.iter().take(3) {
        if options.is_brief {
            println!("failed: {seed}");
        } else {
            tell(*seed);
        }
    }
    if failures.len() > 3 {
        println!("all that failed: {:?}", failures.iter().map(|(seed, _)| *seed).collect::<Vec<_>>());
    }
    let missing = if options.is_full { coverage.missing() } else { Vec::new() };
    for rule in &missing {
        println!("seen fewer than {} times: {rule}", coverage::LEAST);
    }
    if failures.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Total = (Coverage, Vec<(u64, String)>, [u64; 4]);

fn work(options: &Options, next: &AtomicU64, total: &Mutex<Total>, began: Instant) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= options.seeds.end || began.elapsed() > options.limit {
            return;
        }
        let mut outcome = run(Plan::of(seed), Trace::default());
        // Map order, addresses, hidden clocks: a second run must be the first again.
        if outcome.broken.is_none() && (seed.is_multiple_of(50) || options.seeds.end - options.seeds.start == 1) {
            let again = run(Plan::of(seed), Trace::default());
            if again.hash != outcome.hash {
                outcome.broken =
                    Some(format!("the same seed ran differently: {:?} and {:?}", outcome.hash, again.hash));
            }
        }
        let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        total.0.join(&outcome.coverage);
        for (sum, count) in total.2.iter_mut().zip([1, outcome.commands, outcome.rounds, outcome.virtual_us]) {
            *sum += count;
        }
        if let Some(what) = outcome.broken {
            if !options.is_brief {
                println!("seed {seed} failed: {}", what.lines().next().unwrap_or_default());
            }
            total.1.push((seed, what));
            if options.is_brief || total.1.len() >= 20 {
                next.store(options.seeds.end, Ordering::Relaxed);
            }
        }
        let runs = total.2[0];
        if options.progress && !options.is_brief && runs.is_multiple_of(500) {
            let rate = runs as f64 / began.elapsed().as_secs_f64();
            println!("  {runs} runs, {} failed, {rate:.1} runs/s", total.1.len());
        }
    }
}

// A failure, made short, and how to see it again.
fn tell(seed: u64) {
    let plan = Plan::of(seed);
    let (kept, outcome) = shrink::shrink(&plan, run(plan.clone(), Trace::default()));
    let what = outcome.broken.unwrap_or_default();
    let short = plan.keeping(&kept);
    println!("\nseed {seed} ({}), {} of {} steps are enough:", plan.title, kept.len(), plan.steps.len());
    println!("{what}");
    for step in short.steps.iter().take(40) {
        let text: String = format!("{:?}", Shown(&step.what)).chars().take(220).collect();
        println!("  {:>10.6} s  {text}", step.at_us as f64 / 1e6);
    }
    let list: Vec<String> = kept.iter().map(usize::to_string).collect();
    let key = shrink::keys(&short).into_iter().find(|key| what.contains(&format!("key {} ", ledger::show(key))));
    let key = key.map_or(String::new(), |key| format!(" {}", ledger::show(&key)));
    println!("replay: cargo test --profile sim --test sim -- --seed {seed} --keep {} --trace{key}", list.join(","));
}

struct Shown<'a>(&'a plan::What);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            plan::What::Fault(fault) => write!(out, "{fault:?}"),
            plan::What::Commands { client, commands } => {
                write!(out, "client {client}:")?;
                for command in commands {
                    let words: Vec<String> = command.args.iter().map(|arg| ledger::show(arg)).collect();
                    write!(out, " {};", words.join(" "))?;
                }
                Ok(())
            }
        }
    }
}

fn replay(options: &Options) -> ExitCode {
    let plan = Plan::of(options.seeds.start);
    let plan = options.keep.as_ref().map_or(plan.clone(), |kept| plan.keeping(kept));
    let trace =
        Trace { is_on: options.trace.is_some(), keys: options.trace.clone().unwrap_or_default(), ..Trace::default() };
    println!("{}, edges {:?}, {:?}", plan.title, plan.edges, plan.limits);
    for (at, node) in plan.nodes.iter().enumerate() {
        println!("node {at}: {} cores, {} ms ahead, {} ppm", node.cores, node.skew_ms, node.drift_ppm);
    }
    let outcome = run(plan, trace);
    println!("{:?} after {} s", outcome.hash, outcome.virtual_us / 1_000_000);
    match outcome.broken {
        Some(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
