//! Makes a failing run short: leaves out steps as long as it still fails.

use crate::plan::{Plan, What};
use crate::trace::Trace;
use crate::{Outcome, run};

/// Runs at most so many times.
const TRIES_MAX: usize = 400;

/// The steps that are enough to fail, and how that looks.
pub fn shrink(plan: &Plan, outcome: Outcome) -> (Vec<usize>, Outcome) {
    let kind = outcome.kind();
    let mut best = (all(plan), outcome);
    let mut tries = 0;
    let mut attempt = |kept: &[usize]| {
        tries += 1;
        let outcome = run(plan.keeping(kept), Trace::default());
        (tries < TRIES_MAX && outcome.kind() == kind).then_some(outcome)
    };
    // Without faults at all, or clients' commands only up to the first that matters: halves, quarters, ... single steps.
    let mut size = best.0.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut any = false;
        while at < best.0.len() {
            let kept: Vec<usize> = best
                .0
                .iter()
                .enumerate()
                .filter(|(place, _)| !(at..at + size).contains(place))
                .map(|(_, step)| *step)
                .collect();
            match attempt(&kept) {
                Some(outcome) => {
                    best = (kept, outcome);
                    any = true;
                }
                None => at += size,
            }
        }
        if size == 1 && !any {
            return best;
        }
        size = if size > 1 { size / 2 } else { 1 };
        if best.0.is_empty() {
            return best;
        }
    }
}

fn all(plan: &Plan) -> Vec<usize> {
    (0..plan.steps.len()).collect()
}

/// The keys a plan names, for a trace.
pub fn keys(plan: &Plan) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    for step in &plan.steps {
        if let What::Commands { commands, .. } = &step.what {
            keys.extend(commands.iter().flat_map(|command| command.args.get(1).cloned()));
        }
    }
    keys.sort();
    keys.dedup();
    keys
}
