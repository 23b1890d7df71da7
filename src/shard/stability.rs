//! What every member is known to have applied, for the partitions of one shard.
//!
//! A write is stable when every member has acknowledged it; then no write that has not seen it can still arrive, and
//! memories of deletes can go. A member's acknowledgement counts only once we have applied that member's own writes
//! up to it: what it wrote before it acknowledged must have reached us first.

use crate::base::ids::Uuid;
use crate::merge::origins::{OriginIdx, Origins};
use crate::merge::stamp::{Hlc, Stamp};
use crate::merge::version::Versions;

/// See the file's head.
pub struct Stability {
    first: usize,
    end: usize,
    members: Vec<Member>,
}

struct Member {
    node: Uuid,
    /// What it acknowledged and we may act on.
    acked: Versions,
    /// What it acknowledged beyond that: `(partition, origin, reading)` waiting for its own writes to arrive.
    waiting: Vec<(usize, OriginIdx, Hlc)>,
    /// Every later write of this member carries a reading above this one.
    promised: Hlc,
}

impl Stability {
    /// No members but ourselves, for partitions `first..end`.
    pub fn new(first: usize, end: usize) -> Self {
        Self { first, end, members: Vec::new() }
    }

    /// Adds a member, which has acknowledged nothing yet. Known members stay as they are.
    pub fn add(&mut self, node: Uuid) {
        if !self.members.iter().any(|member| member.node == node) {
            let acked = Versions::new(self.first, self.end);
            self.members.push(Member { node, acked, waiting: Vec::new(), promised: Hlc::ZERO });
        }
    }

    /// Removes a member: nothing waits for it any more.
    pub fn remove(&mut self, node: Uuid) {
        self.members.retain(|member| member.node != node);
    }

    /// The members, ourselves not counted.
    pub fn members(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.members.iter().map(|member| member.node)
    }

    /// A member says it has applied `origin`'s writes up to `hlc` in a partition. `own`: what we have applied.
    pub fn acknowledge(
        &mut self,
        origins: &Origins,
        own: &Versions,
        node: Uuid,
        partition: usize,
        origin: OriginIdx,
        hlc: Hlc,
    ) {
        let Some(member) = self.members.iter_mut().find(|member| member.node == node) else { return };
        let is_its_own = origins.id(origin).node == node;
        if is_its_own && own.get(origin, partition) < hlc {
            member.waiting.push((partition, origin, hlc));
            return;
        }
        let held = member.waiting.iter().any(|&(waiting, ..)| waiting == partition);
        if held {
            member.waiting.push((partition, origin, hlc));
        } else {
            member.acked.raise(origin, partition, hlc);
        }
    }

    /// Counts acknowledgements whose member's own writes have arrived meanwhile. Called when `own` has grown.
    pub fn settle(&mut self, origins: &Origins, own: &Versions) {
        for member in &mut self.members {
            if member.waiting.is_empty() {
                continue;
            }
            let node = member.node;
            let blocked: Vec<usize> = member
                .waiting
                .iter()
                .filter(|&&(partition, origin, hlc)| {
                    origins.id(origin).node == node && own.get(origin, partition) < hlc
                })
                .map(|&(partition, ..)| partition)
                .collect();
            let acked = &mut member.acked;
            member.waiting.retain(|&(partition, origin, hlc)| {
                let keep = blocked.contains(&partition);
                if !keep {
                    acked.raise(origin, partition, hlc);
                }
                keep
            });
        }
    }

    /// A member promises that its later writes carry readings above `hlc`.
    pub fn promise(&mut self, node: Uuid, hlc: Hlc) {
        if let Some(member) = self.members.iter_mut().find(|member| member.node == node) {
            member.promised = member.promised.max(hlc);
        }
    }

    /// Whether every member has acknowledged a write. Stamps of zero were never written.
    pub fn is_stable(&self, partition: usize, stamp: Stamp) -> bool {
        stamp.is_zero() || self.members.iter().all(|member| member.acked.covers(partition, stamp))
    }

    /// Below this Unix millisecond no member will write any more, ourselves (`own`) included.
    pub fn horizon_ms(&self, own: Hlc) -> u64 {
        self.members.iter().map(|member| member.promised).fold(own, Hlc::min).wall_ms()
    }
}
