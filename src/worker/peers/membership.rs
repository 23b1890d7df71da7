//! Members come by being met or named and go by being forgotten; see `shard::standing`.

use super::super::Worker;
use super::*;
use crate::base::ids::Uuid;
use crate::base::time::Now;
use crate::command::error::CommandError;
use crate::peer::mesh::PeerMessage;
use crate::shard::standing::Standing;

/// About what a memory of a delete costs: entry, table and queue.
const TOMBSTONE_BYTES: usize = 96;

impl Worker {
    /// MULTIMASTER FORGET: nothing waits for a node any more, here and on every node that hears of it.
    pub(in super::super) fn forget_node(&mut self, node: Uuid) -> Result<(), CommandError> {
        if node == self.node.realm.origins.own().node {
            return Err(CommandError::Text("ERR this node cannot forget itself"));
        }
        if self.peers.runs.is_connected(node) {
            return Err(CommandError::Owned(format!(
                "ERR node {node} is connected: stop it, or remove the replicaof lines between it and this node, first"
            )));
        }
        let standings = self.shard.stability.standings();
        if !self.shard.stability.members().any(|member| member == node) && !standings.of(node).forgotten {
            return Err(CommandError::Owned(format!("ERR node {node} is not known: see MULTIMASTER STATUS")));
        }
        let said = standings.turned(node, true);
        self.say_standings(Arc::new([said]));
        Ok(())
    }

    /// A node has connected: it is a member, also if it was forgotten.
    pub(super) fn admit(&mut self, node: Uuid) {
        if self.shard.stability.standings().of(node).forgotten {
            tracing::info!(%node, "a node that had been forgotten is back, and a member again");
            let said = self.shard.stability.standings().turned(node, false);
            self.say_standings(Arc::new([said]));
        }
        let nodes: Arc<[Uuid]> = Arc::new([node]);
        self.broadcast(|| PeerMessage::Members(Arc::clone(&nodes)));
    }

    /// Says on all cores who was forgotten or is back.
    pub(super) fn say_standings(&mut self, standings: Arc<[Standing]>) {
        self.broadcast(|| PeerMessage::Standings(Arc::clone(&standings)));
    }

    /// A core has heard who was forgotten or is back.
    pub(super) fn hear_standings(&mut self, standings: &[Standing]) {
        let own = self.node.realm.origins.own().node;
        self.shard.note_forgotten();
        for &said in standings.iter().filter(|said| said.node != own) {
            let is_here = self.peers.runs.is_connected(said.node);
            if self.shard.stability.judge(said, is_here) {
                if said.forgotten && !is_here {
                    self.peers.roster.remove(said.node);
                }
                // Who hears of this from us hears again behind it what we know of that node.
                self.peers.conns.values_mut().for_each(|conn| _ = conn.said.remove(&said.node));
                // Whoever is connected here has not left, whatever is said elsewhere.
                if said.forgotten && is_here {
                    self.admit(said.node);
                }
            }
        }
        self.follow_members();
    }

    /// Lets go whoever has been away longest, when what is remembered for it takes more than it may.
    pub(super) fn tend_members(&mut self, now: Now) {
        self.follow_members();
        let (bytes, limit) = (self.remembered_bytes(), self.remembered_bytes_max());
        self.shard.note_forgotten();
        if let Some(node) = self.shard.stability.tend(bytes, limit, now.wall_ms) {
            tracing::warn!(
                %node,
                "deletes are remembered no more for a node that is away: tombstone-memory-limit is reached; it takes \
                 whole partitions when it returns"
            );
        }
    }

    /// About what this core keeps only because somebody may not have heard of its end.
    pub(super) fn remembered_bytes(&self) -> usize {
        (self.shard.keys.tombstones() + self.shard.keys.past_len()).saturating_mul(TOMBSTONE_BYTES)
    }

    /// This core's part of `tombstone-memory-limit`.
    pub(super) fn remembered_bytes_max(&self) -> usize {
        usize::try_from(self.config.tombstone_memory_limit / self.cores() as u64).unwrap_or(usize::MAX)
    }

    /// Whether memories of deletes take what they may: then nothing is remembered for who was never met.
    pub fn is_out_of_memories(&self) -> bool {
        self.remembered_bytes() >= self.remembered_bytes_max()
    }

    /// Brings the roster in line with who is a member.
    pub(super) fn follow_members(&mut self) {
        for node in self.shard.stability.members() {
            self.peers.roster.add(node);
        }
    }
}
