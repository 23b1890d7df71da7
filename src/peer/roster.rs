//! What a core knows of every member: who they are and what they have applied, ourselves included.

use crate::base::ids::{PARTITIONS, Uuid};
use crate::merge::origins::{OriginId, Origins};
use crate::merge::stamp::Hlc;
use crate::merge::version::Versions;
use crate::peer::mesh::{Entry, Report};

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
    /// Which run of it this is known of; 0: none yet. A later one may have lost what an earlier one had.
    pub start: u64,
    /// It has masters configured that it has not met yet.
    pub has_strangers: bool,
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
        let versions = Versions::new(0, PARTITIONS);
        Self { node, start: 0, has_strangers: false, versions, promise: Hlc::ZERO, final_ms: 0 }
    }

    /// What was known of an earlier run is void with a later one. False: this is of an earlier run itself.
    fn follow(&mut self, start: u64) -> bool {
        if start > self.start {
            *self = Self { start, ..Self::new(self.node) };
        }
        start == self.start
    }

    /// What is here and not in `said`, which then has it; `None` if that is nothing. A promise alone is worth saying
    /// only `promises` (with every heartbeat), and until it has been it counts as not said. The member's own origins
    /// come first, because what else it acknowledges counts only once its own writes have arrived.
    pub fn news(&self, origins: &Origins, said: &mut Row, promises: bool) -> Option<Vec<Entry>> {
        said.follow(self.start);
        let mut news = Vec::new();
        for (origin, partition, hlc) in self.versions.all() {
            if said.versions.raise(origin, partition, hlc) {
                news.push((origin, partition as u8, hlc));
            }
        }
        let has_grown = self.promise > said.promise || self.final_ms > said.final_ms;
        let has_changed = self.has_strangers != said.has_strangers;
        if news.is_empty() && !has_changed && !(promises && has_grown) {
            return None;
        }
        news.sort_by_key(|(origin, ..)| origins.id(*origin).node != self.node);
        (said.promise, said.final_ms, said.has_strangers) = (self.promise, self.final_ms, self.has_strangers);
        Some(news)
    }
}

impl Roster {
    /// This run of ourselves alone, with `shards` shards.
    pub fn new(own: OriginId, shards: usize) -> Self {
        let own = Row { start: own.incarnation, ..Row::new(own.node) };
        Self { own, others: Vec::new(), promises: vec![(Hlc::ZERO, 0); shards] }
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

    /// Whether we have masters configured that we have not met yet.
    pub fn set_strangers(&mut self, has_strangers: bool) {
        self.own.has_strangers = has_strangers;
    }

    /// A member has said this, or is said to. False: it has started again since.
    pub fn heard(&mut self, report: &Report) -> bool {
        let Some(row) = self.others.iter_mut().find(|row| row.node == report.of.node) else { return true };
        if !row.follow(report.of.incarnation) {
            return false;
        }
        for &(origin, partition, hlc) in &report.entries {
            row.versions.raise(origin, usize::from(partition), hlc);
        }
        row.promise = row.promise.max(report.promise);
        row.final_ms = row.final_ms.max(report.final_ms);
        row.has_strangers = report.has_strangers;
        true
    }

    /// Every member, ourselves first.
    pub fn nodes(&self) -> Vec<Uuid> {
        std::iter::once(self.own.node).chain(self.others.iter().map(|row| row.node)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::origins::OriginIdx;

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

    #[test]
    fn what_a_run_that_is_over_had_applied_counts_no_more() {
        let (own, other) = (OriginId { node: Uuid([1; 16]), incarnation: 1 }, Uuid([2; 16]));
        let report = |incarnation, hlc| Report {
            of: OriginId { node: other, incarnation },
            entries: vec![(OriginIdx(0), 3, Hlc(hlc))],
            promise: Hlc(hlc),
            final_ms: hlc,
            has_strangers: false,
        };
        let origins = Origins::new(own);
        let mut roster = Roster::new(own, 1);
        roster.add(other);
        assert!(roster.heard(&report(5, 100)));
        let mut said = Row::new(other);
        assert!(roster.others()[0].news(&origins, &mut said, false).is_some());
        assert!(roster.heard(&report(6, 40)), "it has lost what came after 40");
        assert!(!roster.heard(&report(5, 120)), "late words of the run that is over");
        let row = &roster.others()[0];
        assert_eq!((row.versions.get(OriginIdx(0), 3), row.promise, row.final_ms), (Hlc(40), Hlc(40), 40));
        let news = row.news(&origins, &mut said, false);
        assert_eq!(news, Some(vec![(OriginIdx(0), 3, Hlc(40))]), "all of it is told again");
    }
}
