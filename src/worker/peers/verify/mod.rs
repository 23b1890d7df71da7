//! Comparing our data with other nodes' over the links there are, and repairing what differs.
//!
//! Every shard compares its own partitions: it asks the other end what a partition counts for, counts itself, and
//! where slots differ asks for their keys. A key that differs may have a write under way, so it is looked at again
//! and again until either a write explains it or none can (`peer::suspects`): then it is damage, and both ends join
//! what they hold.
//!
//! What is asked of us is answered at once (kept sums, repairs) or by a walk in slices (`Walk`). A slice is done where
//! a round of the core has served nobody: an idle core walks without a pause, one that has clients walks between their
//! commands, each of which waits for one slice at most. Only a core that never has such a moment takes some from its
//! clients, so that a comparison comes to an end there, too.
//!
//! Reading order: this file (what runs, its budget, messages), `run` (one comparison), `exam` (one slot), `answer`
//! (the other end), `report`.

mod answer;
mod exam;
pub(in super::super) mod report;
mod run;
mod sums;

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::Worker;
use super::super::batch::{Message as CoreMessage, Ticket};
use crate::base::ids::{Partition, ShardId, Slot};
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::peer::mesh::{Comparable, PeerId, PeerMessage};
use crate::peer::suspects::Look;
use crate::peer::verify::{Body, Message, Place, RunId};
use crate::shard::block::{self, Kind};
use crate::shard::compare::{Level, Position, Walk};
use answer::Question;
use report::VerifyAsk;
use run::Run;

/// About so many keys are walked over in one slice: at some 100 ns each, nearly all of it waiting for memory.
const KEYS_AT_ONCE: usize = 128;

/// Keys walked over in a second where there is somebody to serve in every round: some 3 % of a core's time. Rounds are
/// long there, so a slice may be, too.
const KEYS_PER_SECOND: u64 = 300_000;

/// The most that is walked over in one slice all the same.
const KEYS_MAX: u64 = 4096;

/// Walks that may wait; what is asked beyond them is not answered, and the asking end gives up.
const WALKS_MAX: usize = 4096;

/// What a shard knows of comparisons.
#[derive(Default)]
pub(in super::super) struct Verify {
    /// Connections with nodes, on any core.
    pub(in super::super) peers: Vec<Arc<Comparable>>,
    runs: Vec<Run>,
    walks: VecDeque<Errand>,
    questions: Vec<Question>,
    next_question: u64,
    next_look_us: u64,
    pace: Pace,
    next_number: u64,
    background: Background,
}

/// A walk, and what it is for.
struct Errand {
    walk: Walk,
    purpose: Purpose,
}

enum Purpose {
    AnswerSums { number: u64 },
    AnswerKeys { peer: PeerId, run: RunId, slot: Slot, from: u64 },
    Own { run: RunId, ask: u64 },
    Exam { run: RunId, exam: u64 },
}

/// How much may be walked over in a round.
#[derive(Default)]
struct Pace {
    /// When the last slice was done.
    last_us: u64,
    /// Commands and merged writes when that was last asked.
    served: u64,
}

/// The comparison that always goes on, one partition after another.
#[derive(Default)]
struct Background {
    next_us: u64,
    partition: usize,
    link: usize,
}

impl Pace {
    // Keys; to be asked once a round. `served`: commands and merged writes so far.
    fn keys(&mut self, served: u64, now: Now) -> usize {
        let is_idle = std::mem::replace(&mut self.served, served) == served;
        let earned = now.mono_us.saturating_sub(self.last_us).saturating_mul(KEYS_PER_SECOND) / 1_000_000;
        let earned = earned.min(KEYS_MAX) as usize;
        if !is_idle && earned < KEYS_AT_ONCE {
            return 0;
        }
        self.last_us = now.mono_us;
        if is_idle { KEYS_AT_ONCE } else { earned }
    }

    fn ready_us(&self) -> u64 {
        self.last_us + KEYS_AT_ONCE as u64 * 1_000_000 / KEYS_PER_SECOND
    }
}

impl Worker {
    /// A number for a comparison that begins on this core.
    pub(in super::super) fn next_verify(&mut self) -> RunId {
        self.peers.verify.next_number += 1;
        RunId { core: self.id.0, number: self.peers.verify.next_number }
    }

    /// The connections over which data could be compared, one by node: our own link if there is one.
    pub(in super::super) fn comparable(&self) -> Vec<Arc<Comparable>> {
        let mut found: Vec<Arc<Comparable>> = Vec::new();
        let all = || self.peers.verify.peers.iter();
        for peer in all().filter(|peer| peer.is_link).chain(all().filter(|peer| !peer.is_link)) {
            if !found.iter().any(|known| known.origin.node == peer.origin.node) {
                found.push(Arc::clone(peer));
            }
        }
        found
    }

    /// All of them.
    pub(in super::super) fn all_comparable(&self) -> &[Arc<Comparable>] {
        &self.peers.verify.peers
    }

    /// A comparison of this shard's partitions begins; its report answers the ticket.
    pub(in super::super) fn begin_verify(&mut self, from: ShardId, ticket: Ticket, ask: &VerifyAsk, now: Now) {
        let (first, end) = self.shard.keys.partitions();
        let partitions = (first..end).map(|partition| Partition(partition as u8));
        let databases = self.shard.keys.databases() as u16;
        let run = Run::new(ask.run, &ask.peers, ask.level, partitions.collect(), databases, Some((from, ticket)), now);
        self.peers.verify.runs.push(run);
        self.tick_verify(now);
    }

    pub(in super::super) fn comparable_came(&mut self, peer: Arc<Comparable>) {
        self.comparable_left(peer.peer);
        self.peers.verify.peers.push(peer);
    }

    pub(in super::super) fn comparable_left(&mut self, peer: PeerId) {
        self.peers.verify.peers.retain(|known| known.peer != peer);
        self.forget_questions(peer);
    }

    /// Periodic work of comparisons.
    pub(in super::super) fn tick_verify(&mut self, now: Now) {
        self.compare_in_background(now);
        self.answer_questions(now);
        self.drive_all(now);
    }

    fn drive_all(&mut self, now: Now) {
        for mut run in std::mem::take(&mut self.peers.verify.runs) {
            if !self.drive(&mut run, now) {
                self.peers.verify.runs.push(run);
            }
        }
    }

    /// When comparisons next want a tick, on `Now::mono_us`.
    pub(in super::super) fn verify_wake_at_us(&self) -> u64 {
        let verify = &self.peers.verify;
        let walks_us = if verify.walks.is_empty() { u64::MAX } else { verify.pace.ready_us() };
        let looks_us = if verify.questions.iter().any(Question::is_waiting) { verify.next_look_us } else { u64::MAX };
        verify.runs.iter().map(Run::wake_at_us).fold(walks_us.min(looks_us), u64::min)
    }

    /// One slice of the walks, if it may be. True: there is more, and the next round may find a moment for it.
    pub(in super::super) fn verify_slice(&mut self, now: Now) -> bool {
        self.look_at_waiting(now);
        if self.peers.verify.walks.is_empty() {
            // Time in which there was nothing to walk over earns nothing.
            self.peers.verify.pace.last_us = now.mono_us;
            return false;
        }
        let merged = self.shard.stats.merged_won + self.shard.stats.merged_lost;
        let served = self.stats.commands + self.stats.batches + merged;
        let keys = self.peers.verify.pace.keys(served, now);
        let mut looked = 0;
        while looked < keys
            && let Some(mut errand) = self.peers.verify.walks.pop_front()
        {
            looked += errand.walk.step(&mut self.shard, keys - looked).max(1);
            if errand.walk.is_over() {
                self.walked(errand, now);
            } else {
                self.peers.verify.walks.push_front(errand);
            }
        }
        self.drain_inbox(now);
        !self.peers.verify.walks.is_empty()
    }

    // Writes that comparisons wait for may have come.
    fn look_at_waiting(&mut self, now: Now) {
        if now.mono_us < self.peers.verify.next_look_us {
            return;
        }
        self.peers.verify.next_look_us = now.mono_us + sums::LOOK_US;
        if !self.peers.verify.questions.is_empty() {
            self.answer_questions(now);
        }
        if self.peers.verify.runs.iter().any(|run| run.wake_at_us() <= now.mono_us) {
            self.drive_all(now);
        }
    }

    fn walked(&mut self, errand: Errand, now: Now) {
        let Errand { walk, purpose } = errand;
        if !walk.wrong.is_empty() {
            self.shard.stats.digest_mismatches += walk.wrong.len() as u64;
            tracing::warn!(
                slots = walk.wrong.len(),
                first = walk.wrong[0].0,
                "data is not what its digests say: memory was damaged, or a write went past the books; comparing with other nodes repairs it"
            );
        }
        match purpose {
            Purpose::AnswerSums { number } => self.walked_for(number, &walk),
            Purpose::AnswerKeys { peer, run, slot, from } => self.answer_keys(peer, run, slot, from, walk),
            Purpose::Own { run, ask } => self.with_run(run, now, |worker, run| worker.counted(run, ask, &walk)),
            Purpose::Exam { run, exam } => self.with_run(run, now, |worker, run| {
                worker.judge(run, exam, walk, now);
            }),
        }
    }

    fn errand(&mut self, walk: Walk, purpose: Purpose) {
        if self.peers.verify.walks.len() < WALKS_MAX {
            self.peers.verify.walks.push_back(Errand { walk, purpose });
        }
    }

    // Lets one run see to something, and goes on with it.
    fn with_run(&mut self, id: RunId, now: Now, change: impl FnOnce(&mut Self, &mut Run)) {
        let Some(at) = self.peers.verify.runs.iter().position(|run| run.id == id) else { return };
        let mut run = self.peers.verify.runs.swap_remove(at);
        change(self, &mut run);
        if !self.drive(&mut run, now) {
            self.peers.verify.runs.push(run);
        }
    }

    /// A block of a comparison for this shard. False: unreadable.
    pub(super) fn take_verify(&mut self, peer: PeerId, dictionary: &[OriginIdx], bytes: &[u8], now: Now) -> bool {
        let Some(Message { partition, run, body }) = Message::take(bytes) else { return false };
        let (first, end) = self.shard.keys.partitions();
        if !(first..end).contains(&usize::from(partition.0)) {
            return false;
        }
        let origin = |index: u16| dictionary.get(usize::from(index)).copied();
        let translated = |versions: Vec<(u16, _)>| {
            versions.into_iter().map(|(at, hlc)| Some((origin(at)?, hlc))).collect::<Option<Vec<_>>>()
        };
        let position = |place: &Place| {
            let applied = translated(place.versions.clone())?;
            Some(Position { applied, passed_ms: place.passed_ms })
        };
        match body {
            Body::AskSums(asked) => {
                let Some(after) = position(&asked.after) else { return false };
                self.asked_sums(peer, run, partition, asked, after, now);
            }
            Body::AskKeys(terms, slot, from, to) => {
                let walk = Walk::over_slot(slot, terms.databases, terms.over_ms, from, to);
                self.shard.keep_memories(partition, now.mono_us + exam::MEMORIES_US);
                self.errand(walk, Purpose::AnswerKeys { peer, run, slot, from });
            }
            Body::AskRepair(terms, slot, repairs) => {
                let Some(repaired) = self.repair_asked(slot, terms, repairs, &origin) else { return false };
                self.say_verify(peer, run, partition, Body::Repaired(slot, repaired));
            }
            Body::Sums(told) => {
                let Some(at) = position(&told.at) else { return false };
                let mut is_sound = true;
                self.with_run(run, now, |worker, run| is_sound = worker.sums_came(run, peer, told, at, now));
                return is_sound;
            }
            Body::Keys { slot, from, versions, beyond, keys } => {
                let Some(applied) = translated(versions) else { return false };
                let Some(beyond) = translated(beyond) else { return false };
                let look = Look { applied, beyond, keys };
                self.with_run(run, now, |worker, run| worker.keys_came(run, peer, slot, from, look, now));
            }
            Body::Repaired(slot, repaired) => {
                let mut is_sound = true;
                self.with_run(run, now, |worker, run| {
                    is_sound = worker.repaired_came(run, peer, slot, repaired, &origin, now);
                });
                return is_sound;
            }
        }
        true
    }

    // Sends a block over a connection of any core.
    fn say_verify(&mut self, peer: PeerId, run: RunId, partition: Partition, body: Body) {
        let mut bytes = Vec::new();
        let message = Message { partition, run, body };
        block::put(&mut bytes, Kind::Verify, |out| message.put(out));
        self.send(peer.home, CoreMessage::Peer(Box::new(PeerMessage::VerifyBytes { peer, bytes })));
    }

    /// A block for a connection of this core.
    pub(super) fn send_verify(&mut self, peer: PeerId, bytes: &[u8]) {
        let Some(mut conn) = self.peers.conns.remove(&peer.conn) else { return };
        if let Some(mut output) = self.sessions.get_mut(peer.conn).map(|session| std::mem::take(&mut session.output)) {
            // The block's indices of origins must be known to its reader.
            self.say_dictionary(&mut conn, &mut output);
            output.extend_from_slice(bytes);
            if let Some(session) = self.sessions.get_mut(peer.conn) {
                session.output = output;
            }
            self.dirty(peer.conn);
        }
        self.peers.conns.insert(peer.conn, conn);
    }

    // One partition of one link now and then, so that each link has compared everything once in a period.
    fn compare_in_background(&mut self, now: Now) {
        let period_us = self.config.digest_check_period.saturating_mul(1_000_000);
        let links: Vec<PeerId> = {
            let all = self.peers.verify.peers.iter();
            all.filter(|peer| peer.is_link && peer.is_able).map(|peer| peer.peer).collect()
        };
        let background = &mut self.peers.verify.background;
        if period_us == 0 || links.is_empty() || now.mono_us < background.next_us || !self.shard.keys.has_digests() {
            return;
        }
        let (first, end) = self.shard.keys.partitions();
        let step_us = period_us / (end - first).max(1) as u64 / links.len() as u64;
        let is_first = background.next_us == 0;
        background.next_us = now.mono_us + step_us.max(1000);
        // Nodes that start together need not ask together; and links have other things to say at first.
        if is_first {
            background.next_us += self.shard.rng.below(step_us.max(1));
            return;
        }
        background.link += 1;
        if background.link >= links.len() {
            background.link = 0;
            background.partition = (background.partition + 1) % (end - first);
        }
        let (peer, partition) = (links[background.link], Partition((first + background.partition) as u8));
        let databases = self.shard.keys.databases() as u16;
        let id = self.next_verify();
        let run = Run::new(id, &[peer], Level::Total, vec![partition], databases, None, now);
        self.peers.verify.runs.push(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // By when they were done, as many keys as were to be walked over.
    fn slices(pace: &mut Pace, rounds: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, usize)> {
        let at = |mono_us| Now { wall_ms: 0, mono_us };
        let all = rounds.map(|(served, mono_us)| (mono_us, pace.keys(served, at(mono_us))));
        all.filter(|(_, keys)| *keys > 0).collect()
    }

    #[test]
    fn a_core_walks_in_every_round_that_serves_nobody() {
        let mut pace = Pace::default();
        let all = |at: &[u64]| at.iter().map(|&at| (at, KEYS_AT_ONCE)).collect::<Vec<_>>();
        assert_eq!(slices(&mut pace, (1..5).map(|n| (0, n))), all(&[1, 2, 3, 4]));
        // Somebody came in every other round.
        assert_eq!(slices(&mut pace, (10..16).map(|n| (n / 2, n))), all(&[11, 13, 15]));
    }

    #[test]
    fn a_core_that_serves_in_every_round_walks_slowly_and_comes_to_an_end() {
        // However long its rounds are.
        for round_us in [10, 500, 10_000] {
            let rounds = (1..=1_000_000 / round_us).map(|n| (n, n * round_us));
            let slices = slices(&mut Pace::default(), rounds);
            let keys: u64 = slices.iter().map(|(_, keys)| *keys as u64).sum();
            assert!(
                (KEYS_PER_SECOND * 9 / 10..=KEYS_PER_SECOND).contains(&keys),
                "{keys} keys in a second of {round_us} us"
            );
            assert!(slices.iter().all(|(_, keys)| *keys as u64 <= KEYS_MAX));
        }
    }
}
