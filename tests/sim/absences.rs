//! Nodes that come back after the others have stopped counting on it: they were forgotten, or were away so long that
//! memories took too much; and nodes that have written before they were linked. Two things are then as README.md says and
//! no fault: what such a node wrote below a delete it had not heard of stays where that is forgotten, until a comparison
//! of digests makes the nodes equal, and the comparison counts it.

use tutti::base::ids::Uuid;

use crate::world::World;

impl World {
    /// A node that was removed is put to work again as it was left: between one of the others and itself, both ways.
    pub fn put_back(&mut self, node: usize) {
        let other = (0..self.nodes.len()).find(|&at| at != node && !self.nodes[at].is_removed);
        let Some(other) = other.filter(|_| self.nodes[node].is_removed) else { return };
        self.coverage.hit("fault: removed node returns");
        self.nodes[node].is_removed = false;
        self.nodes[node].masters = vec![other];
        self.plan.edges.extend([(node, other), (other, node)]);
        if let Some(uuid) = self.uuid(node)
            && !self.is_member_everywhere(uuid)
        {
            self.uncounted.insert(uuid);
        }
        self.bring_up(node, self.nodes[node].cores);
        self.follow(other, node);
    }

    /// Notes whom a core does not count.
    pub fn look_for_uncounted(&mut self, node: usize, core: usize) {
        let worker = &self.core(node, core).worker;
        let stability = &worker.shard.stability;
        let mut all: Vec<Uuid> = stability.standings().all().iter().map(|standing| standing.node).collect();
        let before = all.len();
        all.extend(stability.members().filter(|&member| stability.is_let_go(member)));
        let has_let_go = all.len() > before;
        let members: Vec<Uuid> = stability.members().collect();
        let is_out_of_memories = worker.is_out_of_memories();
        let (keys, (first, end)) = (&worker.shard.keys, worker.shard.keys.partitions());
        if is_out_of_memories || (first..end).any(|at| !keys.forgotten(at).is_zero()) {
            // Nothing is remembered for who was never met; and who has written before it was linked may lack what is
            // forgotten.
            let has_written = |at: usize| {
                let run = self.nodes[at].process.as_ref().and_then(|_| self.nodes[at].identity(at));
                run.is_some_and(|run| self.ledger.has_written(run))
            };
            let others = (0..self.nodes.len()).filter(|&at| is_out_of_memories || at != node && has_written(at));
            all.extend(others.filter_map(|at| self.uuid(at)).filter(|uuid| !members.contains(uuid)));
        }
        self.uncounted.extend(all);
        if has_let_go {
            self.coverage.hit("fault: a member is let go");
        }
    }

    /// Whether one of those is at work at the end; what it wrote is judged accordingly from here on.
    pub fn has_uncounted(&mut self) -> bool {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|&at| self.nodes[at].process.is_some()).collect();
        let back: Vec<Uuid> =
            up.into_iter().filter_map(|at| self.uuid(at)).filter(|uuid| self.uncounted.contains(uuid)).collect();
        self.ledger.excuse_writers(|id| back.contains(&id.node));
        !back.is_empty()
    }

    fn uuid(&self, node: usize) -> Option<Uuid> {
        self.nodes[node].identity(node).map(|id| id.node)
    }

    fn is_member_everywhere(&self, uuid: Uuid) -> bool {
        let mut cores = self.nodes.iter().flat_map(|node| &node.process).flat_map(|process| &process.cores);
        cores.all(|core| core.worker.shard.stability.members().any(|member| member == uuid))
    }
}
