//! Feeds: every shard writes from its own backlog, the home core has the socket, credit bounds what is between.

use super::super::Worker;
use super::super::batch::Message;
use super::*;
use crate::base::ids::ShardId;
use crate::peer::mesh::{PeerId, PeerMessage};

impl Worker {
    /// Whether there is neither a feed here nor credit to give.
    pub(in super::super) fn peers_are_idle(&self) -> bool {
        self.peers.feeds.is_empty() && self.peers.conns.is_empty()
    }

    /// Of every feed of this shard, the bytes on their way to the core that has its socket.
    pub(in super::super) fn feeds_under_way(&self) -> impl Iterator<Item = usize> + '_ {
        self.peers.feeds.iter().map(|served| served.under_way)
    }

    /// Lets every feed of this shard send what it can; called once per round.
    pub(in super::super) fn pump_feeds(&mut self) {
        let mut are_skimming = false;
        for at in 0..self.peers.feeds.len() {
            let served = &mut self.peers.feeds[at];
            let id = served.id;
            if id.home == self.id {
                let Some(mut output) =
                    self.sessions.get_mut(id.conn).map(|session| std::mem::take(&mut session.output))
                else {
                    continue;
                };
                let unsent = self.sessions.get(id.conn).map_or(0, |session| session.unsent) + output.len();
                let before = output.len();
                if unsent < FEED_UNSENT_MAX {
                    if let Some(mut conn) = self.peers.conns.remove(&id.conn) {
                        self.say_dictionary(&mut conn, &mut output);
                        self.peers.conns.insert(id.conn, conn);
                    }
                    let feed = &mut self.peers.feeds[at].feed;
                    are_skimming |= feed.pump(&self.shard, &mut output, FEED_UNSENT_MAX - unsent);
                }
                self.stats.repl_out += (output.len() - before) as u64;
                if let Some(session) = self.sessions.get_mut(id.conn) {
                    session.output = output;
                }
                self.dirty_if_output(id.conn);
            } else if served.under_way < FEED_CREDIT_MAX {
                let mut bytes = Vec::new();
                are_skimming |= served.feed.pump(&self.shard, &mut bytes, FEED_CREDIT_MAX - served.under_way);
                if !bytes.is_empty() {
                    served.under_way += bytes.len();
                    self.send(id.home, Message::Peer(Box::new(PeerMessage::FeedBytes { feed: id, bytes })));
                }
            }
        }
        self.peers.are_skimming = are_skimming;
        self.give_credit();
    }

    /// Whether some feed has more to look at that needs no room: what its reader has already. Nothing else might happen
    /// before the next tick.
    pub(in super::super) fn feeds_are_skimming(&self) -> bool {
        self.peers.are_skimming && !self.peers.feeds.is_empty()
    }

    pub(super) fn give_credit(&mut self) {
        let mut credits = Vec::new();
        for (id, conn) in &mut self.peers.conns {
            if conn.uncredited.is_empty() {
                continue;
            }
            let unsent = self.sessions.get(*id).map_or(0, |session| session.unsent + session.output.len());
            if unsent < FEED_UNSENT_MAX {
                let feed = PeerId { home: self.id, conn: *id };
                credits.extend(conn.uncredited.drain(..).map(|(shard, bytes)| (shard, feed, bytes)));
            }
        }
        for (shard, feed, bytes) in credits {
            self.send(shard, Message::Peer(Box::new(PeerMessage::FeedCredit { feed, bytes })));
        }
    }

    pub(super) fn feed_bytes(&mut self, from: ShardId, feed: PeerId, bytes: &[u8]) {
        let Some(mut conn) = self.peers.conns.remove(&feed.conn) else { return };
        if let Some(mut output) = self.sessions.get_mut(feed.conn).map(|session| std::mem::take(&mut session.output)) {
            self.say_dictionary(&mut conn, &mut output);
            output.extend_from_slice(bytes);
            self.stats.repl_out += bytes.len() as u64;
            if let Some(session) = self.sessions.get_mut(feed.conn) {
                session.output = output;
            }
            self.dirty(feed.conn);
        }
        conn.uncredited.push((from, bytes.len()));
        self.peers.conns.insert(feed.conn, conn);
    }
}
