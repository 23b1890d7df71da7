//! The end that is asked: it answers from what it holds now, and remembers nothing.

use super::super::super::Worker;
use super::Purpose;
use crate::base::ids::{Partition, Slot};
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::PeerId;
use crate::peer::verify::{Body, Repair, Repaired, RunId, Terms};
use crate::shard::compare::{Level, Walk, Weights};

impl Worker {
    pub(super) fn asked_sums(&mut self, peer: PeerId, run: RunId, partition: Partition, terms: Terms, level: Level) {
        let databases = terms.databases.min(self.shard.keys.databases() as u16);
        if level == Level::Data {
            let walk = Walk::over_partition(partition, databases, terms.over_ms);
            return self.errand(walk, Purpose::AnswerSums { peer, run, partition });
        }
        // While no digests are kept there is nothing to say.
        let Some(sums) = self.shard.kept_sums(partition, databases, level) else { return };
        let versions = said(&self.shard.applied_of(partition));
        self.say_verify(peer, run, partition, Body::Sums { level, versions, sums, wrong: 0, databases });
    }

    pub(super) fn answer_sums(&mut self, peer: PeerId, run: RunId, partition: Partition, walk: &Walk) {
        let (versions, wrong) = (said(walk.applied()), walk.wrong.len() as u64);
        let (sums, databases) = (walk.sums.clone(), walk.databases());
        self.say_verify(peer, run, partition, Body::Sums { level: Level::Data, versions, sums, wrong, databases });
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
}

fn said(versions: &[(OriginIdx, Hlc)]) -> Vec<(u16, Hlc)> {
    versions.iter().map(|(origin, hlc)| (origin.0, *hlc)).collect()
}
