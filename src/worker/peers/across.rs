//! What cores tell each other about links and feeds.

use super::super::Worker;
use super::whole::UNREADABLE;
use super::*;
use crate::base::ids::ShardId;
use crate::base::time::Now;
use crate::merge::origins::OriginIdx;
use crate::merge::stamp::Hlc;
use crate::merge::version::Versions;
use crate::peer::mesh::{PeerId, PeerMessage, Report};
use crate::shard::feed::Feed;
use std::collections::BTreeMap;

impl Worker {
    /// A message about links or feeds from another core (or this one).
    pub(in super::super) fn peer_message(&mut self, from: ShardId, message: PeerMessage, now: Now) {
        match message {
            PeerMessage::Published { entries, promise, final_ms, asked } => {
                self.peers.roster.published(usize::from(from.0), &entries, promise, final_ms);
                self.settle_stability();
                if let Some(link) = asked.filter(|link| link.home == self.id) {
                    self.say_applied(link.conn);
                    self.shard_has_said(link.conn, now);
                }
                self.look_who_caught_up(now);
            }
            PeerMessage::Acknowledge { link } => self.publish(Some(link), now),
            PeerMessage::Heard { report, feed } => self.heard(&report, feed),
            PeerMessage::Members(nodes) => {
                let own = self.node.realm.origins.own().node;
                self.shard.note_forgotten();
                nodes.iter().filter(|node| **node != own).for_each(|&node| self.shard.stability.add(node));
                self.follow_members();
            }
            PeerMessage::Standings(standings) => self.hear_standings(&standings),
            PeerMessage::Identified { host, port } => {
                self.peers.identified.insert((host, port));
                self.count_unknown();
                self.dial_now(now);
            }
            PeerMessage::Direct { origin, healthy } => {
                if let Some(at) = self.peers.direct.iter().position(|known| *known == origin) {
                    self.peers.direct.swap_remove(at);
                }
                if healthy {
                    self.peers.direct.push(origin);
                }
                // Others must hear at once what they need (not) forward.
                self.peers.next_publish_us = self.peers.next_publish_us.min(now.mono_us);
            }
            PeerMessage::Connected { origin, came: true } => self.peers.runs.came(origin, now.mono_us),
            PeerMessage::Connected { origin, came: false } => self.peers.runs.left(origin),
            PeerMessage::Alive(lives) => lives.iter().for_each(|life| self.peers.runs.heard(life)),
            PeerMessage::Refused(run) => _ = self.peers.runs.refused(run, now.mono_us),
            PeerMessage::Linked(counts) => {
                self.peers.linked[usize::from(from.0)] = counts;
                self.deal_turns(now);
            }
            PeerMessage::FeedStart { feed, versions, skip } => {
                self.peers.active = true;
                self.shard.logging = true;
                let (first, end) = self.shard.keys.partitions();
                let mut known = Versions::new(first, end);
                for &(origin, partition, hlc) in versions.iter() {
                    if (first..end).contains(&usize::from(partition)) {
                        known.raise(origin, usize::from(partition), hlc);
                    }
                }
                let served = Feed::new(&self.shard, known, skip.to_vec());
                self.peers.feeds.push(ShardFeed { id: feed, feed: served, under_way: 0 });
            }
            PeerMessage::FeedSkip { feed, skip } => {
                if let Some(served) = self.peers.feeds.iter_mut().find(|served| served.id == feed) {
                    served.feed.set_skip(&self.shard, skip.to_vec());
                }
            }
            PeerMessage::FeedPull { feed, partition } => {
                let (first, end) = self.shard.keys.partitions();
                if let Some(served) = self.peers.feeds.iter_mut().find(|served| served.id == feed)
                    && (first..end).contains(&usize::from(partition.0))
                {
                    served.feed.pull(&self.shard, partition);
                }
            }
            PeerMessage::FeedStop { feed } => {
                self.comparable_left(feed);
                self.peers.feeds.retain(|served| served.id != feed);
            }
            PeerMessage::FeedBytes { feed, bytes } => self.feed_bytes(from, feed, &bytes),
            PeerMessage::FeedCredit { feed, bytes } => {
                if let Some(served) = self.peers.feeds.iter_mut().find(|served| served.id == feed) {
                    served.under_way = served.under_way.saturating_sub(bytes);
                }
            }
            PeerMessage::FromLink { from, items } => {
                for (kind, bytes) in items {
                    if !self.take_from_link(&from, kind, &bytes, now) {
                        self.give_up(from.link, UNREADABLE);
                    }
                }
            }
            PeerMessage::Comparable(peer) => self.comparable_came(peer),
            PeerMessage::VerifyBytes { peer, bytes } => self.send_verify(peer, &bytes),
            PeerMessage::LinkGone { link } => {
                self.comparable_left(link);
                self.drop_wholes(link);
                self.peers.given_up.remove(&link);
            }
            PeerMessage::Turn(turn) => self.turn(turn, now),
            PeerMessage::Broken { link, reason } => {
                if self.peers.conns.contains_key(&link.conn) {
                    self.break_conn(link.conn, reason, now);
                }
            }
            PeerMessage::Doubtful { partition, link } => self.pull_doubtful(partition, link),
            PeerMessage::NoLink { partition, next } => self.ask_next(partition, next),
            PeerMessage::Merged { link, partition } => {
                if self.peers.pulling.get(&partition.0) == Some(&link) {
                    self.peers.pulling.remove(&partition.0);
                }
                if let Some(target) = self.peers.targets.iter_mut().find(|target| target.conn() == Some(link.conn)) {
                    target.full_merges += 1;
                }
            }
        }
    }

    pub(super) fn heard(&mut self, report: &Report, feed: Option<PeerId>) {
        let Report { of, entries, promise, final_ms, has_strangers } = report;
        if self.peers.runs.is_shut_out(*of) || !self.peers.roster.heard(report) {
            return;
        }
        let node = of.node;
        self.shard.note_forgotten();
        self.shard.stability.begin(*of);
        self.shard.stability.set_strangers(node, *has_strangers);
        self.waits.note_heard();
        let (first, end) = self.shard.keys.partitions();
        let mine = |partition: u8| (first..end).contains(&usize::from(partition));
        let mut by_partition: BTreeMap<u8, Vec<(OriginIdx, Hlc)>> = BTreeMap::new();
        for &(origin, partition, hlc) in entries.iter().filter(|entry| mine(entry.1)) {
            by_partition.entry(partition).or_default().push((origin, hlc));
        }
        for (partition, acked) in by_partition {
            let partition = usize::from(partition);
            self.shard.stability.acknowledge(&self.shard.versions, node, partition, &acked);
        }
        self.shard.stability.promise(node, *promise);
        self.shard.stability.finalise(node, *final_ms);
        if let Some(served) = feed.and_then(|feed| self.peers.feeds.iter_mut().find(|served| served.id == feed)) {
            for &(origin, partition, hlc) in entries.iter().filter(|entry| mine(entry.1)) {
                served.feed.acknowledged(origin, usize::from(partition), hlc);
            }
        }
    }

    pub(super) fn settle_stability(&mut self) {
        self.shard.stability.settle(&self.shard.versions);
    }
}
