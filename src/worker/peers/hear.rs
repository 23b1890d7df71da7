//! What a connection says: blocks taken from its bytes and given to whom they concern.

use super::super::Worker;
use super::super::batch::Message;
use super::super::session::Session;
use super::turn::Phase;
use crate::base::ids::{ConnId, Partition, ShardId, Slot, Uuid};
use crate::base::time::Now;
use crate::merge::op::take_varint;
use crate::merge::origins::OriginIdx;
use crate::peer::codec;
use crate::peer::mesh::{Entry, From, PeerId, PeerMessage, Report};
use crate::peer::offset::Change;
use crate::resp::value::try_decode;
use crate::shard::block::{self, Front, Kind};
use crate::shard::merging::Merging;
use crate::shard::standing::{self, Standing};
use crate::shard::{Merged, record};
use std::sync::Arc;

/// No more of a reason that the other end gives is logged.
const REASON_BYTES_MAX: usize = 512;

impl Worker {
    /// Bytes for a link or feed.
    pub(in super::super) fn peer_data(&mut self, mut session: Box<Session>, bytes: &[u8], now: Now) {
        let conn = session.conn;
        self.stats.repl_in += bytes.len() as u64;
        let mut input = std::mem::take(&mut session.input);
        let (buffer, used, fault);
        if input.is_empty() {
            (used, fault) = self.peer_blocks(&mut session, bytes, now);
            buffer = &bytes[used..];
            session.input.extend_from_slice(buffer);
        } else {
            input.extend_from_slice(bytes);
            (used, fault) = self.peer_blocks(&mut session, &input, now);
            input.drain(..used);
            session.input = input;
        }
        if let Some(known) = self.peers.conns.get_mut(&conn) {
            known.last_input_us = now.mono_us;
            known.bytes_in += bytes.len() as u64;
        }
        if !session.output.is_empty() && !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(conn);
        }
        self.sessions.put(session);
        if let Some(reason) = fault {
            self.break_conn(conn, &reason, now);
        }
    }

    // Takes whole blocks (or, before the handshake is done, replies) from the front; says why the link must end.
    pub(super) fn peer_blocks(&mut self, session: &mut Session, bytes: &[u8], now: Now) -> (usize, Option<String>) {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.is_empty() {
                return (at, None);
            }
            if !self.peers.conns.contains_key(&session.conn) {
                match try_decode(rest) {
                    Err(_) => {
                        return (at, Some("its answer is not Redis protocol: is it a Redis-compatible server?".into()));
                    }
                    Ok(None) => return (at, None),
                    Ok(Some((reply, used))) => {
                        at += used;
                        if let Err(reason) = self.handshake_reply(session, &reply, now) {
                            return (at, Some(reason));
                        }
                    }
                }
                continue;
            }
            match block::front(rest) {
                Front::Incomplete => return (at, None),
                Front::Damaged => return (at, Some("a damaged block arrived".into())),
                Front::Block(Kind::Refused, payload, _) => {
                    let reason = String::from_utf8_lossy(&payload[..payload.len().min(REASON_BYTES_MAX)]);
                    tracing::warn!(reader = session.endpoint.remote, "link refused by the other end: {reason}");
                    return (at, Some(format!("it refused: {reason}")));
                }
                Front::Block(kind, payload, used) => {
                    if self.peer_block(session, kind, payload, now).is_none() {
                        return (at, Some(format!("a malformed {kind:?} block arrived")));
                    }
                    at += used;
                }
            }
        }
    }

    // One block of an established connection. `None`: malformed.
    pub(super) fn peer_block(&mut self, session: &mut Session, kind: Kind, payload: &[u8], now: Now) -> Option<()> {
        let id = PeerId { home: self.id, conn: session.conn };
        match kind {
            Kind::Dictionary => {
                let (first, ids) = codec::take_dictionary(payload)?;
                let indices: Vec<OriginIdx> =
                    ids.iter().map(|id| self.node.realm.origins.index(*id)).collect::<Option<_>>()?;
                let conn = self.peers.conns.get_mut(&session.conn)?;
                if usize::from(first) != conn.dictionary.len() {
                    return None;
                }
                conn.dictionary.extend(indices);
                conn.shared_dictionary = conn.dictionary.clone().into();
            }
            Kind::Members => {
                let mut input = payload;
                let direct = usize::try_from(take_varint(&mut input)?).ok()?;
                let nodes = codec::take_nodes(input)?;
                let conn = self.peers.conns.get_mut(&session.conn)?;
                conn.their_direct = Some(nodes.get(..direct)?.to_vec());
                let members: Arc<[Uuid]> = nodes[direct..].into();
                self.broadcast(|| PeerMessage::Members(Arc::clone(&members)));
            }
            Kind::Standings => {
                let standings: Arc<[Standing]> = standing::take(payload)?.into();
                self.say_standings(standings);
            }
            Kind::Versions => self.peer_row(id, &codec::take_row(payload)?)?,
            Kind::Start => {
                let conn = self.peers.conns.get_mut(&session.conn)?;
                conn.started = true;
                let versions: Arc<[Entry]> = std::mem::take(&mut conn.heard).into();
                let skip = self.skip_of(session.conn)?;
                self.broadcast(|| PeerMessage::FeedStart {
                    feed: id,
                    versions: Arc::clone(&versions),
                    skip: Arc::clone(&skip),
                });
                self.greet(session, now);
            }
            Kind::Interest => {
                let origins = codec::take_origins(payload)?;
                let conn = self.peers.conns.get_mut(&session.conn)?;
                conn.interest_said = origins;
                if conn.started {
                    let skip = self.skip_of(session.conn)?;
                    self.broadcast(|| PeerMessage::FeedSkip { feed: id, skip: Arc::clone(&skip) });
                }
            }
            Kind::Behind => self.told_behind(session.conn, payload, now)?,
            Kind::Pull => {
                let partition = Partition(*payload.first()?);
                let owner = self.shard.map.owner(partition);
                self.send(owner, Message::Peer(Box::new(PeerMessage::FeedPull { feed: id, partition })));
            }
            Kind::Records | Kind::FullBegin | Kind::FullKeys | Kind::FullSlot | Kind::FullEnd | Kind::Verify => {
                self.deal(id, kind, payload, now)?;
            }
            Kind::Heartbeat => {
                self.hear_clock(session, payload, now)?;
                self.master_has_said(session.conn, now);
            }
            // Behind the records that came before it, shard by shard.
            Kind::Acknowledge => self.broadcast(|| PeerMessage::Acknowledge { link: id }),
            // It ends the connection (`peer_blocks`).
            Kind::Refused => return None,
        }
        Some(())
    }

    // What the other end's clock says. Older nodes say nothing.
    fn hear_clock(&mut self, session: &Session, mut payload: &[u8], now: Now) -> Option<()> {
        if payload.is_empty() {
            return Some(());
        }
        let theirs_ms = take_varint(&mut payload)?;
        let limit_ms = self.config.max_clock_drift;
        let conn = self.peers.conns.get_mut(&session.conn)?;
        if !payload.is_empty() {
            conn.to_echo = take_varint(&mut payload)?;
            // Whatever has been on its way here for long, this was said after we said that.
            conn.lived_us = take_varint(&mut payload)?.min(now.mono_us);
        }
        let change = conn.offset.note(theirs_ms, now.wall_ms, limit_ms);
        let node = conn.origin.node.to_string();
        let addr = &session.endpoint.remote;
        match change {
            Some(Change::Beyond(offset_ms)) => tracing::warn!(
                node,
                addr,
                offset_ms,
                limit_ms,
                "the clock of a peer is further from ours than max-clock-drift: repair the clock that is wrong (NTP)"
            ),
            Some(Change::Within(offset_ms)) => {
                tracing::info!(node, addr, offset_ms, "the clock of a peer is within max-clock-drift again");
            }
            None => {}
        }
        Some(())
    }

    // Gives records and full-merge blocks to the shards that own their partitions.
    pub(super) fn deal(&mut self, link: PeerId, kind: Kind, payload: &[u8], now: Now) -> Option<()> {
        let conn = self.peers.conns.get(&link.conn)?;
        let dictionary = Arc::clone(&conn.shared_dictionary);
        let master = self.node.realm.origins.index(conn.origin)?;
        let from = From { link, master, dictionary };
        if self.cores() == 1 {
            return self.take_from_link(&from, kind, payload, now).then_some(());
        }
        if kind != Kind::Records {
            let partition = match kind {
                Kind::FullSlot => Slot(u16::from_le_bytes(payload.try_into().ok()?)).partition(),
                _ => Partition(*payload.first()?),
            };
            let owner = self.shard.map.owner(partition);
            self.pass(owner, &from, kind, payload.to_vec());
            return Some(());
        }
        let mut shares: Vec<Vec<u8>> = (0..self.cores()).map(|_| Vec::new()).collect();
        let mut rest = payload;
        while !rest.is_empty() {
            let head = record::head(rest)?;
            let owner = self.shard.map.owner(head.partition);
            shares[usize::from(owner.0)].extend_from_slice(&rest[..head.bytes]);
            rest = &rest[head.bytes..];
        }
        for (owner, share) in shares.into_iter().enumerate().filter(|(_, share)| !share.is_empty()) {
            self.pass(ShardId(owner as u16), &from, kind, share);
        }
        Some(())
    }

    pub(super) fn pass(&mut self, owner: ShardId, from: &From, kind: Kind, bytes: Vec<u8>) {
        let message = PeerMessage::FromLink { from: from.clone(), items: vec![(kind, bytes)] };
        self.send(owner, Message::Peer(Box::new(message)));
    }

    // Applies what a link brought for this shard. False: unreadable.
    pub(super) fn take_from_link(&mut self, from: &From, kind: Kind, bytes: &[u8], now: Now) -> bool {
        if self.peers.given_up.contains(&from.link) {
            return true;
        }
        match kind {
            Kind::Records if self.peers.wholes.is_empty() => self.join_records(from, bytes, None, now),
            Kind::Records => {
                self.without_kept(from.link, bytes).is_some_and(|others| self.join_records(from, &others, None, now))
            }
            Kind::FullBegin | Kind::FullKeys | Kind::FullSlot | Kind::FullEnd => {
                self.take_whole(from, kind, bytes, now)
            }
            Kind::Verify => self.take_verify(from.link, &from.dictionary, bytes, now),
            _ => false,
        }
    }

    // Joins records, beside a partition that is `merging` or by themselves. False: unreadable.
    pub(super) fn join_records(
        &mut self,
        from: &From,
        records: &[u8],
        mut merging: Option<&mut Merging>,
        now: Now,
    ) -> bool {
        let origin = |index: u16| from.dictionary.get(usize::from(index)).copied();
        let before = self.shard.stats;
        let mut newest = None;
        let (mut rest, mut fetched) = (records, 0usize);
        while !rest.is_empty() {
            if fetched == 0 {
                fetched = self.shard.fetch_records(rest);
            }
            fetched = fetched.saturating_sub(1);
            let Some(head) = record::head(rest) else { return false };
            let writer = origin(head.origin);
            let filling =
                merging.as_deref_mut().zip(writer).filter(|(merging, of)| merging.fills_gap(&self.shard, *of));
            match self.shard.merge(&rest[..head.bytes], &origin, filling.is_none(), now) {
                Merged::Malformed => return false,
                Merged::Applied => {
                    if let Some((merging, writer)) = filling {
                        merging.streamed(writer, head.hlc);
                    }
                    // What others wrote may have waited for a way here: it says nothing of this link.
                    if writer == Some(from.master) {
                        newest = Some(head.hlc);
                    }
                }
                Merged::Duplicate => {}
            }
            rest = &rest[head.bytes..];
        }
        self.note_taken(from.master, before, newest, now);
        if self.shard.has_doubts() {
            self.note_doubts(from.link);
        }
        true
    }

    // A row of versions arrived.
    pub(super) fn peer_row(&mut self, id: PeerId, row: &codec::Row) -> Option<()> {
        let conn = self.peers.conns.get_mut(&id.conn)?;
        let entries: Vec<Entry> = row
            .entries
            .iter()
            .map(|&(origin, partition, hlc)| Some((*conn.dictionary.get(usize::from(origin))?, partition, hlc)))
            .collect::<Option<_>>()?;
        let of_itself = row.of == conn.origin;
        if of_itself {
            conn.promise = row.promise;
            if !conn.is_link && !conn.started {
                conn.heard.extend_from_slice(&entries);
            }
            if let Phase::Begun(said) = &mut conn.phase {
                said.extend(entries.iter().map(|&(origin, partition, hlc)| (origin, usize::from(partition), hlc)));
            }
        }
        let feed = (of_itself && !conn.is_link && conn.started).then_some(id);
        let codec::Row { of, has_strangers, promise, final_ms, .. } = *row;
        let report = Arc::new(Report { of, entries, promise, final_ms, has_strangers });
        self.broadcast(|| PeerMessage::Heard { report: Arc::clone(&report), feed });
        Some(())
    }

    // Origins a reader does not want: its own present run, and those it hears directly.
    pub(super) fn skip_of(&self, conn: ConnId) -> Option<Arc<[OriginIdx]>> {
        let conn = self.peers.conns.get(&conn)?;
        let wanted = std::iter::once(conn.origin).chain(conn.interest_said.iter().copied());
        Some(wanted.filter_map(|id| self.node.realm.origins.index(id)).collect())
    }
}
