//! Which link may begin to be sent what this node lacks: one after another, so that masters which all hold the same
//! writes do not all send them.
//!
//! A node that returns lacks the same writes on every link. Each master streams what the reader did not have when the
//! link began, of every origin the reader does not hear directly; begun together, all of them would send all of it.
//! So a link waits for its turn, and has it until what its master had then is here. Whatever is slow is not waited for
//! long: then all begin, and what comes twice is dropped.

use std::collections::VecDeque;

use super::mesh::PeerId;

/// A link that takes longer for what it was behind lets the others begin, microseconds.
const TURN_US: u64 = 2_000_000;

/// Kept by one core for all links of the node.
#[derive(Default)]
pub struct Turns {
    /// Whose turn it is, and since when.
    now: Vec<(PeerId, u64)>,
    waiting: VecDeque<PeerId>,
}

impl Turns {
    /// A link would like to begin.
    pub fn ask(&mut self, link: PeerId) {
        self.waiting.push_back(link);
    }

    /// A link has what it was behind, or is gone.
    pub fn end(&mut self, link: PeerId) {
        self.now.retain(|(known, _)| *known != link);
        self.waiting.retain(|known| *known != link);
    }

    /// The links that may begin now.
    pub fn next(&mut self, mono_us: u64) -> Vec<PeerId> {
        let before = self.now.len();
        self.now.retain(|(_, since_us)| mono_us.saturating_sub(*since_us) < TURN_US);
        let is_slow = self.now.len() < before;
        if !self.now.is_empty() {
            return Vec::new();
        }
        let count = if is_slow { self.waiting.len() } else { 1 };
        let next: Vec<PeerId> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        self.now.extend(next.iter().map(|link| (*link, mono_us)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ConnId, ShardId};

    fn link(conn: u64) -> PeerId {
        PeerId { home: ShardId(0), conn: ConnId(conn) }
    }

    #[test]
    fn links_begin_one_after_another() {
        let mut turns = Turns::default();
        (1..=3).for_each(|conn| turns.ask(link(conn)));
        assert_eq!(turns.next(0), [link(1)]);
        assert_eq!(turns.next(1), []);
        turns.end(link(2));
        turns.end(link(1));
        assert_eq!(turns.next(2), [link(3)], "the second is gone");
        turns.end(link(3));
        assert_eq!(turns.next(3), []);
    }

    #[test]
    fn nobody_waits_long_for_a_slow_link() {
        let mut turns = Turns::default();
        (1..=4).for_each(|conn| turns.ask(link(conn)));
        assert_eq!(turns.next(0), [link(1)]);
        assert_eq!(turns.next(TURN_US - 1), []);
        assert_eq!(turns.next(TURN_US), [link(2), link(3), link(4)]);
        turns.end(link(1));
        turns.ask(link(5));
        assert_eq!(turns.next(TURN_US + 1), [], "three have their turn");
        (2..=4).for_each(|conn| turns.end(link(conn)));
        assert_eq!(turns.next(TURN_US + 2), [link(5)]);
    }
}
