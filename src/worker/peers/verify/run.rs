//! One comparison of some of a shard's partitions with one or several nodes.

use std::collections::{BTreeMap, VecDeque};

use super::super::super::Worker;
use super::super::super::batch::{Message as CoreMessage, Ticket};
use super::super::super::control::Answer;
use super::Purpose;
use super::exam::Exam;
use super::report::{Report, SideReport};
use crate::base::ids::{Partition, ShardId, Slot};
use crate::base::mix::mix;
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::PeerId;
use crate::peer::verify::{Body, RunId, Terms};
use crate::shard::compare::{Applied, Level, Walk, Weights};

/// Partitions looked at together: enough to keep both ends busy.
const TOGETHER: usize = 8;

/// A peer that has not answered for this long is given up, microseconds.
const PATIENCE_US: u64 = 10_000_000;

/// Writes under way are younger than this, milliseconds: what is further apart is behind.
const APART_MS: u64 = 1000;

/// Keys of a slot are asked for in parts of about so many.
const LIST_KEYS: usize = 8192;

/// See the file's head.
pub(super) struct Run {
    pub(super) id: RunId,
    level: Level,
    pub(super) sides: Vec<Side>,
    pub(super) databases: u16,
    todo: VecDeque<Partition>,
    active: BTreeMap<u8, Active>,
    pub(super) exams: BTreeMap<u64, Exam>,
    next_exam: u64,
    reply: Option<(ShardId, Ticket)>,
    report: Report,
    newest: BTreeMap<OriginIdx, Hlc>,
}

/// One of the nodes compared with.
pub(super) struct Side {
    pub(super) peer: PeerId,
    pub(super) heard_us: u64,
    pub(super) report: SideReport,
}

/// A partition under way.
struct Active {
    level: Level,
    terms: Terms,
    own: Option<Vec<Weights>>,
    /// By side.
    theirs: Vec<Theirs>,
    /// What every side has applied, as far as they have answered.
    versions: Option<Applied>,
}

enum Theirs {
    Awaited,
    Here(Vec<Weights>),
    Settled,
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
        let side = |&peer: &PeerId| Side { peer, heard_us: now.mono_us, report: SideReport::default() };
        Self {
            id,
            level,
            sides: peers.iter().map(side).collect(),
            databases,
            todo: partitions.into(),
            active: BTreeMap::new(),
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
        self.exams.values().map(Exam::wake_at_us).min().unwrap_or(u64::MAX)
    }

    /// Our own walk over a partition is over.
    pub(super) fn counted(&mut self, partition: Partition, walk: &Walk) {
        self.report.wrong += walk.wrong.len() as u64;
        if let Some(active) = self.active.get_mut(&partition.0) {
            active.own = Some(walk.sums.clone());
        }
    }

    fn give_up(&mut self, side: usize, problem: &'static str) {
        self.sides[side].report.problem.get_or_insert(problem);
        for active in self.active.values_mut() {
            active.theirs[side] = Theirs::Settled;
        }
        self.exams.retain(|_, exam| exam.side != side);
    }
}

impl Worker {
    /// Does all that can be done now. True: the run is over, and has said so.
    pub(super) fn drive(&mut self, run: &mut Run, now: Now) -> bool {
        self.check_sides(run, now);
        loop {
            while run.active.len() < TOGETHER
                && let Some(partition) = run.todo.pop_front()
            {
                self.begin_partition(run, partition, now);
            }
            let settled = self.settle_partitions(run, now);
            if !settled || run.todo.is_empty() {
                break;
            }
        }
        self.drive_exams(run, now);
        if !run.todo.is_empty() || !run.active.is_empty() || !run.exams.is_empty() {
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
            if !self.peers.verify.peers.iter().any(|known| known.peer == peer) {
                run.give_up(side, "the link was lost");
            } else if now.mono_us.saturating_sub(run.sides[side].heard_us) > PATIENCE_US && run.waits_for(side) {
                run.give_up(side, "it does not answer");
            }
        }
        if run.sides.iter().all(|side| side.report.problem.is_some()) {
            run.todo.clear();
            run.active.clear();
        }
    }

    fn begin_partition(&mut self, run: &mut Run, partition: Partition, now: Now) {
        // One time for all, ours: nobody has dropped yet what is over only later, since that takes our consent.
        let terms = Terms { over_ms: self.shard.time_ms(now), databases: run.databases };
        let mut theirs = Vec::with_capacity(run.sides.len());
        for side in &mut run.sides {
            if side.report.problem.is_some() {
                theirs.push(Theirs::Settled);
                continue;
            }
            theirs.push(Theirs::Awaited);
            self.say_verify(side.peer, run.id, partition, Body::AskSums(terms, run.level));
        }
        if run.level == Level::Data {
            let walk = Walk::over_partition(partition, terms.databases, terms.over_ms);
            self.errand(walk, Purpose::Own { run: run.id, partition });
        }
        run.active.insert(partition.0, Active { level: run.level, terms, own: None, theirs, versions: None });
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn sums_came(
        &mut self,
        run: &mut Run,
        peer: PeerId,
        partition: Partition,
        level: Level,
        versions: Applied,
        sums: Vec<Weights>,
        wrong: u64,
        databases: u16,
        now: Now,
    ) {
        let Some(side) = run.side_of(peer) else { return };
        run.sides[side].heard_us = now.mono_us;
        let is_asked_for = run.is_asked_for();
        let Some(active) = run.active.get_mut(&partition.0) else { return };
        if active.level != level || !matches!(active.theirs[side], Theirs::Awaited) {
            return;
        }
        run.sides[side].report.wrong += wrong;
        if databases < active.terms.databases {
            // It has fewer databases: begin again with those that both have.
            run.databases = run.databases.min(databases);
            run.active.remove(&partition.0);
            run.todo.push_front(partition);
            return;
        }
        let ours = self.shard.applied_of(partition);
        // The comparison that always goes on comes round again: it does not ask after key and key while a node catches
        // up with what it missed. That took more bytes than what was missed.
        if !is_asked_for && apart_ms(&ours, &versions) > APART_MS {
            active.theirs[side] = Theirs::Settled;
            return;
        }
        let known = active.versions.take().unwrap_or(ours);
        active.versions = Some(least(&known, &versions));
        active.theirs[side] = Theirs::Here(sums);
        if active.level != Level::Data {
            active.own = self.shard.kept_sums(partition, active.terms.databases, active.level);
            self.shard.stats.digest_comparisons += 1;
        }
    }

    // Compares what can be compared. True: some partition is done.
    fn settle_partitions(&mut self, run: &mut Run, now: Now) -> bool {
        let mut done = Vec::new();
        let mut differing = Vec::new();
        for (&partition, active) in &mut run.active {
            let Some(own) = &active.own else {
                if active.theirs.iter().all(|theirs| matches!(theirs, Theirs::Settled)) {
                    done.push(partition);
                }
                continue;
            };
            for (side, theirs) in active.theirs.iter_mut().enumerate() {
                let Theirs::Here(sums) = theirs else { continue };
                let slots = own.iter().zip(sums.iter()).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at);
                let slots: Vec<usize> = slots.collect();
                if active.level == Level::Total && !slots.is_empty() {
                    // Which slots?
                    *theirs = Theirs::Awaited;
                    active.level = Level::Kept;
                    let peer = run.sides[side].peer;
                    differing.push((side, peer, partition, None, active.terms));
                    continue;
                }
                *theirs = Theirs::Settled;
                let first = Partition(partition).first_slot().0;
                let slot = |at: usize| Some(Slot(first + at as u16));
                let peer = run.sides[side].peer;
                differing.extend(slots.into_iter().map(|at| (side, peer, partition, slot(at), active.terms)));
            }
            if active.theirs.iter().all(|theirs| matches!(theirs, Theirs::Settled)) {
                done.push(partition);
            }
        }
        for (side, peer, partition, slot, terms) in differing {
            match slot {
                Some(slot) => self.open_exams(run, side, slot, now),
                None => self.say_verify(peer, run.id, Partition(partition), Body::AskSums(terms, Level::Kept)),
            }
        }
        for partition in &done {
            if let Some(versions) = run.active.remove(partition).and_then(|active| active.versions) {
                self.note_versions(run, *partition, &versions);
            }
        }
        !done.is_empty()
    }

    fn open_exams(&mut self, run: &mut Run, side: usize, slot: Slot, now: Now) {
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

    fn note_versions(&mut self, run: &mut Run, partition: u8, versions: &[(OriginIdx, Hlc)]) {
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
        self.active.values().any(|active| matches!(active.theirs[side], Theirs::Awaited))
            || self.exams.values().any(|exam| exam.side == side && exam.is_awaited())
    }
}

// How much later one has heard of some origin than the other.
fn apart_ms(a: &[(OriginIdx, Hlc)], b: &[(OriginIdx, Hlc)]) -> u64 {
    let ms = |of: &[(OriginIdx, Hlc)], origin: OriginIdx| {
        of.iter().find(|(known, _)| *known == origin).map_or(0, |(_, hlc)| hlc.wall_ms())
    };
    a.iter().chain(b).map(|&(origin, _)| ms(a, origin).abs_diff(ms(b, origin))).max().unwrap_or(0)
}

// What both have applied.
fn least(a: &[(OriginIdx, Hlc)], b: &[(OriginIdx, Hlc)]) -> Applied {
    let of = |origin: OriginIdx| b.iter().find(|(known, _)| *known == origin).map(|(_, hlc)| *hlc);
    a.iter().filter_map(|&(origin, hlc)| Some((origin, hlc.min(of(origin)?)))).collect()
}
