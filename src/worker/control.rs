//! What cores ask and tell each other about themselves: statistics, clients, configuration.

use std::sync::Arc;

use crate::base::ids::{ShardId, Uuid};
use crate::config::Config;
use crate::config::masters::Masters;
use crate::merge::stamp::Hlc;
use crate::peer::mesh::{PeerId, Taken};
use crate::shard::Stats;

/// Asked of another core; every core can be asked, itself included.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Look for one key in a whole shard (RANDOMKEY): the command's RESP form, database, protocol.
    Run {
        /// The client's database.
        db: crate::base::ids::Db,
        /// How to write the reply.
        version: crate::resp::write::Version,
        /// The command.
        command: Arc<[u8]>,
    },
    /// Numbers for INFO.
    Figures,
    /// WAIT: what has been written so far, and readers shall acknowledge it.
    Written,
    /// CLIENT LIST of these.
    Clients(ClientFilter),
    /// CLIENT KILL of these; answers how many.
    Kill(ClientFilter),
    /// SLOWLOG.
    Slowlog(SlowlogAsk),
    /// CONFIG SET and REPLICAOF; only core 0 is asked, so that no two changes meet.
    Configure(Change),
    /// To be told, and to say when it was.
    Tell(Tell),
    /// MULTIMASTER VERIFY; answered when the shard's partitions have been compared.
    Verify(super::peers::verify::report::VerifyAsk),
    /// DEBUG DAMAGE of a key of the shard's; answers how many were damaged.
    Damage(crate::base::ids::Db, Vec<u8>, crate::store::keyspace::damage::Damage),
    /// DEBUG SLOT-DIGESTS: to keep digests or not.
    SlotDigests(bool),
}

/// A change of the configuration.
#[derive(Clone, Debug)]
pub enum Change {
    /// CONFIG SET.
    Set {
        /// Names and values.
        pairs: Arc<[(Vec<u8>, Vec<u8>)]>,
        /// The client is on this machine.
        is_local: bool,
    },
    /// REPLICAOF.
    Masters(Masters),
}

/// What came of a change of the configuration.
#[derive(Debug)]
pub enum Configured {
    /// It is in force on core 0, and all are to adopt it.
    Changed {
        /// Which change.
        count: u64,
        /// The result.
        config: Arc<Config>,
    },
    /// There was nothing to change: what the client is told, as a status.
    Already(&'static str),
    /// The refusal, with its code word.
    Refused(String),
}

/// What SLOWLOG wants of a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlowlogAsk {
    /// Its entries.
    Get,
    /// How many.
    Len,
    /// To forget them.
    Reset,
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// What was looked for.
    Found {
        /// In RESP form.
        reply: Vec<u8>,
        /// Among so many keys.
        keys: usize,
    },
    /// Numbers for INFO.
    Figures(Box<Figures>),
    /// By partition, this node's last write.
    Written(Vec<(u8, Hlc)>),
    /// Lines of CLIENT LIST.
    Lines(String),
    /// How many.
    Count(usize),
    /// Entries of the slow log.
    Slow(Vec<SlowEntry>),
    /// What a comparison found.
    Verified(Box<super::peers::verify::report::Report>),
    /// What came of a change of the configuration.
    Configured(Configured),
}

/// Told to every core.
#[derive(Clone, Debug)]
pub enum Tell {
    /// The configuration changed; changes are numbered, because they may overtake each other.
    Adopt {
        /// Which change.
        count: u64,
        /// The result.
        config: Arc<Config>,
    },
    /// CLIENT PAUSE until this time on `Now::mono_us` (0: UNPAUSE); `writes_only`: reads go on.
    Pause {
        /// Until when.
        until_us: u64,
        /// Reads go on.
        writes_only: bool,
    },
    /// CONFIG RESETSTAT.
    ResetStats,
}

/// Which clients CLIENT LIST and CLIENT KILL mean. Empty filters match everything.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// CLIENT ID, one of these.
    pub ids: Option<Vec<u64>>,
    /// `ip:port`.
    pub addr: Option<String>,
    /// Our end.
    pub laddr: Option<String>,
    /// Name given to AUTH.
    pub user: Option<String>,
    /// normal, master, replica, pubsub.
    pub kind: Option<String>,
    /// Not this client.
    pub skip_id: Option<u64>,
    /// At least this old, seconds.
    pub max_age_s: Option<u64>,
    /// Who asks: killing itself, it still gets the reply.
    pub asker: u64,
}

impl ClientFilter {
    /// Whether a session is meant. `age_s`: seconds since it connected.
    pub fn matches(&self, session: &super::session::Session, age_s: u64) -> bool {
        use super::session::Kind;
        let kind = match session.kind {
            Kind::Client => "normal",
            Kind::Link(_) => "master",
            Kind::Feed(_) => "replica",
        };
        self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
            && self.addr.as_ref().is_none_or(|addr| *addr == session.endpoint.remote)
            && self.laddr.as_ref().is_none_or(|addr| *addr == session.endpoint.local)
            && self.user.as_ref().is_none_or(|user| *user == session.user)
            && self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.skip_id != Some(session.id)
            && self.max_age_s.is_none_or(|least| age_s >= least)
    }
}

/// One core's numbers; INFO adds them up.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The shard's counters.
    pub shard: Stats,
    /// Keys and deadlines per database.
    pub keyspace: Vec<(usize, usize)>,
    /// Memories of deletes.
    pub tombstones: usize,
    /// Keys waiting for stability.
    pub garbage: usize,
    /// Bytes in the backlog.
    pub backlog_bytes: usize,
    /// Clients connected here.
    pub clients: usize,
    /// Clients waiting for a reply.
    pub blocked: usize,
    /// The largest input and output buffer.
    pub input_bytes_max: usize,
    /// See `input_bytes_max`.
    pub output_bytes_max: usize,
    /// Bytes of all client buffers.
    pub client_bytes: usize,
    /// This core's own counters.
    pub core: CoreStats,
    /// Commands, bytes in and out, link bytes in and out per second, of late.
    pub rates: [u64; 5],
    /// Error replies by their code word.
    pub errors_by_code: Vec<(String, u64)>,
    /// Processor time of this core's thread, user and system, microseconds.
    pub thread_us: (u64, u64),
    /// Links to masters on this core and feeds of replicas.
    pub links_and_feeds: (usize, usize),
    /// Bytes of the buffers of feeds.
    pub feed_bytes: usize,
    /// Of the snapshot this core is loading: bytes looked at.
    pub loading_bytes: u64,
    /// Per command: calls, microseconds, rejected, failed.
    pub commands: Vec<(&'static str, CommandStats)>,
    /// What this shard has taken from masters.
    pub taken: Vec<(Uuid, Taken)>,
    /// Records this shard has sent, by feed.
    pub fed: Vec<(PeerId, u64)>,
    /// Lines of what this core knows of its links and feeds, see `peer`.
    pub peers: Vec<crate::peer::mesh::PeerFigures>,
}

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowEntry {
    /// Unique in this process.
    pub id: u64,
    /// When it ran, Unix seconds.
    pub at_s: u64,
    /// How long it ran.
    pub duration_us: u64,
    /// The command, shortened as Redis does.
    pub args: Vec<Vec<u8>>,
    /// Who sent it.
    pub addr: String,
    /// Its CLIENT SETNAME.
    pub name: String,
}

/// Counters of one core beside its shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct CoreStats {
    /// Clients accepted.
    pub connections: u64,
    /// Clients refused by `maxclients`.
    pub rejected: u64,
    /// Commands run for clients.
    pub commands: u64,
    /// Bytes received from clients and links.
    pub net_in: u64,
    /// Bytes produced for clients and links.
    pub net_out: u64,
    /// Of these, received on links.
    pub repl_in: u64,
    /// Of these, sent to feeds.
    pub repl_out: u64,
    /// Commands that hopped to another core.
    pub hops: u64,
    /// Batches sent to other cores.
    pub batches: u64,
    /// Error replies.
    pub errors: u64,
    /// Clients dropped because they did not read.
    pub output_disconnects: u64,
    /// Clients dropped because of what they sent.
    pub query_disconnects: u64,
    /// Clients dropped because they were silent.
    pub idle_disconnects: u64,
    /// AUTH failures.
    pub auth_failures: u64,
}

/// Counters of one command on one core.
#[derive(Clone, Copy, Debug, Default)]
pub struct CommandStats {
    /// Times it ran.
    pub calls: u64,
    /// Refused before it ran (arity, gates).
    pub rejected: u64,
    /// Ended in an error reply.
    pub failed: u64,
    /// Time it took, microseconds; for the quickest commands an estimate from samples.
    pub us: u64,
}

/// A question to all cores at once: collects the answers and knows what to do with them.
pub struct Gathering {
    /// Answers still to come.
    pub left: usize,
    /// By core.
    pub answers: Vec<(ShardId, Answer)>,
    /// What the answers are for.
    pub then: Then,
}

/// What a [`Gathering`] is for.
#[derive(Clone, Debug)]
pub enum Then {
    /// One of several replies.
    Pick,
    /// INFO of these sections.
    Info(super::home::sections::Sections),
    /// MEMORY STATS.
    MemoryStats,
    /// ROLE.
    Role,
    /// WAIT.
    Wait {
        /// For so many members.
        wanted: usize,
        /// For so long, on `Now::mono_us`.
        until_us: u64,
    },
    /// MULTIMASTER STATUS.
    MultimasterStatus,
    /// MULTIMASTER VERIFY.
    Verify(Box<super::home::verify::VerifyPlan>),
    /// CLIENT LIST.
    Clients,
    /// SLOWLOG GET of this many, newest first.
    SlowlogGet(usize),
    /// Counts are added up.
    Count,
    /// `+OK` once all have answered.
    Ok,
    /// CONFIG SET, REPLICAOF: core 0 has answered, and all cores are to be told.
    Adopt,
    /// CLIENT KILL in its new form (`:count`) or its old one (`+OK`).
    Kill {
        /// `CLIENT KILL addr`.
        old_form: bool,
    },
}
