//! Of two runs of one node only one is linked with (`peer::runs`): what is decided here of a newcomer, and what cores
//! tell each other for it.

use super::super::Worker;
use super::*;
use crate::base::time::Now;
use crate::peer::handshake::{Hello, is_copied};
use crate::peer::runs::Life;

/// Other cores hear of a sign of life when there was none for so long, microseconds.
const ALIVE_US: u64 = 500_000;

impl Worker {
    /// Why a node that has just said who it is cannot be linked with, if so; and whether that is news.
    pub(super) fn objection(&mut self, hello: &Hello, now: Now) -> Option<(String, bool)> {
        let run = hello.origin;
        let objection = match hello.objection(self.node.realm.origins.own()) {
            None => is_copied(run.node, self.peers.runs.refuses(run, now.mono_us, self.timeout_us())?),
            Some(objection) => objection,
        };
        let is_news = self.peers.runs.refused(run, now.mono_us);
        self.broadcast(|| PeerMessage::Refused(run));
        Some((objection, is_news))
    }

    /// Silence after which a connection is given up, microseconds.
    pub(super) fn timeout_us(&self) -> u64 {
        u64::from(self.config.repl_timeout.max(1)) * 1_000_000
    }

    /// Tells all cores who was heard of here of late.
    pub(super) fn say_who_lives(&mut self) {
        let mut alive = Vec::new();
        for conn in self.peers.conns.values_mut() {
            if conn.last_input_us >= conn.alive_said_us + ALIVE_US {
                conn.alive_said_us = conn.last_input_us;
                alive.push(Life { run: conn.origin, heard_us: conn.last_input_us, lived_us: conn.lived_us });
            }
        }
        if !alive.is_empty() {
            let alive: Arc<[Life]> = alive.into();
            self.broadcast(|| PeerMessage::Alive(Arc::clone(&alive)));
        }
    }
}
