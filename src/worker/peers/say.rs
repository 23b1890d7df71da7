//! What a connection is told: origins behind indices, members, interest, and what members have applied.

use super::super::Worker;
use super::super::session::Session;
use super::*;
use crate::base::ids::{ConnId, Uuid};
use crate::base::time::Now;
use crate::merge::op::put_varint;
use crate::merge::origins::{OriginId, OriginIdx};
use crate::peer::codec;
use crate::peer::roster::Row;
use crate::shard::block::{self, Kind};
use crate::shard::standing;

impl Worker {
    // Everything a new connection needs to hear first: who we know, what we have applied.
    pub(super) fn greet(&mut self, session: &mut Session, now: Now) {
        let Some(mut conn) = self.peers.conns.remove(&session.conn) else { return };
        let mut output = std::mem::take(&mut session.output);
        self.say(&mut conn, &mut output, true, now);
        session.output = output;
        self.peers.conns.insert(session.conn, conn);
    }

    // Appends what a connection has not been told yet.
    pub(super) fn say(&mut self, conn: &mut Conn, out: &mut Vec<u8>, heartbeat: bool, now: Now) {
        self.say_dictionary(conn, out);
        let mut direct: Vec<Uuid> = self.peers.runs.connected().map(|origin| origin.node).collect();
        direct.sort_unstable();
        direct.dedup();
        // Before the members: who was forgotten must not come back by hearsay.
        let standings = self.shard.stability.standings().all();
        if standings != conn.standings_said {
            conn.standings_said = standings.to_vec();
            block::put(out, Kind::Standings, |out| standing::put(out, standings));
        }
        let members = self.peers.roster.nodes();
        let mut both = direct.clone();
        both.extend_from_slice(&members);
        if both != conn.members_said {
            block::put(out, Kind::Members, |out| {
                put_varint(out, direct.len() as u64);
                codec::put_nodes(out, &both);
            });
            conn.members_said = both;
        }
        if conn.is_link {
            // A link that has gone silent is not heard directly: others must forward what its master wrote.
            let mut interest: Vec<OriginId> =
                self.peers.direct.iter().copied().filter(|origin| *origin != conn.origin).collect();
            interest.sort_unstable();
            interest.dedup();
            if interest != conn.interest_said {
                // What we have of an origin that is wanted again must be known before it is streamed again.
                if conn.interest_said.iter().any(|origin| !interest.contains(origin)) {
                    conn.said.remove(&self.peers.roster.own().node);
                }
                conn.interest_said.clone_from(&interest);
                self.say_row(conn, None, out, true);
                block::put(out, Kind::Interest, |out| codec::put_origins(out, &interest));
            }
        }
        self.say_row(conn, None, out, heartbeat);
        // Of others only what the other end does not hear from themselves, once it has said whom it hears.
        for at in 0..self.peers.roster.others().len() {
            let node = self.peers.roster.others()[at].node;
            let is_news = conn.their_direct.as_ref().is_some_and(|direct| !direct.contains(&node));
            if node != conn.origin.node && is_news {
                self.say_row(conn, Some(at), out, heartbeat);
            }
        }
        if heartbeat {
            block::put(out, Kind::Heartbeat, |out| {
                put_varint(out, now.wall_ms);
                put_varint(out, now.mono_us);
                put_varint(out, conn.to_echo);
            });
        }
    }

    /// Tells one connection what we have applied, without waiting for the next round of news.
    pub(super) fn say_applied(&mut self, id: ConnId) {
        let Some(mut conn) = self.peers.conns.remove(&id) else { return };
        if let Some(mut output) = self.sessions.get_mut(id).map(|session| std::mem::take(&mut session.output)) {
            self.say_dictionary(&mut conn, &mut output);
            self.say_row(&mut conn, None, &mut output, false);
            if let Some(session) = self.sessions.get_mut(id) {
                session.output = output;
            }
            self.dirty_if_output(id);
        }
        self.peers.conns.insert(id, conn);
    }

    // Appends a member's news (ours: `None`); with `always`, also when only its promise has grown.
    pub(super) fn say_row(&mut self, conn: &mut Conn, member: Option<usize>, out: &mut Vec<u8>, always: bool) {
        let roster = &self.peers.roster;
        let row = member.map_or(roster.own(), |at| &roster.others()[at]);
        let said = conn.said.entry(row.node).or_insert_with(|| Row::new(row.node));
        let Some(entries) = row.news(&self.node.realm.origins, said, always) else { return };
        let entries = entries.into_iter().map(|(origin, partition, hlc)| (origin.0, partition, hlc)).collect();
        let row = codec::Row {
            of: OriginId { node: row.node, incarnation: row.start },
            has_strangers: row.has_strangers,
            promise: row.promise,
            final_ms: row.final_ms,
            entries,
        };
        block::put(out, Kind::Versions, |out| codec::put_row(out, &row));
    }

    pub(super) fn say_dictionary(&self, conn: &mut Conn, out: &mut Vec<u8>) {
        let origins = &self.node.realm.origins;
        let count = origins.count();
        if conn.dictionary_said < count {
            let first = conn.dictionary_said;
            let ids: Vec<OriginId> = (first..count).map(|at| origins.id(OriginIdx(at as u16))).collect();
            block::put(out, Kind::Dictionary, |out| codec::put_dictionary(out, first as u16, &ids));
            conn.dictionary_said = count;
        }
    }

    pub(super) fn say_news(&mut self, now: Now) {
        let heartbeat = now.mono_us >= self.peers.next_heartbeat_us;
        if heartbeat {
            self.peers.next_heartbeat_us = now.mono_us + HEARTBEAT_US;
            for served in &mut self.peers.feeds {
                served.feed.announce_again();
            }
        }
        let conns: Vec<ConnId> = self.peers.conns.keys().copied().collect();
        for id in conns {
            let Some(mut conn) = self.peers.conns.remove(&id) else { continue };
            if let Some(mut output) = self.sessions.get_mut(id).map(|session| std::mem::take(&mut session.output)) {
                // A reader that takes nothing gets no news on top.
                let stuck =
                    self.sessions.get(id).is_some_and(|session| session.unsent + output.len() > FEED_UNSENT_MAX);
                if !stuck && (conn.started || conn.is_link) {
                    self.say(&mut conn, &mut output, heartbeat, now);
                }
                if let Some(session) = self.sessions.get_mut(id) {
                    session.output = output;
                }
                self.dirty_if_output(id);
            }
            self.peers.conns.insert(id, conn);
        }
    }

    pub(super) fn dirty_if_output(&mut self, conn: ConnId) {
        if self.sessions.get(conn).is_some_and(|session| !session.output.is_empty()) {
            self.dirty(conn);
        }
    }
}
