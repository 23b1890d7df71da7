//! Whole partitions as links bring them: nothing of one is joined before all of it is here.
//!
//! A link may break in the middle, and what it had brought by then might be of a run that is over and known to nobody
//! else: joined, it would stay here, above the version vector, and reach nobody. So what comes is kept, with the records
//! that the same link streams beside it, and joined in the order it came when the end is here: a part of it whenever
//! more comes and the rest in the background. That takes as many bytes as the partition has, at most
//! `client-query-buffer-limit`. Beyond it nothing of that partition is taken from this link, not what is streamed of it
//! either, until the limit is another. A master sends one at a time per core.

use std::collections::VecDeque;

use super::super::Worker;
use super::super::batch::Message;
use crate::base::ids::{Partition, Slot};
use crate::base::time::Now;
use crate::peer::mesh::{From, PeerId, PeerMessage};
use crate::shard::block::Kind;
use crate::shard::merging::Merging;
use crate::shard::record;

/// Why a link is given up that a newer or broken node is at the other end of.
pub(super) const UNREADABLE: &str = "it sent something unreadable";

/// Bytes joined in one go.
const SLICE_BYTES: usize = 64 * 1024;

/// One partition from one link.
pub(super) struct Whole {
    from: From,
    /// Blocks of it, and of records of the partition, in the order they came.
    blocks: VecDeque<(Kind, Vec<u8>)>,
    /// How many they hold.
    bytes: usize,
    /// It has become too large: nothing is kept of it any more.
    is_refused: bool,
    /// All of it is here: the rest goes on if the link breaks.
    pub(super) is_complete: bool,
    /// It is being joined.
    merging: Option<Merging>,
}

impl Worker {
    /// A link has brought a block of a whole partition. False: unreadable.
    pub(super) fn take_whole(&mut self, from: &From, kind: Kind, bytes: &[u8], now: Now) -> bool {
        let partition = match kind {
            Kind::FullSlot => bytes.try_into().map(|slot| Slot(u16::from_le_bytes(slot)).partition().0).ok(),
            _ => bytes.first().copied(),
        };
        let Some(key) = partition.map(|partition| (from.link, partition)) else { return false };
        if kind == Kind::FullBegin {
            // Sent again before the last one has been joined to its end.
            if self.peers.wholes.get(&key).is_some_and(|whole| whole.is_complete) {
                self.join_whole(key, usize::MAX, now);
            }
            let (from, blocks) = (from.clone(), VecDeque::new());
            let whole = Whole { from, blocks, bytes: 0, is_refused: false, is_complete: false, merging: None };
            self.peers.wholes.insert(key, whole);
        }
        let Some(whole) = self.peers.wholes.get_mut(&key) else { return false };
        if whole.is_refused {
            return true;
        }
        whole.blocks.push_back((kind, bytes.to_vec()));
        whole.bytes += bytes.len();
        whole.is_complete |= kind == Kind::FullEnd;
        self.refuse_if_too_large(key);
        // As fast as more comes, so that the background never falls behind.
        self.join_wholes(2 * bytes.len(), now);
        true
    }

    // What is complete is being joined, and as fast as more comes.
    fn refuse_if_too_large(&mut self, key: (PeerId, u8)) {
        let most = self.config.client_query_buffer_limit as usize;
        let Some(whole) = self.peers.wholes.get_mut(&key).filter(|whole| !whole.is_complete && whole.bytes > most)
        else {
            return;
        };
        (whole.is_refused, whole.blocks, whole.bytes) = (true, VecDeque::new(), 0);
        tracing::warn!(
            partition = key.1,
            "a partition that has to be taken whole is larger than client-query-buffer-limit ({most} bytes), it stays \
             behind: raise the limit"
        );
    }

    /// The limit is another one.
    pub(in super::super) fn ask_again_for_refused(&mut self) {
        let refused = self.peers.wholes.iter().filter(|(_, whole)| whole.is_refused);
        let links: Vec<PeerId> = refused.map(|((link, _), _)| *link).collect();
        links.into_iter().for_each(|link| self.give_up(link, "client-query-buffer-limit has changed"));
    }

    /// A link cannot go on: nothing more of it is taken, and its home breaks it.
    pub(super) fn give_up(&mut self, link: PeerId, reason: &'static str) {
        if self.peers.given_up.insert(link) {
            self.send(link.home, Message::Peer(Box::new(PeerMessage::Broken { link, reason })));
        }
    }

    /// Bytes of partitions that come whole and are not joined yet.
    pub(in super::super) fn wholes_under_way(&self) -> impl Iterator<Item = usize> + '_ {
        self.peers.wholes.values().map(|whole| whole.bytes)
    }

    /// Keeps records that came beside a whole partition, or behind it. False: none is under way.
    pub(super) fn keep_beside(&mut self, link: PeerId, partition: u8, records: &[u8]) -> bool {
        let Some(whole) = self.peers.wholes.get_mut(&(link, partition)) else { return false };
        if whole.is_refused {
            return true;
        }
        whole.bytes += records.len();
        match whole.blocks.back_mut() {
            Some((Kind::Records, bytes)) if bytes.len() < SLICE_BYTES => bytes.extend_from_slice(records),
            _ => whole.blocks.push_back((Kind::Records, records.to_vec())),
        }
        self.refuse_if_too_large((link, partition));
        true
    }

    /// Joins a slice of what has come whole. True: there is more.
    pub(in super::super) fn whole_slice(&mut self, now: Now) -> bool {
        if self.peers.wholes.is_empty() {
            return false;
        }
        self.join_wholes(SLICE_BYTES, now);
        self.peers.wholes.values().any(|whole| whole.is_complete)
    }

    /// A link is gone, and with it what it has not brought to its end.
    pub(super) fn drop_wholes(&mut self, link: PeerId) {
        self.peers.wholes.retain(|(of, _), whole| *of != link || whole.is_complete);
    }

    // Joins about so many bytes of what is complete.
    fn join_wholes(&mut self, bytes: usize, now: Now) {
        let complete = self.peers.wholes.iter().find(|(_, whole)| whole.is_complete).map(|(key, _)| *key);
        if let Some(key) = complete {
            self.join_whole(key, bytes, now);
        }
    }

    fn join_whole(&mut self, key: (PeerId, u8), bytes: usize, now: Now) {
        let Some(mut whole) = self.peers.wholes.remove(&key) else { return };
        let mut joined = 0;
        while joined < bytes
            && let Some((kind, block)) = whole.blocks.pop_front()
        {
            joined += block.len();
            whole.bytes -= block.len();
            if !self.join_block(&mut whole, kind, &block, now) {
                return self.give_up(key.0, UNREADABLE);
            }
        }
        if !whole.blocks.is_empty() {
            self.peers.wholes.insert(key, whole);
        }
    }

    fn join_block(&mut self, whole: &mut Whole, kind: Kind, bytes: &[u8], now: Now) -> bool {
        let Whole { from, merging, .. } = whole;
        let origin = |index: u16| from.dictionary.get(usize::from(index)).copied();
        match (kind, merging.as_mut()) {
            (Kind::Records, merging) => self.join_records(from, bytes, merging, now),
            (Kind::FullBegin, _) => {
                *merging = self.shard.begin_merging(bytes, &origin);
                merging.is_some()
            }
            (Kind::FullKeys, Some(merging)) => self.shard.merge_keys(merging, &bytes[1..], &origin),
            (Kind::FullSlot, Some(merging)) => {
                let Ok(slot) = bytes.try_into().map(u16::from_le_bytes) else { return false };
                self.shard.merge_slot(merging, Slot(slot));
                true
            }
            (Kind::FullEnd, Some(ended)) => {
                self.shard.end_merging(ended, now);
                *merging = None;
                for served in &mut self.peers.feeds {
                    served.feed.recheck();
                }
                let (link, partition) = (from.link, Partition(bytes[0]));
                self.send(link.home, Message::Peer(Box::new(PeerMessage::Merged { link, partition })));
                true
            }
            _ => false,
        }
    }

    /// Takes those of some records aside whose partition is on its way whole over the same link; returns the others.
    pub(super) fn without_kept(&mut self, link: PeerId, records: &[u8]) -> Option<Vec<u8>> {
        let mut others = Vec::new();
        let mut rest = records;
        while !rest.is_empty() {
            let head = record::head(rest)?;
            let (record, behind) = rest.split_at(head.bytes);
            if !self.keep_beside(link, head.partition.0, record) {
                others.extend_from_slice(record);
            }
            rest = behind;
        }
        Some(others)
    }
}
