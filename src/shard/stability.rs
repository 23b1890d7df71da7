//! What every member is known to have applied, for the partitions of one shard.
//!
//! A write is stable when every member has acknowledged it; then no write that has not seen it can still arrive, and
//! memories of deletes can go. A member's acknowledgement counts only once we have applied everything that member had
//! applied by then: what it had written before it acknowledged must have reached us first, and so must what it has of a
//! run of a node that is over, which nobody else may answer for.
//!
//! What is remembered for members that are away is bounded ([`Stability::tend`]): beyond the bound the one that has been
//! away longest is let go. Nothing waits for it until it speaks again; then it is behind what was forgotten meanwhile
//! and takes the partitions concerned whole (`shard::feed`).

use std::collections::VecDeque;

use crate::base::ids::Uuid;
use crate::merge::origins::{OriginId, OriginIdx};
use crate::merge::stamp::{Hlc, Stamp};
use crate::merge::version::Versions;
use crate::shard::standing::{Standing, Standings};

/// See the file's head.
pub struct Stability {
    first: usize,
    end: usize,
    members: Vec<Member>,
    standings: Standings,
    /// Configured masters that have not said yet who they are.
    unknown: usize,
    /// By partition the latest stamp forgotten by now ([`Stability::note_forgotten`]).
    forgotten: Vec<Hlc>,
}

struct Member {
    node: Uuid,
    /// Which run of it the rest is of; 0: none known yet.
    start: u64,
    /// It has masters configured that it has not met yet: they may hold what was deleted here.
    has_strangers: bool,
    /// What it acknowledged and we may act on.
    acked: Versions,
    /// What it acknowledged beyond that, in the order it said so: waiting for what it had applied to arrive.
    waiting: VecDeque<Waiting>,
    /// Every later write of this member carries a reading above this one.
    promised: Hlc,
    /// A promise made beside acknowledgements that are waiting.
    promise_waiting: Hlc,
    /// Deadlines before this Unix millisecond are final on this member (`Keyspace::final_ms`).
    final_ms: u64,
    /// It has spoken since [`Stability::tend`] last looked.
    spoke: bool,
    /// When it last spoke, Unix milliseconds; zero: not since we started.
    heard_ms: u64,
    /// Nothing waits for it.
    let_go: bool,
    /// By partition what had been forgotten when it began to be waited for.
    before: Vec<Hlc>,
}

/// A member that has been silent for this long is away.
const AWAY_MS: u64 = 10_000;

struct Waiting {
    partition: usize,
    acked: Vec<(OriginIdx, Hlc)>,
}

/// Acknowledgements of one member that may wait; beyond that the latest two of a partition become one.
pub const WAITING_MAX: usize = 1024;

impl Stability {
    /// No members but ourselves, for partitions `first..end`.
    pub fn new(first: usize, end: usize) -> Self {
        let forgotten = vec![Hlc::ZERO; end - first];
        Self { first, end, members: Vec::new(), standings: Standings::default(), unknown: 0, forgotten }
    }

    /// Adds a member, which has acknowledged nothing yet. Known members stay as they are, forgotten ones forgotten.
    pub fn add(&mut self, node: Uuid) {
        if !self.standings.of(node).forgotten && !self.members.iter().any(|member| member.node == node) {
            self.members.push(Member::new(node, 0, self.first, self.end, &self.forgotten));
        }
    }

    /// A member says something as this run of it. What an earlier run had acknowledged and promised is void: a node
    /// that starts again may have lost data. What waited for an earlier run's writes would wait for ever where they are
    /// lost.
    pub fn begin(&mut self, run: OriginId) {
        let (first, end, forgotten) = (self.first, self.end, &self.forgotten);
        if let Some(member) = self.members.iter_mut().find(|member| member.node == run.node)
            && member.start < run.incarnation
        {
            *member = Member::new(run.node, run.incarnation, first, end, forgotten);
        }
    }

    /// The latest stamp forgotten in each partition. Called before members are added or looked after.
    pub fn note_forgotten(&mut self, forgotten: impl Iterator<Item = Hlc>) {
        for (known, now) in self.forgotten.iter_mut().zip(forgotten) {
            *known = now;
        }
    }

    /// Others had forgotten this, and with what they have sent it is forgotten here. Not every member may have told us that
    /// it has acknowledged it.
    pub fn note_import(&mut self, partition: usize, stamp: Stamp) {
        let at = partition - self.first;
        for member in &mut self.members {
            if !member.acked.covers(partition, stamp) || stamp.hlc() > member.promised {
                member.before[at] = member.before[at].max(stamp.hlc());
            }
        }
    }

    /// Up to where something may have been forgotten in a partition that this run was not waited for to acknowledge:
    /// what it writes may not have seen it, and whoever else has forgotten it would take that for more than it is. A run
    /// that is over, or of nobody we wait for, was never waited for.
    pub fn unasked(&self, run: OriginId, partition: usize) -> Hlc {
        let is_it = |member: &&Member| member.node == run.node && member.start == run.incarnation;
        self.awaited().find(is_it).map_or(Hlc::MAX, |member| member.before[partition - self.first])
    }

    /// Whether a member has masters configured that it has not met yet.
    pub fn set_strangers(&mut self, node: Uuid, has_strangers: bool) {
        if let Some(member) = self.members.iter_mut().find(|member| member.node == node) {
            member.has_strangers = has_strangers;
        }
    }

    /// Hears that a node was forgotten, or is a member again; whether that was news. Nothing waits for a forgotten
    /// node any more, unless it is here all the same (`is_here`): then it has not left. What a member has acknowledged
    /// stays: it says nothing twice.
    pub fn judge(&mut self, said: Standing, is_here: bool) -> bool {
        let is_news = self.standings.hear(said);
        if is_news && said.forgotten && !is_here {
            self.members.retain(|member| member.node != said.node);
        }
        if is_news {
            self.add(said.node);
        }
        is_news
    }

    /// Who was ever forgotten.
    pub fn standings(&self) -> &Standings {
        &self.standings
    }

    /// The members, ourselves not counted.
    pub fn members(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.members.iter().map(|member| member.node)
    }

    /// A member says what it had applied in one partition at one moment, of every origin, its own writes included.
    /// `own`: what we have applied. Counts once we have applied all of that, since the member's own writes may not
    /// have seen what it had not applied. Later acknowledgements never overtake earlier ones.
    pub fn acknowledge(&mut self, own: &Versions, node: Uuid, partition: usize, acked: &[(OriginIdx, Hlc)]) {
        let Some(member) = self.members.iter_mut().find(|member| member.node == node) else { return };
        let is_waiting = member.waiting.iter().any(|waiting| waiting.partition == partition);
        if !is_waiting && Member::has_arrived(own, partition, acked) {
            return member.count(partition, acked);
        }
        if member.waiting.len() >= WAITING_MAX
            && let Some(last) = member.waiting.iter_mut().rev().find(|waiting| waiting.partition == partition)
        {
            // All of it, later: a member that is this far ahead is being merged whole.
            for &(origin, hlc) in acked {
                match last.acked.iter_mut().find(|(known, _)| *known == origin) {
                    Some((_, known)) => *known = hlc.max(*known),
                    None => last.acked.push((origin, hlc)),
                }
            }
            return;
        }
        member.waiting.push_back(Waiting { partition, acked: acked.to_vec() });
    }

    /// How many acknowledgements of each member wait.
    pub fn waiting(&self) -> impl Iterator<Item = usize> + '_ {
        self.members.iter().map(|member| member.waiting.len())
    }

    /// Counts acknowledgements whose member's own writes have arrived meanwhile. Called when `own` has grown.
    pub fn settle(&mut self, own: &Versions) {
        for member in self.members.iter_mut().filter(|member| !member.waiting.is_empty()) {
            let mut blocked: Vec<usize> = Vec::new();
            for _ in 0..member.waiting.len() {
                let Some(waiting) = member.waiting.pop_front() else { break };
                let partition = waiting.partition;
                if !blocked.contains(&partition) && Member::has_arrived(own, partition, &waiting.acked) {
                    member.count(partition, &waiting.acked);
                    continue;
                }
                if !blocked.contains(&partition) {
                    blocked.push(partition);
                }
                member.waiting.push_back(waiting);
            }
            if member.waiting.is_empty() {
                member.promised = member.promised.max(member.promise_waiting);
            }
        }
    }

    /// A member promises that its later writes carry readings above `hlc`. Said after its acknowledgements: counts
    /// once all it had written before has been applied here.
    pub fn promise(&mut self, node: Uuid, hlc: Hlc) {
        if let Some(member) = self.members.iter_mut().find(|member| member.node == node) {
            // What others pass on from before it left is no sign of life.
            member.spoke |= hlc > member.promised.max(member.promise_waiting);
            if member.waiting.is_empty() {
                member.promised = member.promised.max(hlc);
            } else {
                member.promise_waiting = member.promise_waiting.max(hlc);
            }
        }
    }

    /// Looks after members, about ten times a second. Memories of deletes take `bytes` and may take `bytes_max`:
    /// beyond it the member that has been away longest holds none back, until it speaks again. Returns who has just
    /// been let go.
    pub fn tend(&mut self, bytes: usize, bytes_max: usize, now_ms: u64) -> Option<Uuid> {
        for member in self.members.iter_mut().filter(|member| member.spoke) {
            if member.let_go {
                member.before.clone_from(&self.forgotten);
            }
            (member.spoke, member.heard_ms, member.let_go) = (false, now_ms, false);
        }
        if bytes <= bytes_max {
            return None;
        }
        let is_away = |member: &&mut Member| !member.let_go && member.heard_ms.saturating_add(AWAY_MS) <= now_ms;
        let longest = self.members.iter_mut().filter(is_away).min_by_key(|member| member.heard_ms)?;
        longest.let_go = true;
        Some(longest.node)
    }

    /// Whether nothing waits for a member, because it is away and memories take too much.
    pub fn is_let_go(&self, node: Uuid) -> bool {
        self.members.iter().any(|member| member.node == node && member.let_go)
    }

    fn awaited(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.let_go)
    }

    // Nothing becomes stable or final for now. What was final before stays so, and is not judged meanwhile.
    fn is_held(&self) -> bool {
        self.unknown > 0 || self.awaited().any(|member| member.has_strangers)
    }

    /// Whether every member has acknowledged a write and will write above it from now on, come what may: a member that
    /// forgets what it has acknowledged, because it starts again without it, may not write below it. Stamps of zero were
    /// never written.
    pub fn is_stable(&self, partition: usize, stamp: Stamp) -> bool {
        let is_acked = |member: &Member| {
            !member.has_strangers && member.acked.covers(partition, stamp) && stamp.hlc() <= member.promised
        };
        stamp.is_zero() || self.unknown == 0 && self.awaited().all(is_acked)
    }

    /// So many configured masters have not said yet who they are: while there are any, nothing is stable. Nor is
    /// anything while a node that has met nobody yet may meet anybody (`stranger`): it may hold what we have deleted.
    pub fn set_unknown(&mut self, unknown: usize, stranger: bool) {
        self.unknown = unknown + usize::from(stranger && self.members.is_empty());
    }

    /// Below this Unix millisecond no member will write any more, ourselves (`own`) included.
    pub fn horizon_ms(&self, own: Hlc) -> u64 {
        let own = if self.is_held() { Hlc::ZERO } else { own };
        self.awaited().map(|member| member.promised).fold(own, Hlc::min).wall_ms()
    }

    /// A member says that deadlines before a Unix millisecond are final there (`Keyspace::final_ms`).
    pub fn finalise(&mut self, node: Uuid, final_ms: u64) {
        if let Some(member) = self.members.iter_mut().find(|member| member.node == node) {
            member.final_ms = member.final_ms.max(final_ms);
        }
    }

    /// Deadlines before this Unix millisecond are final on every member, ourselves (`own`) included.
    pub fn all_final_ms(&self, own: u64) -> u64 {
        let own = if self.is_held() { 0 } else { own };
        self.awaited().map(|member| member.final_ms).fold(own, u64::min)
    }
}

impl Member {
    fn new(node: Uuid, start: u64, first: usize, end: usize, forgotten: &[Hlc]) -> Self {
        Self {
            node,
            start,
            has_strangers: false,
            acked: Versions::new(first, end),
            waiting: VecDeque::new(),
            promised: Hlc::ZERO,
            promise_waiting: Hlc::ZERO,
            final_ms: 0,
            spoke: false,
            heard_ms: 0,
            let_go: false,
            before: forgotten.to_vec(),
        }
    }

    // Not only what it wrote itself: writes of a run that is over come from whoever still has them.
    fn has_arrived(own: &Versions, partition: usize, acked: &[(OriginIdx, Hlc)]) -> bool {
        acked.iter().all(|&(origin, hlc)| own.get(origin, partition) >= hlc)
    }

    fn count(&mut self, partition: usize, acked: &[(OriginIdx, Hlc)]) {
        for &(origin, hlc) in acked {
            self.acked.raise(origin, partition, hlc);
        }
    }
}
