//! Which link may begin to be sent what this node lacks: one after another, so that masters which all hold the same
//! writes do not all send them.
//!
//! A node that returns lacks the same writes on every link. Each master streams what the reader did not have when the
//! link began, of every origin the reader does not hear directly; begun together, all of them would send all of it.
//! So a link waits for its turn, and has it until what its master had then is here. Whatever is slow is not waited for
//! long: then all begin, and what comes twice is dropped.
//!
//! A master whose backlog does not have what is lacked (it has started again since) could only send whole partitions.
//! Its link's turn ends with what can be streamed, and it gets a second one to ask for whole partitions when no other
//! link has begun, waits or is about to come: by then others may have streamed what it could not. It waits no longer than
//! for a slow link.

use std::collections::VecDeque;

use super::mesh::{PeerId, Turn};

/// A link that takes longer for what it was behind lets the others begin, microseconds.
const TURN_US: u64 = 2_000_000;

/// Kept by one core for all links of the node.
#[derive(Default)]
pub struct Turns {
    /// Whose turn it is, and since when.
    now: Vec<(PeerId, u64)>,
    waiting: VecDeque<PeerId>,
    /// Whose masters cannot stream all of it, and since when that is known.
    behind: VecDeque<(PeerId, u64)>,
}

impl Turns {
    /// A link would like to begin.
    pub fn ask(&mut self, link: PeerId) {
        self.waiting.push_back(link);
    }

    /// A link's master cannot stream all that is lacked.
    pub fn fall_behind(&mut self, link: PeerId, mono_us: u64) {
        if !self.behind.iter().any(|(known, _)| *known == link) {
            self.behind.push_back((link, mono_us));
        }
    }

    /// A link has what its master could stream of what it was behind.
    pub fn pass(&mut self, link: PeerId) {
        self.now.retain(|(known, _)| *known != link);
    }

    /// A link has what it was behind, or is gone.
    pub fn end(&mut self, link: PeerId) {
        self.pass(link);
        self.waiting.retain(|known| *known != link);
        self.behind.retain(|(known, _)| *known != link);
    }

    /// What links may do now. `are_coming`: more of them may ask soon.
    pub fn next(&mut self, mono_us: u64, are_coming: bool) -> Vec<Turn> {
        let is_over = |since_us: u64| mono_us.saturating_sub(since_us) >= TURN_US;
        let before = self.now.len();
        self.now.retain(|(_, since_us)| !is_over(*since_us));
        let is_slow = self.now.len() < before;
        let mut next = Vec::new();
        if self.now.is_empty() {
            let count = if is_slow { self.waiting.len() } else { 1 };
            next.extend(self.waiting.drain(..count.min(self.waiting.len())).map(Turn::Granted));
        }
        let is_alone = self.now.is_empty() && next.is_empty() && !are_coming;
        if let Some(&(link, since_us)) = self.behind.front()
            && (is_alone || is_over(since_us))
        {
            self.behind.pop_front();
            next.push(Turn::Whole(link));
        }
        self.now.extend(next.iter().map(|turn| (turn.link(), mono_us)));
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

    fn begin<const N: usize>(conns: [u64; N]) -> [Turn; N] {
        conns.map(|conn| Turn::Granted(link(conn)))
    }

    #[test]
    fn links_begin_one_after_another() {
        let mut turns = Turns::default();
        (1..=3).for_each(|conn| turns.ask(link(conn)));
        assert_eq!(turns.next(0, false), begin([1]));
        assert_eq!(turns.next(1, false), []);
        turns.end(link(2));
        turns.end(link(1));
        assert_eq!(turns.next(2, false), begin([3]), "the second is gone");
        turns.end(link(3));
        assert_eq!(turns.next(3, false), []);
    }

    #[test]
    fn nobody_waits_long_for_a_slow_link() {
        let mut turns = Turns::default();
        (1..=4).for_each(|conn| turns.ask(link(conn)));
        assert_eq!(turns.next(0, false), begin([1]));
        assert_eq!(turns.next(TURN_US - 1, false), []);
        assert_eq!(turns.next(TURN_US, false), begin([2, 3, 4]));
        turns.end(link(1));
        turns.ask(link(5));
        assert_eq!(turns.next(TURN_US + 1, false), [], "three have their turn");
        (2..=4).for_each(|conn| turns.end(link(conn)));
        assert_eq!(turns.next(TURN_US + 2, false), begin([5]));
    }

    #[test]
    fn whole_partitions_are_asked_for_when_nobody_else_may_stream_them() {
        let mut turns = Turns::default();
        (1..=2).for_each(|conn| turns.ask(link(conn)));
        assert_eq!(turns.next(0, false), begin([1]));
        turns.fall_behind(link(1), 1);
        assert_eq!(turns.next(1, false), [], "it streams what it can");
        turns.pass(link(1));
        assert_eq!(turns.next(2, false), begin([2]));
        turns.fall_behind(link(2), 3);
        turns.pass(link(2));
        assert_eq!(turns.next(4, true), [], "a third may be able to");
        assert_eq!(turns.next(5, false), [Turn::Whole(link(1))]);
        turns.fall_behind(link(2), 6);
        assert_eq!(turns.next(6, false), []);
        turns.end(link(1));
        assert_eq!(turns.next(7, false), [Turn::Whole(link(2))]);
        turns.end(link(2));
        assert_eq!(turns.next(8, false), []);
    }

    #[test]
    fn whole_partitions_do_not_wait_long_for_others() {
        let mut turns = Turns::default();
        turns.ask(link(1));
        assert_eq!(turns.next(0, true), begin([1]));
        turns.fall_behind(link(1), 1);
        turns.pass(link(1));
        turns.ask(link(2));
        assert_eq!(turns.next(2, true), begin([2]));
        turns.fall_behind(link(1), TURN_US);
        assert_eq!(turns.next(TURN_US, true), []);
        assert_eq!(
            turns.next(TURN_US + 1, true),
            [Turn::Whole(link(1))],
            "the second is silent, a third does not come"
        );
        turns.fall_behind(link(3), TURN_US + 1);
        turns.end(link(3));
        assert_eq!(turns.next(9 * TURN_US, false), [], "it is gone");
    }
}
