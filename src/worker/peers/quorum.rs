//! How many masters are linked and how many readers keep up, over all cores: what `replica-quorum`,
//! `replica-serve-stale-data` and `min-replicas-to-write` ask, and how many masters may be linked soon.

use super::super::Worker;
use super::*;
use crate::base::time::Now;
use crate::command::error::CommandError;
use crate::command::spec::{STALE, Spec, WRITE};
use crate::peer::mesh::Counts;

impl Worker {
    /// Why this command must be refused for want of masters or readers, if so; as Redis judges with one master and
    /// KeyDB with several.
    pub(in super::super) fn refuses_alone(&self, spec: &Spec) -> Option<CommandError> {
        let config = &self.config;
        let asks = config.min_replicas_to_write > 0 && config.min_replicas_max_lag > 0;
        if asks && spec.flags.has(WRITE) && self.linked().readers < config.min_replicas_to_write as usize {
            return Some(CommandError::Text("NOREPLICAS Not enough good replicas to write."));
        }
        None
    }

    /// Why this command must not see data that may be old, if so.
    pub(in super::super) fn refuses_stale(&self, spec: &Spec) -> Option<CommandError> {
        let refuses = !self.config.replica_serve_stale_data && !spec.flags.has(STALE) && !self.has_quorum();
        refuses.then_some(CommandError::Text(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ))
    }

    /// Whether as many masters are linked as `replica-quorum` asks for. A node without masters lacks none.
    pub(in super::super) fn has_quorum(&self) -> bool {
        let masters = self.config.replicaof.len();
        let wanted = usize::try_from(self.config.replica_quorum).unwrap_or(masters);
        masters == 0 || self.linked().masters >= wanted
    }

    /// Over all cores.
    pub(super) fn linked(&self) -> Counts {
        let add = |sum: Counts, each: &Counts| Counts {
            masters: sum.masters + each.masters,
            readers: sum.readers + each.readers,
            coming: sum.coming + each.coming,
        };
        self.peers.linked.iter().fold(Counts::default(), add)
    }

    // Linked, and not with data from before the link: as in Redis, where a link is down until the first sync is over.
    fn is_followed(&self, target: &Target) -> bool {
        let State::Up(conn) = target.state else { return false };
        self.peers.conns.get(&conn).is_some_and(|conn| conn.phase.has_caught_up())
    }

    /// Tells every core what is linked here, if that has changed.
    pub(super) fn share_counts(&mut self, now: Now) {
        let lag_us = u64::from(self.config.min_replicas_max_lag) * 1_000_000;
        let keeps_up =
            |conn: &&Conn| !conn.is_link && conn.started && now.mono_us.saturating_sub(conn.last_input_us) <= lag_us;
        let counts = Counts {
            masters: self.peers.targets.iter().filter(|target| self.is_followed(target)).count(),
            readers: self.peers.conns.values().filter(keeps_up).count(),
            coming: self.peers.targets.iter().filter(|target| target.is_coming()).count(),
        };
        if counts != self.peers.linked_said {
            self.peers.linked_said = counts;
            self.broadcast(|| PeerMessage::Linked(counts));
        }
    }
}
