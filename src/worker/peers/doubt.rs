//! Partitions of this shard that have to be taken whole because of what an earlier run may have said
//! (`shard::doubts`), and from whom: the link that brought the write they are in doubt about, or any other if that is
//! gone.

use super::super::Worker;
use super::super::batch::Message;
use crate::base::ids::{ConnId, Partition, ShardId};
use crate::peer::mesh::{PeerId, PeerMessage};
use crate::shard::block::{self, Kind};
use std::collections::btree_map;

impl Worker {
    /// A link has brought records.
    pub(super) fn note_doubts(&mut self, link: PeerId) {
        for partition in self.shard.doubtful() {
            self.peers.doubts.entry(partition.0).or_insert(link);
        }
    }

    /// Asks for all partitions that are in doubt; called ten times a second until they are not.
    pub(super) fn ask_about_doubts(&mut self) {
        if self.peers.doubts.is_empty() {
            return;
        }
        let doubtful: Vec<Partition> = self.shard.doubtful().collect();
        self.peers.doubts.retain(|&at, _| doubtful.contains(&Partition(at)));
        let under_way = |at: u8| self.peers.wholes.keys().any(|(_, of)| *of == at);
        let asked: Vec<(u8, PeerId)> =
            self.peers.doubts.iter().map(|(&at, &link)| (at, link)).filter(|&(at, _)| !under_way(at)).collect();
        for (at, link) in asked {
            let partition = Partition(at);
            self.send(link.home, Message::Peer(Box::new(PeerMessage::Doubtful { partition, link })));
        }
    }

    /// A shard asks the core of a link for a whole partition.
    pub(super) fn pull_doubtful(&mut self, partition: Partition, link: PeerId) {
        let has_begun =
            |conn: ConnId| self.peers.conns.get(&conn).is_some_and(|conn| conn.is_link && conn.phase.has_begun());
        let conn = match has_begun(link.conn) {
            true => Some(link.conn),
            false => self.peers.conns.keys().copied().find(|&conn| has_begun(conn)),
        };
        let Some(conn) = conn else {
            // Some other core may have a link that has.
            let next = ShardId((self.id.0 + 1) % self.cores() as u16);
            return self.send(
                self.shard.map.owner(partition),
                Message::Peer(Box::new(PeerMessage::NoLink { partition, next })),
            );
        };
        if let btree_map::Entry::Vacant(free) = self.peers.pulling.entry(partition.0)
            && let Some(session) = self.sessions.get_mut(conn)
        {
            free.insert(PeerId { home: self.id, conn });
            block::put(&mut session.output, Kind::Pull, |out| out.push(partition.0));
            self.dirty_if_output(conn);
        }
    }

    /// The core that was asked has no link: the next one is asked.
    pub(super) fn ask_next(&mut self, partition: Partition, next: ShardId) {
        if let Some(link) = self.peers.doubts.get_mut(&partition.0) {
            link.home = next;
        }
    }
}
