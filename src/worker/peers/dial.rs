//! Reaching masters and being reached by readers: dials, handshakes, losses.

use super::super::Worker;
use super::super::port::{Action, DialId, Endpoint};
use super::super::session::{Kind as SessionKind, Session};
use super::*;
use crate::base::ids::ConnId;
use crate::base::time::Now;
use crate::merge::stamp::Hlc;
use crate::peer::handshake::Hello;
use crate::peer::mesh::{Comparable, PeerId, PeerMessage, Turn};
use crate::resp::value::Value;
use crate::resp::write::Reply;
use crate::shard::block::{self, Kind};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Worker {
    pub(super) fn dial_masters(&mut self, now: Now) {
        for at in 0..self.peers.targets.len() {
            let target = &mut self.peers.targets[at];
            if matches!(target.state, State::Waiting { until_us } if until_us <= now.mono_us) {
                self.peers.next_dial += 1;
                let dial = DialId(self.peers.next_dial);
                target.state = State::Dialing(dial);
                let (host, port) = (target.host.clone(), target.port);
                self.act(Action::Dial { dial, host, port, timeout_ms: 5_000 });
            }
        }
        self.share_counts(now);
    }

    /// A master is linked: where that one was reached, others may be, and are tried before whole partitions are taken.
    /// Not those that come and go: their waits are short.
    pub(super) fn dial_now(&mut self, now: Now) {
        for target in self.peers.targets.iter_mut().filter(|target| target.attempts > QUICK_ATTEMPTS) {
            if let State::Waiting { until_us } = &mut target.state {
                *until_us = now.mono_us;
            }
        }
        self.dial_masters(now);
    }

    /// A dial ended.
    pub(in super::super) fn peer_dialed(&mut self, dial: DialId, result: Result<(ConnId, Endpoint), String>, now: Now) {
        let Some(at) = self.peers.targets.iter().position(|target| target.state == State::Dialing(dial)) else {
            if let Ok((conn, _)) = result {
                self.act(Action::Close(conn));
            }
            return;
        };
        match result {
            Err(reason) => self.lose(at, &reason, now),
            Ok((conn, endpoint)) => {
                let hello = Hello::ours(self.node.realm.origins.own(), self.announced_port());
                let id = self.next_client_id();
                let mut session = Session::new(conn, id, endpoint, true, now);
                session.kind = SessionKind::Link(at as u32);
                session.user = "(superuser)".into();
                hello.put_command(&mut session.output, &self.config.masteruser, self.config.masterauth.reveal());
                self.sessions.insert(Box::new(session));
                self.peers.targets[at].state = State::Handshake(conn);
                self.dirty(conn);
            }
        }
    }

    pub(super) fn announced_port(&self) -> u16 {
        match self.config.replica_announce_port {
            0 => self.config.port,
            port => port,
        }
    }

    // A master cannot be reached, or not any more: try again later, further and further apart.
    pub(super) fn lose(&mut self, at: usize, reason: &str, now: Now) {
        let target = &mut self.peers.targets[at];
        let is_news = target.reason != reason || matches!(target.state, State::Up(_));
        if is_news {
            tracing::warn!(master = format!("{}:{}", target.host, target.port), "link is down: {reason}");
        }
        if matches!(target.state, State::Up(_)) || target.down_since_us == 0 {
            target.down_since_us = now.mono_us;
        }
        target.reason = reason.to_owned();
        let (first, last) = BACKOFF_MS;
        let wait_ms = (first << target.attempts.min(8)).min(last);
        // Up to half of the wait on top, so that nodes that lost each other together do not meet again and again.
        let jitter_ms = self.shard.rng.below(wait_ms / 2 + 1);
        target.attempts += 1;
        target.state = State::Waiting { until_us: now.mono_us + (wait_ms + jitter_ms) * 1000 };
        self.share_counts(now);
    }

    pub(super) fn handshake_reply(&mut self, session: &mut Session, reply: &Value, now: Now) -> Result<(), String> {
        let Some(at) = self.peers.targets.iter().position(|target| target.state == State::Handshake(session.conn))
        else {
            return Err("it is not wanted any more".into());
        };
        match reply {
            // AUTH went well.
            Value::Simple(_) => Ok(()),
            Value::Error(text) if text.starts_with("ERR unknown command") => {
                Err("it is not a Tutti node (no multi-master link on that port)".into())
            }
            Value::Error(text) => Err(format!("it refused: {text}")),
            other => {
                let hello = Hello::from_reply(other).ok_or("its answer is not a Tutti handshake")?;
                if let Some((objection, _)) = self.objection(&hello, now) {
                    // It believes that it is linked.
                    block::put(&mut session.output, Kind::Refused, |out| out.extend_from_slice(objection.as_bytes()));
                    self.act(Action::CloseAfterFlush(session.conn));
                    self.lose(at, &objection, now);
                    return Ok(());
                }
                let target = &mut self.peers.targets[at];
                target.state = State::Up(session.conn);
                target.attempts = 0;
                target.reason.clear();
                target.node = Some(hello.origin);
                target.handshakes += 1;
                target.down_since_us = 0;
                let (host, port) = (target.host.clone(), target.port);
                tracing::info!(master = format!("{host}:{port}"), node = %hello.origin.node, "link is up");
                self.add_conn(session, hello, true, now);
                self.say_comparable(session.conn, hello, true, host.clone(), port);
                self.broadcast(|| PeerMessage::Identified { host: host.clone(), port });
                self.greet(session, now);
                self.ask_turn(session.conn);
                self.share_counts(now);
                Ok(())
            }
        }
    }

    /// A reader asks for a link (`tutti.link`): the session becomes a feed.
    pub(in super::super) fn accept_feed(
        &mut self,
        session: &mut Session,
        args: &mut crate::command::args::Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), crate::command::error::CommandError> {
        use crate::command::error::CommandError;
        let hello = Hello::from_args(args.rest()).ok_or(CommandError::Text("ERR tutti.link: not a handshake"))?;
        if let Some((objection, is_news)) = self.objection(&hello, now) {
            // It tries again every few seconds.
            if is_news {
                tracing::warn!(reader = session.endpoint.remote, "link refused: {objection}");
            }
            return Err(CommandError::Owned(format!("ERR link refused: {objection}")));
        }
        Hello::ours(self.node.realm.origins.own(), self.announced_port()).put_reply(reply);
        session.kind = SessionKind::Feed(0);
        tracing::info!(reader = session.endpoint.remote, node = %hello.origin.node, "a reader linked");
        self.add_conn(session, hello, false, now);
        let remote = &session.endpoint.remote;
        let host = remote.rsplit_once(':').map_or(remote.as_str(), |(host, _)| host).to_owned();
        self.say_comparable(session.conn, hello, false, host, hello.port);
        Ok(())
    }

    fn say_comparable(&mut self, conn: ConnId, hello: Hello, is_link: bool, host: String, port: u16) {
        let (peer, origin) = (PeerId { home: self.id, conn }, hello.origin);
        let is_able = hello.features & crate::peer::handshake::VERIFY != 0;
        let comparable = Arc::new(Comparable { peer, origin, is_link, host, port, is_able });
        self.broadcast(|| PeerMessage::Comparable(Arc::clone(&comparable)));
    }

    pub(super) fn add_conn(&mut self, session: &mut Session, hello: Hello, is_link: bool, now: Now) {
        self.peers.active = true;
        self.peers.conns.insert(
            session.conn,
            Conn {
                origin: hello.origin,
                is_link,
                port: hello.port,
                dictionary: Vec::new(),
                shared_dictionary: Arc::new([]),
                dictionary_said: 0,
                said: BTreeMap::new(),
                members_said: Vec::new(),
                standings_said: Vec::new(),
                interest_said: Vec::new(),
                their_direct: None,
                heard: Vec::new(),
                started: false,
                phase: if is_link { Phase::Waiting } else { Phase::CaughtUp },
                asking: 0,
                healthy: false,
                uncredited: Vec::new(),
                last_input_us: now.mono_us,
                alive_said_us: now.mono_us,
                to_echo: 0,
                lived_us: 0,
                promise: Hlc::ZERO,
                offset: Offset::default(),
                bytes_in: 0,
                behind: BTreeMap::new(),
                has_passed: false,
                fell_behind: false,
            },
        );
        self.admit(hello.origin.node);
        self.broadcast(|| PeerMessage::Connected { origin: hello.origin, came: true });
    }

    /// Ends a link or feed from our side.
    pub(super) fn break_conn(&mut self, conn: ConnId, reason: &str, now: Now) {
        self.act(Action::Close(conn));
        self.peer_closed(conn, reason, now);
        self.forget(conn);
    }

    /// A link's or feed's socket is gone.
    pub(in super::super) fn peer_closed(&mut self, conn: ConnId, reason: &str, now: Now) {
        let target = self.peers.targets.iter().position(|target| target.conn() == Some(conn));
        if let Some(at) = target {
            self.keep_figures(at, conn);
            self.lose(at, reason, now);
        } else if self.peers.conns.contains_key(&conn) {
            tracing::info!("a reader left: {reason}");
        }
        self.drop_conn(conn);
    }

    pub(super) fn drop_conn(&mut self, id: ConnId) {
        let Some(conn) = self.peers.conns.remove(&id) else { return };
        let peer = PeerId { home: self.id, conn: id };
        self.peers.pulling.retain(|_, link| *link != peer);
        self.broadcast(|| PeerMessage::Connected { origin: conn.origin, came: false });
        if conn.is_link {
            self.say_turn(Turn::Over(peer));
            if conn.healthy {
                self.broadcast(|| PeerMessage::Direct { origin: conn.origin, healthy: false });
            }
            self.broadcast(|| PeerMessage::LinkGone { link: peer });
        } else {
            self.broadcast(|| PeerMessage::FeedStop { feed: peer });
        }
    }
}
