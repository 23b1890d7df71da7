//! What a core knows of every member: who they are and what they have applied, ourselves included.

use crate::base::ids::{PARTITIONS, Uuid};
use crate::merge::origins::Origins;
use crate::merge::stamp::Hlc;
use crate::merge::version::Versions;
use crate::peer::mesh::Entry;

/// See the file's head.
pub struct Roster {
    own: Row,
    others: Vec<Row>,
    /// By shard, its last promise and until when its deadlines are final.
    promises: Vec<(Hlc, u64)>,
}

/// One member.
#[derive(Clone)]
pub struct Row {
    /// Who.
    pub node: Uuid,
    /// What it has applied.
    pub versions: Versions,
    /// Its later writes carry readings above this one.
    pub promise: Hlc,
    /// Deadlines before this Unix millisecond are final there.
    pub final_ms: u64,
}

impl Row {
    /// Nothing known.
    pub fn new(node: Uuid) -> Self {
        Self { node, versions: Versions::new(0, PARTITIONS), promise: Hlc::ZERO, final_ms: 0 }
    }

    /// What is here and not in `said`, which then has it; `None` if that is nothing. A promise alone is worth saying
    /// only `promises` (with every heartbeat), and until it has been it counts as not said. The member's own origins
    /// come first, because what else it acknowledges counts only once its own writes have arrived.
    pub fn news(&self, origins: &Origins, said: &mut Row, promises: bool) -> Option<Vec<Entry>> {
        let mut news = Vec::new();
        for (origin, partition, hlc) in self.versions.all() {
            if said.versions.raise(origin, partition, hlc) {
                news.push((origin, partition as u8, hlc));
            }
        }
        let has_grown = self.promise > said.promise || self.final_ms > said.final_ms;
        if news.is_empty() && !(promises && has_grown) {
            return None;
        }
        news.sort_by_key(|(origin, ..)| origins.id(*origin).node != self.node);
        (said.promise, said.final_ms) = (self.promise, self.final_ms);
        Some(news)
    }
}

impl Roster {
    /// Ourselves alone, with `shards` shards.
    pub fn new(own: Uuid, shards: usize) -> Self {
        Self { own: Row::new(own), others: Vec::new(), promises: vec![(Hlc::ZERO, 0); shards] }
    }

    /// Ourselves.
    pub fn own(&self) -> &Row {
        &self.own
    }

    /// The other members.
    pub fn others(&self) -> &[Row] {
        &self.others
    }

    /// A shard of ours has said what it has applied.
    pub fn published(&mut self, shard: usize, entries: &[Entry], promise: Hlc, final_ms: u64) {
        for &(origin, partition, hlc) in entries {
            self.own.versions.raise(origin, usize::from(partition), hlc);
        }
        self.promises[shard] = (promise, final_ms);
        self.own.promise = self.promises.iter().map(|(promise, _)| *promise).min().unwrap_or_default();
        self.own.final_ms = self.promises.iter().map(|(_, final_ms)| *final_ms).min().unwrap_or_default();
    }

    /// Adds a member; true if it is new.
    pub fn add(&mut self, node: Uuid) -> bool {
        let is_new = node != self.own.node && !self.others.iter().any(|row| row.node == node);
        if is_new {
            self.others.push(Row::new(node));
        }
        is_new
    }

    /// Removes a member.
    pub fn remove(&mut self, node: Uuid) {
        self.others.retain(|row| row.node != node);
    }

    /// A member has said, or is said to have, applied this.
    pub fn heard(&mut self, node: Uuid, entries: &[Entry], promise: Hlc, final_ms: u64) {
        if let Some(row) = self.others.iter_mut().find(|row| row.node == node) {
            for &(origin, partition, hlc) in entries {
                row.versions.raise(origin, usize::from(partition), hlc);
            }
            row.promise = row.promise.max(promise);
            row.final_ms = row.final_ms.max(final_ms);
        }
    }

    /// Every member, ourselves first.
    pub fn nodes(&self) -> Vec<Uuid> {
        std::iter::once(self.own.node).chain(self.others.iter().map(|row| row.node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::origins::{OriginId, OriginIdx};

    #[test]
    fn a_promise_that_was_held_back_is_news_with_the_next_heartbeat() {
        let node = Uuid([1; 16]);
        let origins = Origins::new(OriginId { node, incarnation: 1 });
        let (mut row, mut said) = (Row::new(node), Row::new(node));
        row.versions.raise(OriginIdx::OWN, 3, Hlc(7));
        assert_eq!(row.news(&origins, &mut said, false), Some(vec![(OriginIdx::OWN, 3, Hlc(7))]));
        row.promise = Hlc(9);
        assert_eq!(row.news(&origins, &mut said, false), None);
        assert_eq!(row.news(&origins, &mut said, true), Some(Vec::new()));
        row.final_ms = 5;
        assert_eq!(row.news(&origins, &mut said, true), Some(Vec::new()));
        assert_eq!(row.news(&origins, &mut said, true), None);
    }
}
