//! The end that is asked: it answers from what it holds, and remembers nothing but questions for sums, until it has
//! applied what the other end had and has walked over its values.

use super::super::super::Worker;
use super::{Purpose, WALKS_MAX};
use crate::base::ids::{Partition, Slot};
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::PeerId;
use crate::peer::verify::{Body, Place, Repair, Repaired, RunId, SumsAsked, SumsTold, Terms};
use crate::shard::compare::{Level, Position, Walk, Weights};
use crate::store::watches::WatchId;

/// Questions that may wait for writes to come; what is asked beyond them is not answered, and the asking end gives up.
const QUESTIONS_MAX: usize = 4096;

/// Nobody makes us wait longer than this.
const WAIT_MS_MAX: u64 = 5_000;

/// A question for sums that is not answered yet.
pub(super) struct Question {
    number: u64,
    peer: PeerId,
    run: RunId,
    partition: Partition,
    asked: SumsAsked,
    after: Position,
    /// Of our values, once they are walked over. Not before writes have come that must be in the answer: what is
    /// watched costs every write something.
    watch: Option<WatchId>,
    until_us: u64,
}

impl Question {
    /// Whether it waits for writes.
    pub(super) fn is_waiting(&self) -> bool {
        self.watch.is_none()
    }
}

impl Worker {
    pub(super) fn asked_sums(
        &mut self,
        peer: PeerId,
        run: RunId,
        partition: Partition,
        mut asked: SumsAsked,
        after: Position,
        now: Now,
    ) {
        // While no digests are kept there is nothing to say.
        if !self.shard.keys.has_digests() || self.peers.verify.questions.len() == QUESTIONS_MAX {
            return;
        }
        asked.databases = asked.databases.min(self.shard.keys.databases() as u16);
        self.peers.verify.next_question += 1;
        let number = self.peers.verify.next_question;
        let until_us = now.mono_us + asked.wait_ms.min(WAIT_MS_MAX) * 1000;
        self.peers.verify.questions.push(Question {
            number,
            peer,
            run,
            partition,
            asked,
            after,
            watch: None,
            until_us,
        });
        self.answer_questions(now);
    }

    /// The walk for a question is over.
    pub(super) fn walked_for(&mut self, number: u64, walk: &Walk) {
        let questions = &mut self.peers.verify.questions;
        if let Some(at) = questions.iter().position(|question| question.number == number) {
            let question = questions.swap_remove(at);
            self.answer_sums(&question, walk.wrong.len() as u64);
        }
    }

    /// Answers what can be answered, and begins to walk for what needs it.
    pub(super) fn answer_questions(&mut self, now: Now) {
        let mut questions = std::mem::take(&mut self.peers.verify.questions);
        questions.retain_mut(|question| {
            let has_reached = || self.shard.has_reached(question.partition, &question.after);
            if !question.is_waiting() || !has_reached() && now.mono_us < question.until_us {
                return true;
            }
            if question.asked.level != Level::Data {
                self.answer_sums(question, 0);
                return false;
            }
            if self.peers.verify.walks.len() == WALKS_MAX {
                return false;
            }
            let SumsAsked { level, mask, databases, .. } = question.asked;
            let watch = self.shard.watch(question.partition, databases, level, false);
            let walk = Walk::over_partition(question.partition, mask, databases, watch);
            self.errand(walk, Purpose::AnswerSums { number: question.number });
            question.watch = Some(watch);
            true
        });
        self.peers.verify.questions = questions;
    }

    /// Who has left needs no answers.
    pub(super) fn forget_questions(&mut self, peer: PeerId) {
        let (gone, kept) =
            std::mem::take(&mut self.peers.verify.questions).into_iter().partition(|question| question.peer == peer);
        self.peers.verify.questions = kept;
        let gone: Vec<Question> = gone;
        gone.iter().filter_map(|question| question.watch).for_each(|watch| self.shard.keys.end_watch(watch));
    }

    fn answer_sums(&mut self, question: &Question, wrong: u64) {
        let SumsAsked { ask, level, mask, databases, .. } = question.asked;
        let told = match question.watch {
            Some(watch) => self.shard.sums_now(watch),
            None => Some(self.shard.sums_kept(question.partition, databases)),
        };
        if let Some(watch) = question.watch {
            self.shard.keys.end_watch(watch);
        }
        let Some(told) = told else { return };
        let mut position = self.shard.position_of(question.partition);
        if self.shard.has_reached(question.partition, &question.after) {
            // No deadline is left up to there, whether or not one has passed.
            position.passed_ms = position.passed_ms.max(question.after.passed_ms);
        }
        let sums = match level {
            Level::Total => vec![told.total()],
            _ => told.sums.iter().enumerate().filter(|(at, _)| mask & 1 << at != 0).map(|(_, sum)| *sum).collect(),
        };
        let (at, unsure) = (self.place_said(&position), told.unsure);
        let told = SumsTold { ask, level, at, sums, unsure, wrong, databases };
        self.say_verify(question.peer, question.run, question.partition, Body::Sums(told));
    }

    pub(super) fn answer_keys(&mut self, peer: PeerId, run: RunId, slot: Slot, from: u64, walk: Walk) {
        let (versions, beyond) = (said(walk.applied()), said(&self.shard.beyond(slot.partition(), walk.applied())));
        self.say_verify(peer, run, slot.partition(), Body::Keys { slot, from, versions, beyond, keys: walk.keys });
    }

    // Joins what the asking end holds of keys that are still as it saw them. `None`: malformed.
    pub(super) fn repair_asked(
        &mut self,
        slot: Slot,
        terms: Terms,
        repairs: Vec<Repair>,
        origin: &impl Fn(u16) -> Option<OriginIdx>,
    ) -> Option<Vec<Repaired>> {
        let mut repaired = Vec::with_capacity(repairs.len());
        for Repair { id, expected, ours } in repairs {
            let held = self.shard.held(slot, terms.databases, terms.over_ms, id);
            let counted = held.map_or(Weights::default(), |held| held.weights);
            if counted != expected {
                repaired.push(Repaired { id, theirs: None });
                continue;
            }
            self.shard.stats.digest_mismatches += 1;
            if let Some((db, key, state)) = ours
                && self.shard.repair(crate::base::ids::Db(db), &key, &state, origin)?
            {
                self.shard.stats.digest_repairs += 1;
            }
            let held = self.shard.held(slot, terms.databases, terms.over_ms, id);
            let theirs = held.map(|held| (held.db.0, held.key.into_vec(), held.state));
            repaired.push(Repaired { id, theirs });
        }
        Some(repaired)
    }

    pub(super) fn place_said(&self, position: &Position) -> Place {
        Place { versions: said(&position.applied), passed_ms: position.passed_ms }
    }
}

fn said(versions: &[(OriginIdx, Hlc)]) -> Vec<(u16, Hlc)> {
    versions.iter().map(|(origin, hlc)| (origin.0, *hlc)).collect()
}
