//! One comparison of some of a shard's partitions with one or several nodes.

use std::collections::{BTreeMap, VecDeque};

use super::super::super::Worker;
use super::super::super::batch::{Message as CoreMessage, Ticket};
use super::super::super::control::Answer;
use super::exam::Exam;
use super::report::{Report, SideReport};
use super::sums::{Active, Again};
use crate::base::ids::{Partition, ShardId, Slot};
use crate::base::mix::mix;
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::PeerId;
use crate::peer::verify::RunId;
use crate::shard::compare::Level;

/// A peer that has not answered for this long is given up, microseconds.
const PATIENCE_US: u64 = 10_000_000;

/// Keys of a slot are asked for in parts of about so many.
const LIST_KEYS: usize = 8192;

/// See the file's head.
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) level: Level,
    pub(super) sides: Vec<Side>,
    pub(super) databases: u16,
    pub(super) todo: VecDeque<Partition>,
    /// Partitions under way, by the question asked for them.
    pub(super) active: BTreeMap<u64, Active>,
    pub(super) again: Vec<Again>,
    pub(super) next_ask: u64,
    pub(super) exams: BTreeMap<u64, Exam>,
    next_exam: u64,
    reply: Option<(ShardId, Ticket)>,
    pub(super) report: Report,
    newest: BTreeMap<OriginIdx, Hlc>,
}

/// One of the nodes compared with.
pub(super) struct Side {
    pub(super) peer: PeerId,
    pub(super) heard_us: u64,
    pub(super) report: SideReport,
    /// It has taken long to reach where we were: it is not waited for again.
    pub(super) is_late: bool,
}

impl Run {
    pub(super) fn new(
        id: RunId,
        peers: &[PeerId],
        level: Level,
        partitions: Vec<Partition>,
        databases: u16,
        reply: Option<(ShardId, Ticket)>,
        now: Now,
    ) -> Self {
        let side = |&peer: &PeerId| Side { peer, heard_us: now.mono_us, report: SideReport::default(), is_late: false };
        Self {
            id,
            level,
            sides: peers.iter().map(side).collect(),
            databases,
            todo: partitions.into(),
            active: BTreeMap::new(),
            again: Vec::new(),
            next_ask: 0,
            exams: BTreeMap::new(),
            next_exam: 0,
            reply,
            report: Report::default(),
            newest: BTreeMap::new(),
        }
    }

    /// Whether a client waits for what is found; else it is the comparison that always goes on.
    pub(super) fn is_asked_for(&self) -> bool {
        self.reply.is_some()
    }

    pub(super) fn side_of(&self, peer: PeerId) -> Option<usize> {
        self.sides.iter().position(|side| side.peer == peer && side.report.problem.is_none())
    }

    pub(super) fn wake_at_us(&self) -> u64 {
        let exams = self.exams.values().map(Exam::wake_at_us);
        let active = self.active.values().map(Active::wake_at_us);
        exams.chain(active).chain(self.again.iter().map(|again| again.at_us)).min().unwrap_or(u64::MAX)
    }

    fn give_up(&mut self, side: usize, problem: &'static str) {
        self.sides[side].report.problem.get_or_insert(problem);
        self.active.values_mut().for_each(|active| active.settle(side));
        self.again.retain(|again| again.side != side);
        self.exams.retain(|_, exam| exam.side != side);
    }
}

impl Worker {
    /// Does all that can be done now. True: the run is over, and has said so.
    pub(super) fn drive(&mut self, run: &mut Run, now: Now) -> bool {
        self.check_sides(run, now);
        while self.begin_partitions(run, now) | self.settle_partitions(run, now) {}
        self.drive_exams(run, now);
        if !run.todo.is_empty() || !run.active.is_empty() || !run.again.is_empty() || !run.exams.is_empty() {
            return false;
        }
        if let Some((from, ticket)) = run.reply {
            let mut report = std::mem::take(&mut run.report);
            report.sides = run.sides.drain(..).map(|side| side.report).collect();
            report.newest = std::mem::take(&mut run.newest).into_iter().collect();
            self.send(from, CoreMessage::Answer { ticket, answer: Answer::Verified(Box::new(report)) });
        }
        true
    }

    fn check_sides(&mut self, run: &mut Run, now: Now) {
        for side in 0..run.sides.len() {
            let peer = run.sides[side].peer;
            if !self.shard.keys.has_digests() {
                run.give_up(side, "digests are switched off");
            } else if !self.peers.verify.peers.iter().any(|known| known.peer == peer) {
                run.give_up(side, "the link was lost");
            } else if now.mono_us.saturating_sub(run.sides[side].heard_us) > PATIENCE_US && run.waits_for(side) {
                run.give_up(side, "it does not answer");
            }
        }
        if run.sides.iter().all(|side| side.report.problem.is_some()) {
            run.todo.clear();
        }
    }

    pub(super) fn open_exams(&mut self, run: &mut Run, side: usize, slot: Slot, now: Now) {
        use crate::base::ids::Db;
        let keys: usize = (0..run.databases).map(|db| self.shard.keys.slot_len(Db(db), slot)).sum();
        // Ids are spread evenly.
        let parts = (keys / LIST_KEYS) as u64 + 1;
        let width = u64::MAX / parts;
        for part in 0..parts {
            let from = part * width;
            let to = if part + 1 == parts { u64::MAX } else { from + width - 1 };
            run.next_exam += 1;
            run.exams.insert(run.next_exam, Exam::new(side, slot, from, to, now));
        }
    }

    pub(super) fn note_versions(&mut self, run: &mut Run, partition: u8, versions: &[(OriginIdx, Hlc)]) {
        for &(origin, hlc) in versions {
            let salt = self.node.realm.origins.salt(origin);
            run.report.versions = run.report.versions.wrapping_add(mix(mix(salt, u64::from(partition)), hlc.0));
            let newest = run.newest.entry(origin).or_default();
            *newest = hlc.max(*newest);
        }
    }
}

impl Run {
    fn waits_for(&self, side: usize) -> bool {
        self.active.values().any(|active| active.waits_for(side))
            || self.exams.values().any(|exam| exam.side == side && exam.is_awaited())
    }
}
