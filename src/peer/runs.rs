//! Which runs of other nodes are connected: never two of one node for long, and the first keeps its place.
//!
//! Another run under a node's identity is the node itself, started again, or a copy of its directory that runs beside
//! it. Nothing in what it says tells which; whether the run that is here still lives does. So a newcomer is refused
//! while that run is *alive*: connected, and heard of less than [`SILENT_US`] ago. A killed process closes its
//! connections, so its next run is let in at once; that of a machine which went down with them open, once they have
//! been silent for so long.
//!
//! A newcomer that was refused, and after which the other run has answered a heartbeat that was sent later, is a *copy*
//! (what merely arrives later may have been on its way for long). It is not let in by a gap in the other's connections
//! either, until that has not been heard of for `repl-timeout`: who comes first when a cut heals would be chance.

use super::{RIVAL_US, SILENT_US};
use crate::base::ids::Uuid;
use crate::merge::origins::OriginId;

/// See the file's head. Every core keeps one, with the connections of all cores.
#[derive(Default)]
pub struct Runs {
    known: Vec<Known>,
    rivals: Vec<Rival>,
}

/// A run that is connected, or was of late.
struct Known {
    run: OriginId,
    conns: usize,
    heard_us: u64,
    lived_us: u64,
}

/// A sign of life, times on `Now::mono_us`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// Whose.
    pub run: OriginId,
    /// When something arrived from it last.
    pub heard_us: u64,
    /// It has answered a heartbeat of this time; 0: none yet.
    pub lived_us: u64,
}

/// What a run is that must be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Perhaps the next one of its node.
    MayBeNext,
    /// One beside its node.
    IsCopy,
}

/// One that was refused.
struct Rival {
    run: OriginId,
    first_us: u64,
    last_us: u64,
}

impl Runs {
    /// A connection with a run stands.
    pub fn came(&mut self, run: OriginId, mono_us: u64) {
        match self.known.iter_mut().find(|known| known.run == run) {
            Some(known) => {
                known.conns += 1;
                known.heard_us = known.heard_us.max(mono_us);
            }
            None => self.known.push(Known { run, conns: 1, heard_us: mono_us, lived_us: 0 }),
        }
    }

    /// One is gone.
    pub fn left(&mut self, run: OriginId) {
        if let Some(known) = self.known.iter_mut().find(|known| known.run == run) {
            known.conns = known.conns.saturating_sub(1);
        }
    }

    /// One has given a sign of life.
    pub fn heard(&mut self, life: &Life) {
        if let Some(known) = self.known.iter_mut().find(|known| known.run == life.run) {
            known.heard_us = known.heard_us.max(life.heard_us);
            known.lived_us = known.lived_us.max(life.lived_us);
        }
    }

    /// Runs that are connected.
    pub fn connected(&self) -> impl Iterator<Item = OriginId> + '_ {
        self.known.iter().filter(|known| known.conns > 0).map(|known| known.run)
    }

    /// Whether some run of a node is.
    pub fn is_connected(&self, node: Uuid) -> bool {
        self.connected().any(|run| run.node == node)
    }

    /// Whether a run that would like to connect must be refused, because another run of its node is here. `timeout_us`:
    /// `repl-timeout`.
    pub fn refuses(&self, run: OriginId, mono_us: u64, timeout_us: u64) -> Option<Refusal> {
        if self.connected().any(|known| known == run) {
            return None;
        }
        let rival = self.rivals.iter().find(|rival| rival.run == run);
        let refusal = |known: &Known| {
            let silent_us = mono_us.saturating_sub(known.heard_us);
            if rival.is_some_and(|rival| known.lived_us > rival.first_us) && silent_us <= timeout_us {
                return Some(Refusal::IsCopy);
            }
            (silent_us <= SILENT_US && known.conns > 0).then_some(Refusal::MayBeNext)
        };
        self.others(run).find_map(refusal)
    }

    /// One was refused; whether that is news.
    pub fn refused(&mut self, run: OriginId, mono_us: u64) -> bool {
        if let Some(rival) = self.rivals.iter_mut().find(|rival| rival.run == run) {
            rival.last_us = rival.last_us.max(mono_us);
            return false;
        }
        self.rivals.push(Rival { run, first_us: mono_us, last_us: mono_us });
        true
    }

    /// Whether a run was refused, and another of its node is connected: what is told of it by others does not count.
    pub fn is_shut_out(&self, run: OriginId) -> bool {
        self.rivals.iter().any(|rival| rival.run == run)
            && self.is_connected(run.node)
            && !self.connected().any(|known| known == run)
    }

    /// Whether a run that is connected must go, because another of its node is connected too: it was silent when that
    /// came, or both came at once, on two cores; then the later start stays.
    pub fn must_go(&self, run: OriginId, mono_us: u64) -> bool {
        let is_alive = |known: &Known| mono_us.saturating_sub(known.heard_us) <= SILENT_US;
        let Some(own) = self.known.iter().find(|known| known.run == run) else { return false };
        self.others(run)
            .filter(|known| known.conns > 0)
            .any(|known| !is_alive(own) || is_alive(known) && known.run.incarnation > run.incarnation)
    }

    /// Forgets what says nothing any more.
    pub fn tend(&mut self, mono_us: u64, timeout_us: u64) {
        let is_recent = |at_us: u64, keep_us: u64| mono_us.saturating_sub(at_us) <= keep_us;
        self.known.retain(|known| known.conns > 0 || is_recent(known.heard_us, timeout_us));
        self.rivals.retain(|rival| is_recent(rival.last_us, RIVAL_US));
    }

    fn others(&self, run: OriginId) -> impl Iterator<Item = &Known> {
        self.known.iter().filter(move |known| known.run.node == run.node && known.run != run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT_US: u64 = 60_000_000;
    const SECOND_US: u64 = 1_000_000;

    fn run(incarnation: u64) -> OriginId {
        OriginId { node: Uuid([1; 16]), incarnation }
    }

    fn life(incarnation: u64, heard_us: u64, lived_us: u64) -> Life {
        Life { run: run(incarnation), heard_us, lived_us }
    }

    #[test]
    fn a_node_that_starts_again_is_let_in_when_the_run_before_is_gone_or_has_been_silent() {
        let mut runs = Runs::default();
        runs.came(run(1), 0);
        assert_eq!(runs.refuses(OriginId { node: Uuid([2; 16]), incarnation: 9 }, 1, TIMEOUT_US), None);
        assert_eq!(runs.refuses(run(1), 1, TIMEOUT_US), None, "a second connection of the same run");
        assert_eq!(runs.refuses(run(2), 1, TIMEOUT_US), Some(Refusal::MayBeNext));
        assert!(runs.refused(run(2), 1) && !runs.refused(run(2), 2));
        // What was on its way when it ended.
        runs.heard(&life(1, 20 * SECOND_US, 0));
        assert_eq!(runs.refuses(run(2), 20 * SECOND_US + SILENT_US, TIMEOUT_US), Some(Refusal::MayBeNext));
        assert_eq!(runs.refuses(run(2), 20 * SECOND_US + SILENT_US + 1, TIMEOUT_US), None, "it says nothing any more");
        runs.left(run(1));
        assert_eq!(runs.refuses(run(2), 20 * SECOND_US + 1, TIMEOUT_US), None);
    }

    #[test]
    fn a_copy_is_refused_in_gaps_of_the_connections_too_until_the_timeout() {
        let mut runs = Runs::default();
        runs.came(run(1), 0);
        runs.refused(run(2), 1);
        runs.heard(&life(1, 10 * SECOND_US, 9 * SECOND_US));
        assert_eq!(runs.refuses(run(2), 10 * SECOND_US, TIMEOUT_US), Some(Refusal::IsCopy));
        assert!(runs.is_shut_out(run(2)) && !runs.is_shut_out(run(1)));
        runs.left(run(1));
        runs.tend(11 * SECOND_US, TIMEOUT_US);
        assert!(!runs.is_shut_out(run(2)));
        assert_eq!(runs.refuses(run(2), 11 * SECOND_US, TIMEOUT_US), Some(Refusal::IsCopy));
        assert_eq!(runs.refuses(run(1), 11 * SECOND_US, TIMEOUT_US), None, "it comes back to its place");
        assert_eq!(runs.refuses(run(3), 11 * SECOND_US, TIMEOUT_US), None, "a start that was never refused");
        assert_eq!(runs.refuses(run(2), 10 * SECOND_US + TIMEOUT_US + 1, TIMEOUT_US), None);
        // The other way about: the copy holds the place now.
        runs.came(run(2), 80 * SECOND_US);
        assert_eq!(runs.refuses(run(1), 81 * SECOND_US, TIMEOUT_US), Some(Refusal::MayBeNext));
    }

    #[test]
    fn of_two_that_are_connected_one_goes() {
        let mut runs = Runs::default();
        runs.came(run(1), 0);
        runs.came(run(2), SECOND_US);
        assert!(runs.must_go(run(1), SECOND_US) && !runs.must_go(run(2), SECOND_US), "both came at once");
        runs.heard(&life(1, 9 * SECOND_US, 0));
        assert!(runs.must_go(run(2), 9 * SECOND_US) && !runs.must_go(run(1), 9 * SECOND_US), "the later one is silent");
        runs.left(run(2));
        assert!(!runs.must_go(run(1), 9 * SECOND_US));
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut runs = Runs::default();
        runs.came(run(1), 0);
        runs.refused(run(2), 1);
        runs.left(run(1));
        runs.tend(TIMEOUT_US + RIVAL_US, TIMEOUT_US);
        assert!(runs.known.is_empty() && runs.rivals.is_empty());
    }
}
