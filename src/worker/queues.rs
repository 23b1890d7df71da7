//! What waits in a core, and how much of it may: every queue with its bound in one list, for tests and the simulator.

use super::Worker;
use super::dispatch::BLOCKED_INPUT_MAX;
use super::peers::{FEED_CREDIT_MAX, FEED_UNSENT_MAX};
use super::session::{Kind, PENDING_MAX};
use crate::base::ids::PARTITIONS;
use crate::shard::stability::WAITING_MAX;
use crate::store::watches::CHANGES_MAX;

/// One queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// What waits there.
    pub name: &'static str,
    /// How much, in `most`'s unit.
    pub len: usize,
    /// How much may: what would be one more is dropped, merged with another, or not read from its socket. What is under
    /// way when the bound is reached comes on top: `slack`.
    pub most: usize,
    /// How much that can be.
    pub slack: Slack,
}

/// By what a bound may be passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slack {
    /// It may not.
    None,
    /// One record, or one block of a full merge, per core.
    Block,
    /// What had arrived when the socket was told to pause.
    Arrived,
}

impl Worker {
    /// All of them, each session's and each feed's by itself.
    pub fn queues(&self) -> impl Iterator<Item = Queue> + '_ {
        let queue = |name, len, most, slack| Queue { name, len, most, slack };
        let sessions = self.sessions.iter().flat_map(move |session| {
            let sends = session.output.len() + session.unsent;
            [
                queue("replies of a client that are not complete", session.pending.len(), PENDING_MAX, Slack::None),
                match session.kind {
                    Kind::Client => queue(
                        "input of a client that waits, bytes",
                        if session.blocked.is_some() { session.input.len() } else { 0 },
                        BLOCKED_INPUT_MAX,
                        Slack::Arrived,
                    ),
                    Kind::Link(_) => queue("output of a link, bytes", sends, FEED_UNSENT_MAX, Slack::Block),
                    Kind::Feed(_) => queue(
                        "output of a feed, bytes",
                        sends,
                        FEED_UNSENT_MAX + self.cores() * FEED_CREDIT_MAX,
                        Slack::Block,
                    ),
                },
            ]
        });
        let under_way = self
            .feeds_under_way()
            .map(move |bytes| queue("bytes of a feed on their way to its core", bytes, FEED_CREDIT_MAX, Slack::Block));
        let waiting = self.shard.stability.waiting().map(move |count| {
            // One more of each partition.
            queue("acknowledgements of a member that cannot count yet", count, WAITING_MAX + PARTITIONS, Slack::None)
        });
        let noted = queue("writes noted for comparisons", self.shard.keys.noted(), CHANGES_MAX, Slack::None);
        let limit = self.config.client_query_buffer_limit as usize;
        let wholes = self
            .wholes_under_way()
            .map(move |bytes| queue("bytes of a partition that comes whole", bytes, limit, Slack::None));
        sessions.chain(under_way).chain(waiting).chain(wholes).chain([noted])
    }
}
