//! The keys of one slot (or a part of a large one) compared one by one, until every difference is explained or
//! repaired.

use super::super::super::Worker;
use super::Purpose;
use super::report::{Difference, NAMED_MAX};
use super::run::Run;
use crate::base::ids::Slot;
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::peer::mesh::PeerId;
use crate::peer::suspects::{Differing, Look, Suspects, Verdict};
use crate::peer::verify::{Body, Repair, Repaired, Terms};
use crate::shard::compare::{Walk, Weights};

/// How long memories of deletes stay after a slot's keys were listed, microseconds: longer than a repair takes.
pub(super) const MEMORIES_US: u64 = 10_000_000;

/// Writes under way are waited for this long, microseconds.
const LASTS_US: u64 = 6_000_000;

/// Between two looks, microseconds.
const PAUSE_US: u64 = 20_000;

/// After so many looks at which keys have changed they are left alone: somebody writes to it all the time.
const CHANGES_MAX: u32 = 4;

/// A key that differs again after so many repairs is left alone: a bug must not keep two nodes busy for ever.
const REPAIRS_MAX: u32 = 3;

/// Slots whose keys are asked for together.
const TOGETHER: usize = 32;

/// See the file's head.
pub(super) struct Exam {
    pub(super) side: usize,
    slot: Slot,
    from: u64,
    to: u64,
    terms: Terms,
    phase: Phase,
    began_us: u64,
    /// The other end at this look.
    theirs: Option<Look>,
    suspects: Suspects,
    /// Looks without writes under way after which no key was found damaged.
    changes: u32,
    repairs: u32,
    /// Some key differed.
    is_counted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// To be asked for at this time.
    Waiting(u64),
    /// Asked for.
    Listing,
    /// Repairs are under way.
    Repairing,
    /// Over.
    Done,
}

impl Exam {
    pub(super) fn new(side: usize, slot: Slot, from: u64, to: u64, now: Now) -> Self {
        Self {
            side,
            slot,
            from,
            to,
            terms: Terms { over_ms: 0, databases: 0 },
            phase: Phase::Waiting(0),
            began_us: now.mono_us,
            theirs: None,
            suspects: Suspects::default(),
            changes: 0,
            repairs: 0,
            is_counted: false,
        }
    }

    pub(super) fn is_awaited(&self) -> bool {
        matches!(self.phase, Phase::Listing | Phase::Repairing)
    }

    pub(super) fn wake_at_us(&self) -> u64 {
        if let Phase::Waiting(at_us) = self.phase { at_us } else { u64::MAX }
    }
}

impl Worker {
    /// Asks for the keys of slots whose turn has come, and drops what is over.
    pub(super) fn drive_exams(&mut self, run: &mut Run, now: Now) {
        run.exams.retain(|_, exam| exam.phase != Phase::Done);
        let mut asked = run.exams.values().filter(|exam| exam.is_awaited()).count();
        let databases = run.databases;
        for exam in run.exams.values_mut() {
            if asked >= TOGETHER {
                // Their turn comes with the answers to those before them.
                if matches!(exam.phase, Phase::Waiting(at_us) if at_us <= now.mono_us) {
                    exam.phase = Phase::Waiting(now.mono_us + PAUSE_US);
                }
                continue;
            }
            if !matches!(exam.phase, Phase::Waiting(at_us) if at_us <= now.mono_us) {
                continue;
            }
            asked += 1;
            exam.phase = Phase::Listing;
            exam.terms = Terms { over_ms: self.shard.time_ms(now), databases };
            self.shard.keep_memories(exam.slot.partition(), now.mono_us + MEMORIES_US);
            let ask = Body::AskKeys(exam.terms, exam.slot, exam.from, exam.to);
            self.say_verify(run.sides[exam.side].peer, run.id, exam.slot.partition(), ask);
        }
    }

    pub(super) fn keys_came(&mut self, run: &mut Run, peer: PeerId, slot: Slot, from: u64, look: Look, now: Now) {
        let Some(side) = run.side_of(peer) else { return };
        run.sides[side].heard_us = now.mono_us;
        let is_it = |exam: &Exam| exam.side == side && exam.slot == slot && exam.from == from;
        let Some((&id, exam)) = run.exams.iter_mut().find(|(_, exam)| is_it(exam) && exam.phase == Phase::Listing)
        else {
            return;
        };
        exam.theirs = Some(look);
        let walk = Walk::over_slot(slot, exam.terms.databases, exam.terms.over_ms, exam.from, exam.to);
        self.errand(walk, Purpose::Exam { run: run.id, exam: id });
    }

    /// Both lists of an exam are here.
    pub(super) fn judge(&mut self, run: &mut Run, id: u64, walk: Walk, now: Now) {
        let Some(exam) = run.exams.get_mut(&id) else { return };
        let Some(theirs) = exam.theirs.take() else { return };
        let beyond = self.shard.beyond(exam.slot.partition(), walk.applied());
        let ours = Look { applied: walk.applied().to_vec(), beyond, keys: walk.keys };
        let report = &mut run.sides[exam.side].report;
        exam.phase = Phase::Waiting(now.mono_us + PAUSE_US);
        match exam.suspects.look(&ours, &theirs) {
            Verdict::Damaged(damaged) if exam.repairs < REPAIRS_MAX => {
                exam.repairs += 1;
                return self.repair(run, id, &damaged, now);
            }
            Verdict::Damaged(damaged) => report.differing += damaged.len() as u64,
            Verdict::Unsettled(keys) if exam.changes == CHANGES_MAX => report.changing += keys,
            Verdict::Behind(keys) if now.mono_us.saturating_sub(exam.began_us) > LASTS_US => report.behind += keys,
            Verdict::Unsettled(_) => return exam.changes += 1,
            Verdict::Behind(_) => return,
            Verdict::Alike => {}
        }
        exam.phase = Phase::Done;
    }

    fn repair(&mut self, run: &mut Run, id: u64, damaged: &[Differing], now: Now) {
        let Some(exam) = run.exams.get_mut(&id) else { return };
        let mut repairs = Vec::new();
        for Differing { id, ours, theirs } in damaged {
            let held = self.shard.held(exam.slot, exam.terms.databases, exam.terms.over_ms, *id);
            let (weights, held) = match held {
                Some(held) => (held.weights, Some((held.db.0, held.key.into_vec(), held.state))),
                None => (Weights::default(), None),
            };
            // It may have changed since it was listed: then there was a write after all.
            if weights == *ours {
                repairs.push(Repair { id: *id, expected: *theirs, ours: held });
            }
        }
        if repairs.is_empty() {
            exam.phase = Phase::Waiting(now.mono_us + PAUSE_US);
            return;
        }
        exam.phase = Phase::Repairing;
        let side = &mut run.sides[exam.side];
        let ask = Body::AskRepair(exam.terms, exam.slot, repairs);
        let peer = side.peer;
        self.say_verify(peer, run.id, exam.slot.partition(), ask);
    }

    /// The other end has joined ours. False: unreadable.
    pub(super) fn repaired_came(
        &mut self,
        run: &mut Run,
        peer: PeerId,
        slot: Slot,
        repaired: Vec<Repaired>,
        origin: &impl Fn(u16) -> Option<OriginIdx>,
        now: Now,
    ) -> bool {
        let Some(side) = run.side_of(peer) else { return true };
        run.sides[side].heard_us = now.mono_us;
        let by = if run.is_asked_for() { "MULTIMASTER VERIFY" } else { "the background comparison" };
        let is_it = |exam: &&mut Exam| exam.side == side && exam.slot == slot && exam.phase == Phase::Repairing;
        let Some(exam) = run.exams.values_mut().find(is_it) else { return true };
        let report = &mut run.sides[side].report;
        let mut count = 0;
        for Repaired { id, theirs } in repaired {
            let (Some((db, key, state)), Some(suspect)) = (theirs, exam.suspects.take(id)) else { continue };
            let (ours, counted) = (suspect.ours, suspect.theirs);
            let held = self.shard.held(slot, exam.terms.databases, exam.terms.over_ms, id);
            if held.map_or(Weights::default(), |held| held.weights) != ours {
                continue;
            }
            if self.shard.repair(crate::base::ids::Db(db), &key, &state, origin).is_none() {
                return false;
            }
            count += 1;
            if !exam.is_counted {
                exam.is_counted = true;
                report.slots += 1;
            }
            if report.differences.len() < NAMED_MAX {
                let how = match (ours, counted) {
                    (ours, _) if ours == Weights::default() => "missing here",
                    (_, theirs) if theirs == Weights::default() => "missing there",
                    (ours, theirs) if ours.writes == theirs.writes => "bytes differ",
                    _ => "writes differ",
                };
                report.differences.push(Difference { slot, db, key, how });
            }
        }
        report.differing += count;
        report.repaired += count;
        self.shard.stats.digest_mismatches += count;
        self.shard.stats.digest_repairs += count;
        if count > 0 {
            let node = self.peers.verify.peers.iter().find(|known| known.peer == peer).map(|known| known.origin.node);
            let node = node.map(|node| node.to_string()).unwrap_or_default();
            tracing::warn!(
                node,
                slot = slot.0,
                keys = count,
                "keys that differed from another node's were repaired by {by}"
            );
        }
        // Looked at once more: now they must be alike.
        exam.phase = Phase::Waiting(now.mono_us);
        true
    }
}
