//! Who may connect, and who may stay: protected mode, `maxclients`, `timeout`, output buffer limits.

use std::sync::atomic::Ordering;

use super::super::Worker;
use super::super::port::{Action, Core, Endpoint, Measured};
use super::super::session::{Kind, Session};
use crate::base::ids::ConnId;
use crate::base::time::Now;
use crate::config::values::BufferLimit;

const DENIED: &[u8] =
    b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is \
set for the default user. In this mode connections are only accepted from the loopback interface. If you want to \
connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode \
sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same \
host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG \
REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis \
configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started \
the server manually just for testing, restart it with the '--protected-mode no' option. 4) Set up an authentication \
password for the default user. NOTE: You only need to do one of the above things in order for the server to start \
accepting connections from the outside.\r\n";

/// Every client is looked at this often.
const CHECK_US: u64 = 1_000_000;

/// At least this many are looked at in one go.
const CHECKED_MIN: usize = 64;

impl Worker {
    /// Why a new client is not let in, if so.
    pub(in super::super) fn refuses(&mut self, peer: &Endpoint) -> Option<&'static [u8]> {
        // This one is counted already.
        if self.node.clients.load(Ordering::Relaxed) > self.config.maxclients as usize {
            self.stats.rejected += 1;
            return Some(b"-ERR max number of clients reached\r\n");
        }
        if self.config.protected_mode && !self.config.requirepass.is_set() && !peer.is_local {
            self.stats.rejected += 1;
            return Some(DENIED);
        }
        None
    }

    /// Closes a client's connection at once.
    pub(super) fn drop_client(&mut self, conn: ConnId, now: Now) {
        self.act(Action::Close(conn));
        self.closed(conn, false, now);
    }

    /// The client's output grew, or moved on to the kernel.
    pub(in super::super) fn judge_output(&mut self, conn: ConnId) {
        let config = &self.config;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.closing {
            // The last bytes have been fetched: nobody asks for it again.
            self.forget(conn);
            return;
        }
        let limit = limit_of(config, session);
        let waiting = (session.unsent + session.output.len()) as u64;
        if limit.soft_bytes == 0 || waiting < limit.soft_bytes {
            session.over_soft_since_us = None;
        }
        if limit.hard_bytes > 0 && waiting >= limit.hard_bytes {
            let (addr, id) = (session.endpoint.remote.clone(), session.id);
            tracing::warn!("client {id} {addr} closed for overcoming of output buffer limits: {waiting} bytes wait");
            self.stats.output_disconnects += 1;
            self.act(Action::Close(conn));
            self.forget(conn);
        }
    }

    /// Removes a session of which nothing more will be heard.
    pub(in super::super) fn forget(&mut self, conn: ConnId) {
        if self.sessions.remove(conn).is_some_and(|session| session.is_counted) {
            self.node.clients.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Looks at some clients, so that each is seen about once a second.
    pub(in super::super) fn check_clients(&mut self, now: Now) {
        let elapsed_us = self.observed.tick(now, &self.stats);
        let slots = self.sessions.slots();
        let share = (slots as u64).saturating_mul(elapsed_us.min(CHECK_US)).div_ceil(CHECK_US) as usize;
        let mut doomed = Vec::new();
        for _ in 0..share.max(CHECKED_MIN).min(slots) {
            let at = self.observed.next_slot(slots);
            let Some(session) = self.sessions.at_mut(at) else { continue };
            if session.closing {
                continue;
            }
            if self.config.timeout > 0
                && session.kind == Kind::Client
                && session.blocked.is_none()
                && now.mono_us.saturating_sub(session.last_input.mono_us) / 1_000_000 > self.config.timeout
            {
                self.stats.idle_disconnects += 1;
                doomed.push(session.conn);
                continue;
            }
            let limit = limit_of(&self.config, session);
            let waiting = (session.unsent + session.output.len()) as u64;
            if limit.soft_bytes == 0 || waiting < limit.soft_bytes {
                session.over_soft_since_us = None;
                continue;
            }
            let since_us = *session.over_soft_since_us.get_or_insert(now.mono_us);
            if now.mono_us - since_us >= limit.soft_seconds.saturating_mul(1_000_000) {
                tracing::warn!(
                    "client {} {} closed for overcoming of output buffer limits: {waiting} bytes wait",
                    session.id,
                    session.endpoint.remote
                );
                self.stats.output_disconnects += 1;
                doomed.push(session.conn);
            }
        }
        for conn in doomed {
            self.drop_client(conn, now);
        }
    }

    /// What the runtime measured.
    pub(in super::super) fn set_measured(&mut self, measured: &Measured) {
        let used = measured.used_bytes;
        let startup = if self.memory.startup == 0 { used } else { self.memory.startup };
        let peak = self.memory.peak.max(used);
        self.memory = super::super::MemoryUse { used, peak, rss: measured.rss_bytes, startup, measured: *measured };
    }
}

fn limit_of(config: &crate::config::Config, session: &Session) -> BufferLimit {
    match session.kind {
        Kind::Client => config.client_output_buffer_limit.normal,
        // A link's output is a few acknowledgements; feeds watch their own.
        Kind::Link(_) | Kind::Feed(_) => BufferLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 },
    }
}
