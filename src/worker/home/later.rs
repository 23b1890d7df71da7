//! Replies that wait for time: DEBUG SLEEP.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::Worker;
use super::super::session::{Blocked, Session};
use crate::base::ids::ConnId;
use crate::base::time::Now;

/// What is due when. A client that is gone by then is not missed.
#[derive(Default)]
pub struct Later {
    due: BinaryHeap<Reverse<Due>>,
}

/// When, for whom, in which place, and the reply.
type Due = (u64, ConnId, u64, Vec<u8>);

impl Later {
    /// When the next is due, on `Now::mono_us`; `u64::MAX`: never.
    pub fn next_us(&self) -> u64 {
        self.due.peek().map_or(u64::MAX, |Reverse((at_us, ..))| *at_us)
    }
}

impl Worker {
    /// Makes a client wait for its reply until a time. Returns the place, for whoever can reply earlier.
    pub(super) fn reply_later(&mut self, session: &mut Session, at_us: u64, reply: Vec<u8>) -> u64 {
        let place = session.reserve();
        session.blocked = Some(Blocked::Reply);
        self.later.due.push(Reverse((at_us, session.conn, place, reply)));
        place
    }

    /// Gives the replies that are due.
    pub(in super::super) fn run_later(&mut self, now: Now) {
        while self.later.next_us() <= now.mono_us {
            if let Some(Reverse((_, conn, place, reply))) = self.later.due.pop() {
                self.complete(conn, place, &reply, now);
            }
        }
    }
}
