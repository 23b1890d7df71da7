//! The sums of a partition compared at a cut: a place in what happens to it at which both ends can tell theirs, however
//! much is written meanwhile.
//!
//! We note how far we are, watch the partition from there on (`store::watches`) and say so. The other end answers when
//! it has come as far, with what it counts and how far it is then. When we have come as far as that, we take away what
//! lies beyond it from what we count: both sums are of the same writes. Slots that differ are asked for again a few
//! times, because keys that two nodes write to at once cannot be cut cleanly; what differs then is examined key by key.

use super::super::super::Worker;
use super::Purpose;
use super::run::Run;
use crate::base::ids::{Partition, SLOTS_PER_PARTITION, Slot};
use crate::base::time::Now;
use crate::peer::mesh::PeerId;
use crate::peer::verify::{Body, SumsAsked, SumsTold};
use crate::shard::compare::{Applied, Level, Position, Told, Walk, Weights};
use crate::store::watches::{CHANGES_MAX, WatchId};

/// Partitions whose values are read are begun with one after the other, as fast as this end reads them: so many wait
/// to be read. The answers to those before them are waited for meanwhile, so that an end that lags costs its lag once;
/// and each is watched for not much longer than that, since what is watched costs every write something.
const AHEAD: usize = 2;

/// While so many writes are noted no more partitions are begun with: the other end is slower than this one.
const NOTED_MAX: usize = CHANGES_MAX / 4;

/// Slots that differ are asked for so often before their keys are.
const ATTEMPTS_MAX: u32 = 5;

/// The pause after the first attempt, microseconds; each later one is twice as long.
const PAUSE_US: u64 = 4_000;

/// The other end waits so long for what we had applied, and we for what it had. Who is later than that is compared as
/// it is: what is equal then is equal, and of the rest nothing is said.
const WAIT_MS: u64 = 3_000;

/// The same in the comparison that always goes on: it comes round again, and leaves alone who catches up.
const BACKGROUND_WAIT_MS: u64 = 500;

/// So often we look whether what we wait for has come, microseconds.
pub(super) const LOOK_US: u64 = 1_000;

/// A partition under way.
pub(super) struct Active {
    partition: Partition,
    level: Level,
    /// Slots that are compared.
    mask: u64,
    attempt: u32,
    databases: u16,
    watch: WatchId,
    /// Where we were when the watch began.
    began: Position,
    began_us: u64,
    is_walked: bool,
    sides: Vec<(usize, Theirs)>,
    /// What every side has applied, as far as they have answered.
    versions: Option<Applied>,
    next_look_us: u64,
}

enum Theirs {
    Awaited,
    Here(Position, Told),
    Settled,
}

/// Slots to be asked for again.
pub(super) struct Again {
    pub(super) at_us: u64,
    pub(super) side: usize,
    partition: Partition,
    level: Level,
    mask: u64,
    attempt: u32,
}

/// What came of one side's answer.
enum Outcome {
    Equal,
    /// These slots differ, or cannot be said; `true`: at a cut.
    Differs(u64, bool),
}

impl Active {
    pub(super) fn waits_for(&self, side: usize) -> bool {
        self.sides.iter().any(|(at, theirs)| *at == side && matches!(theirs, Theirs::Awaited))
    }

    pub(super) fn settle(&mut self, side: usize) {
        self.sides.iter_mut().filter(|(at, _)| *at == side).for_each(|(_, theirs)| *theirs = Theirs::Settled);
    }

    pub(super) fn wake_at_us(&self) -> u64 {
        let is_waiting = self.sides.iter().any(|(_, theirs)| matches!(theirs, Theirs::Here(..)));
        if is_waiting && self.is_walked { self.next_look_us } else { u64::MAX }
    }

    fn is_over(&self) -> bool {
        self.sides.iter().all(|(_, theirs)| matches!(theirs, Theirs::Settled))
    }
}

impl Worker {
    /// Begins with partitions as far as there is room. True: some have begun.
    pub(super) fn begin_partitions(&mut self, run: &mut Run, now: Now) -> bool {
        let mut has_begun = false;
        loop {
            let ready = run.again.iter().position(|again| again.at_us <= now.mono_us);
            if let Some(again) = ready.map(|at| run.again.swap_remove(at)) {
                let Again { side, partition, level, mask, attempt, .. } = again;
                self.begin_partition(run, &[side], partition, level, mask, attempt, now);
            } else if self.has_room(run)
                && let Some(partition) = run.todo.pop_front()
            {
                let sides: Vec<usize> =
                    (0..run.sides.len()).filter(|&side| run.sides[side].report.problem.is_none()).collect();
                self.begin_partition(run, &sides, partition, run.level, u64::MAX, 0, now);
            } else {
                break;
            }
            has_begun = true;
        }
        has_begun
    }

    // All at once where nothing has to be read.
    fn has_room(&self, run: &Run) -> bool {
        let unread = || run.active.values().filter(|active| !active.is_walked).count();
        run.level != Level::Data || run.active.is_empty() || unread() < AHEAD && self.shard.keys.noted() < NOTED_MAX
    }

    #[allow(clippy::too_many_arguments, reason = "what is asked")]
    fn begin_partition(
        &mut self,
        run: &mut Run,
        sides: &[usize],
        partition: Partition,
        level: Level,
        mask: u64,
        attempt: u32,
        now: Now,
    ) {
        run.next_ask += 1;
        let (ask, databases) = (run.next_ask, run.databases);
        let watch = self.shard.watch(partition, databases, level, true);
        let began = self.shard.position_of(partition);
        for &side in sides {
            let wait_ms = if run.sides[side].is_late { 0 } else { wait_ms(run) };
            let after = self.place_said(&began);
            let asked = SumsAsked { ask, level, mask, databases, after, wait_ms };
            self.say_verify(run.sides[side].peer, run.id, partition, Body::AskSums(asked));
        }
        if level == Level::Data {
            let walk = Walk::over_partition(partition, mask, databases, watch);
            self.errand(walk, Purpose::Own { run: run.id, ask });
        }
        let sides = sides.iter().map(|&side| (side, Theirs::Awaited)).collect();
        let is_walked = level != Level::Data;
        let (began_us, next_look_us) = (now.mono_us, 0);
        let versions = None;
        run.active.insert(
            ask,
            Active {
                partition,
                level,
                mask,
                attempt,
                databases,
                watch,
                began,
                began_us,
                is_walked,
                sides,
                versions,
                next_look_us,
            },
        );
    }

    /// Our own walk over a partition is over.
    pub(super) fn counted(&mut self, run: &mut Run, ask: u64, walk: &Walk) {
        run.report.wrong += walk.wrong.len() as u64;
        if let Some(active) = run.active.get_mut(&ask) {
            active.is_walked = true;
        }
    }

    /// An answer. False: malformed.
    pub(super) fn sums_came(&mut self, run: &mut Run, peer: PeerId, told: SumsTold, at: Position, now: Now) -> bool {
        let Some(side) = run.side_of(peer) else { return true };
        run.sides[side].heard_us = now.mono_us;
        let Some(active) = run.active.get_mut(&told.ask).filter(|active| active.waits_for(side)) else { return true };
        let wanted = if active.level == Level::Total { 1 } else { active.mask.count_ones() as usize };
        if told.level != active.level || told.sums.len() != wanted {
            return false;
        }
        run.sides[side].report.wrong += told.wrong;
        if told.databases < active.databases {
            // It has fewer databases: begin again with those that both have.
            run.databases = run.databases.min(told.databases);
            let (partition, watch) = (active.partition, active.watch);
            run.active.remove(&told.ask);
            self.shard.keys.end_watch(watch);
            run.todo.push_front(partition);
            return true;
        }
        run.sides[side].is_late |= !at.has_reached(&active.began);
        let known = active.versions.take().unwrap_or_else(|| self.shard.applied_of(active.partition));
        active.versions = Some(least(&known, &at.applied));
        let told_sums = Told { sums: told.sums, unsure: told.unsure };
        for (_, theirs) in active.sides.iter_mut().filter(|(at, _)| *at == side) {
            *theirs = Theirs::Here(at.clone(), told_sums.clone());
        }
        self.shard.stats.digest_comparisons += u64::from(active.level != Level::Data);
        true
    }

    /// Compares what can be compared. True: some partition is done.
    pub(super) fn settle_partitions(&mut self, run: &mut Run, now: Now) -> bool {
        let mut active = std::mem::take(&mut run.active);
        let before = active.len();
        active.retain(|_, active| {
            if active.is_walked && now.mono_us >= active.next_look_us {
                active.next_look_us = now.mono_us + LOOK_US;
                for at in 0..active.sides.len() {
                    self.settle_side(run, active, at, now);
                }
            }
            let is_over = active.is_over();
            if is_over {
                self.shard.keys.end_watch(active.watch);
                if let Some(versions) = active.versions.take().filter(|_| active.attempt == 0) {
                    self.note_versions(run, active.partition.0, &versions);
                }
            }
            !is_over
        });
        let is_any_done = active.len() < before;
        // What has begun meanwhile was put into the empty one.
        active.append(&mut run.active);
        run.active = active;
        is_any_done
    }

    fn settle_side(&mut self, run: &mut Run, active: &mut Active, at: usize, now: Now) {
        let (side, theirs) = &active.sides[at];
        let (side, Theirs::Here(position, told)) = (*side, theirs) else { return };
        let is_patient = now.mono_us.saturating_sub(active.began_us) < 2 * wait_ms(run) * 1000;
        let outcome = self.compare(active, position, told);
        let (slots, is_cut) = match outcome {
            None if is_patient => return,
            None => match differing(active, &self.shard.sums_now(active.watch), told) {
                0 => (0, false),
                slots => (slots, false),
            },
            Some(Outcome::Equal) => (0, true),
            Some(Outcome::Differs(slots, is_cut)) => (slots, is_cut),
        };
        let (partition, attempt) = (active.partition, active.attempt);
        active.sides[at].1 = Theirs::Settled;
        if slots == 0 {
            return;
        }
        let at_us = now.mono_us + (PAUSE_US << attempt.min(8));
        if !is_cut {
            run.sides[side].report.slots_behind += u64::from(slots.count_ones());
        } else if active.level == Level::Total {
            run.again.push(Again { at_us: now.mono_us, side, partition, level: Level::Kept, mask: u64::MAX, attempt });
        } else if attempt + 1 < ATTEMPTS_MAX {
            run.again.push(Again { at_us, side, partition, level: active.level, mask: slots, attempt: attempt + 1 });
        } else {
            let first = partition.first_slot().0;
            for at in (0..SLOTS_PER_PARTITION as u16).filter(|at| slots & 1 << at != 0) {
                self.open_exams(run, side, Slot(first + at), now);
            }
        }
    }

    // `None`: we are not as far yet.
    fn compare(&self, active: &Active, position: &Position, told: &Told) -> Option<Outcome> {
        // Where it did not come as far as we were, no cut can be made.
        let is_cut = position.has_reached(&active.began);
        if is_cut && !self.shard.has_reached(active.partition, position) {
            return None;
        }
        let own = match is_cut {
            true => self.shard.sums_at(active.watch, position),
            false => self.shard.sums_now(active.watch),
        };
        Some(match differing(active, &own, told) {
            0 => Outcome::Equal,
            slots => Outcome::Differs(slots, is_cut),
        })
    }
}

fn wait_ms(run: &Run) -> u64 {
    if run.is_asked_for() { WAIT_MS } else { BACKGROUND_WAIT_MS }
}

// The slots that differ, or of which one side cannot tell.
fn differing(active: &Active, own: &Option<Told>, theirs: &Told) -> u64 {
    let Some(own) = own else { return active.mask };
    let unsure = (own.unsure | theirs.unsure) & active.mask;
    if active.level == Level::Total {
        let is_equal = theirs.sums.first().map(|sum| sum.writes) == Some(own.total().writes);
        return if is_equal && unsure == 0 { 0 } else { active.mask };
    }
    let asked = (0..SLOTS_PER_PARTITION).filter(|at| active.mask & 1 << at != 0);
    let differs = |own: &Weights, theirs: &Weights| {
        own.writes != theirs.writes || active.level == Level::Data && own.contents != theirs.contents
    };
    let pairs = asked.zip(&theirs.sums);
    pairs.filter(|(at, theirs)| differs(&own.sums[*at], theirs)).fold(unsure, |slots, (at, _)| slots | 1 << at)
}

// What both have applied.
fn least(a: &Applied, b: &Applied) -> Applied {
    let of = |origin| b.iter().find(|(known, _)| *known == origin).map(|(_, hlc)| *hlc);
    a.iter().filter_map(|&(origin, hlc)| Some((origin, hlc.min(of(origin)?)))).collect()
}
