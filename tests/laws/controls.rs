//! Controls: the model notices when a rule is broken. Without these a check that can see nothing would look the same
//! as a server that does nothing wrong.

use crate::mesh::Broken;
use crate::model::{DELETES, DUE, Plan, TIGHT, TOPOLOGIES, run};

// How many of the histories show that something is wrong.
fn caught(plan: Plan, broken: Broken, seeds: u64) -> usize {
    let plan = Plan { broken, ..plan };
    let is_caught = |seed: u64, topology| {
        let told = std::panic::catch_unwind(|| run(seed, topology, 2 + (seed % 4) as usize, &plan));
        told.map_or(true, |told| told.is_err())
    };
    let histories = (0..seeds).flat_map(|seed| TOPOLOGIES.map(|topology| (seed, topology)));
    histories.filter(|&(seed, topology)| is_caught(seed, topology)).count()
}

#[test]
fn a_sound_mesh_is_not_caught() {
    assert_eq!(caught(DUE, Broken::default(), 5) + caught(DELETES, Broken::default(), 5), 0);
}

#[test]
fn collecting_without_waiting_for_stability_is_caught() {
    assert!(caught(DELETES, Broken { no_stability_wait: true, ..Broken::default() }, 15) > 10);
}

#[test]
fn resets_that_do_not_say_what_they_observed_are_caught() {
    assert!(caught(DELETES, Broken { no_observations: true, ..Broken::default() }, 15) > 10);
}

#[test]
fn equal_stamps_decided_by_each_node_for_itself_are_caught() {
    assert!(caught(TIGHT, Broken { private_ties: true, ..Broken::default() }, 20) > 2);
}

#[test]
fn acknowledgements_that_overtake_their_senders_writes_are_caught() {
    assert!(caught(DELETES, Broken { early_acks: true, ..Broken::default() }, 30) > 2);
}
