//! WAIT: clients that wait until members have acknowledged what was written here before.
//!
//! What is waited for is everything this node's cores had written when WAIT came, which holds the client's own writes;
//! readers are asked to acknowledge it at once. So the wait is bounded by a round trip however much others write.

use super::super::Worker;
use super::super::control::{Answer, Ask, Then};
use super::super::session::Session;
use crate::base::ids::{ConnId, ShardId};
use crate::base::text::parse_i64;
use crate::base::time::Now;
use crate::command::args::Args;
use crate::command::error::CommandError;
use crate::merge::stamp::Hlc;
use crate::resp::write::Reply;

/// Who waits for members. Bounded by the number of clients: each waits for one thing at a time.
#[derive(Default)]
pub struct Waits {
    waiting: Vec<Waiting>,
    /// Members have acknowledged something since the last look.
    is_stale: bool,
}

struct Waiting {
    conn: ConnId,
    place: u64,
    wanted: usize,
    written: Vec<(u8, Hlc)>,
    until_us: u64,
}

impl Waits {
    /// A member has said what it has applied.
    pub fn note_heard(&mut self) {
        self.is_stale = !self.waiting.is_empty();
    }

    /// Whether somebody may wait no more.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// When the next wait is over, on `Now::mono_us`; `u64::MAX`: never.
    pub fn next_us(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.until_us).min().unwrap_or(u64::MAX)
    }
}

impl Worker {
    /// WAIT numreplicas timeout.
    pub(super) fn wait(
        &mut self,
        session: &mut Session,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
        now: Now,
    ) -> Result<(), CommandError> {
        if self.config.refuses_writes() {
            return Err(CommandError::Text(
                "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
                 configured to be writable (which is not the default) writes to replicas are just local and are not \
                 propagated.",
            ));
        }
        let wanted = args.integer()?;
        let timeout_ms =
            parse_i64(args.next()?).ok_or(CommandError::Text("ERR timeout is not an integer or out of range"))?;
        if timeout_ms < 0 {
            return Err(CommandError::Text("ERR timeout is negative"));
        }
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let until_us = match timeout_ms {
            0 => u64::MAX,
            ms => now.mono_us.saturating_add((ms as u64).saturating_mul(1000)),
        };
        let connected = self.connected_nodes();
        if !session.has_written && connected >= wanted {
            reply.integer(connected as i64);
            return Ok(());
        }
        self.ask_everyone(session, &Ask::Written, Then::Wait { wanted, until_us });
        Ok(())
    }

    /// All cores have said what was written: the number of members that have it, or `None` while too few have.
    pub(in super::super) fn begin_wait(
        &mut self,
        conn: ConnId,
        place: u64,
        wanted: usize,
        until_us: u64,
        answers: Vec<(ShardId, Answer)>,
        now: Now,
    ) -> Option<usize> {
        let written = answers.into_iter().flat_map(|(_, answer)| match answer {
            Answer::Written(written) => written,
            _ => Vec::new(),
        });
        let waiting = Waiting { conn, place, wanted, written: written.collect(), until_us };
        let count = self.finished(&waiting, now);
        if count.is_none() {
            self.waits.waiting.push(waiting);
        }
        count
    }

    /// Answers those whose wait is over.
    pub(in super::super) fn serve_waits(&mut self, now: Now) {
        self.waits.is_stale = false;
        for waiting in std::mem::take(&mut self.waits.waiting) {
            if self.sessions.get(waiting.conn).is_none() {
                continue;
            }
            match self.finished(&waiting, now) {
                Some(count) => {
                    let mut out = Vec::new();
                    Reply::new(&mut out, crate::resp::write::Version::Resp2).integer(count as i64);
                    self.complete(waiting.conn, waiting.place, &out, now);
                }
                None => self.waits.waiting.push(waiting),
            }
        }
    }

    fn finished(&self, waiting: &Waiting, now: Now) -> Option<usize> {
        let count = self.members_that_have(&waiting.written);
        (count >= waiting.wanted || now.mono_us >= waiting.until_us).then_some(count)
    }
}
