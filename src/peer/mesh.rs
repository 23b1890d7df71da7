//! What crosses the mesh for links and feeds.

use std::sync::Arc;

use crate::base::ids::{ConnId, Partition, ShardId, Uuid};
use crate::merge::origins::{OriginId, OriginIdx};
use crate::merge::stamp::Hlc;
use crate::peer::runs::Life;
use crate::shard::block::Kind;
use crate::shard::standing::Standing;

/// A connection between nodes, named on every core: where its socket lives, and which one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId {
    /// The core that has the socket.
    pub home: ShardId,
    /// The socket.
    pub conn: ConnId,
}

/// One number of a version vector inside this node.
pub type Entry = (OriginIdx, u8, Hlc);

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Which run of which node.
    pub of: OriginId,
    /// What grew; its own origins first.
    pub entries: Vec<Entry>,
    /// Its later writes carry readings above this one.
    pub promise: Hlc,
    /// Deadlines before this Unix millisecond are final there.
    pub final_ms: u64,
    /// It has masters configured that it has not met yet: somebody may hold what others have deleted.
    pub has_strangers: bool,
}

/// See the file's head.
pub enum PeerMessage {
    /// A shard to all cores: what it has applied since it last said so, and a reading below all its later stamps.
    Published {
        /// What grew.
        entries: Vec<Entry>,
        /// The promise.
        promise: Hlc,
        /// Deadlines before this Unix millisecond are final here.
        final_ms: u64,
        /// The link that asked for it.
        asked: Option<PeerId>,
    },
    /// A link's home to all shards: its master, or the link before it begins, wants to know now what has been applied.
    Acknowledge {
        /// Which.
        link: PeerId,
    },
    /// A core to all cores: what a member has applied, heard on a connection here.
    Heard {
        /// What it says.
        report: Arc<Report>,
        /// The feed whose reader said it of itself.
        feed: Option<PeerId>,
    },
    /// A core to all cores: members heard of.
    Members(Arc<[Uuid]>),
    /// A core to all cores: who was forgotten, and who is back.
    Standings(Arc<[Standing]>),
    /// A core to all cores: a master has said who it is.
    Identified {
        /// As configured.
        host: String,
        /// As configured.
        port: u16,
    },
    /// A core to all cores: a link to this origin is healthy, or is not any more.
    Direct {
        /// The master's present run.
        origin: OriginId,
        /// Whether it is.
        healthy: bool,
    },
    /// A core to all cores: a node is connected (by link or feed), or one connection less.
    Connected {
        /// Which run of it.
        origin: OriginId,
        /// Came or went.
        came: bool,
    },
    /// A core to all cores: who was heard of there of late.
    Alive(Arc<[Life]>),
    /// A core to all cores: this run was refused, because another one of its node is linked.
    Refused(OriginId),
    /// A core to all cores: what is linked there now.
    Linked(Counts),
    /// A feed's home to all shards: serve it.
    FeedStart {
        /// Which.
        feed: PeerId,
        /// What its reader has.
        versions: Arc<[Entry]>,
        /// Origins it does not want.
        skip: Arc<[OriginIdx]>,
    },
    /// Its reader's wishes changed.
    FeedSkip {
        /// Which.
        feed: PeerId,
        /// Origins it does not want.
        skip: Arc<[OriginIdx]>,
    },
    /// Its reader asks for a whole partition.
    FeedPull {
        /// Which.
        feed: PeerId,
        /// What.
        partition: Partition,
    },
    /// It is gone.
    FeedStop {
        /// Which.
        feed: PeerId,
    },
    /// A shard to a feed's home: blocks for its reader.
    FeedBytes {
        /// Which.
        feed: PeerId,
        /// Blocks.
        bytes: Vec<u8>,
    },
    /// A feed's home to a shard: so many of its bytes are on their way.
    FeedCredit {
        /// Which.
        feed: PeerId,
        /// How many.
        bytes: usize,
    },
    /// A link's home to a shard: blocks that concern its partitions, in the order they came.
    FromLink {
        /// Which.
        from: From,
        /// Records dealt by owner, or blocks of a full merge.
        items: Vec<(Kind, Vec<u8>)>,
    },
    /// A link's home to all shards: it is gone, and what it was merging with it.
    LinkGone {
        /// Which.
        link: PeerId,
    },
    /// A core to all cores: a connection with a node stands, over which data could be compared.
    Comparable(Arc<Comparable>),
    /// A shard to a connection's home: a block of a comparison.
    VerifyBytes {
        /// Which connection.
        peer: PeerId,
        /// The block.
        bytes: Vec<u8>,
    },
    /// Between a link's home and the core that deals turns.
    Turn(Turn),
    /// A shard to a link's home: it cannot go on.
    Broken {
        /// Which.
        link: PeerId,
        /// Why.
        reason: &'static str,
    },
    /// A shard to a link's home: a whole partition is merged.
    Merged {
        /// Which link.
        link: PeerId,
        /// Which partition.
        partition: Partition,
    },
    /// A shard to a link's home: a partition has to be taken whole, from that master if it is still linked.
    Doubtful {
        /// Which partition.
        partition: Partition,
        /// Which link.
        link: PeerId,
    },
    /// A core to a shard that asked so: there is no link here.
    NoLink {
        /// Which partition.
        partition: Partition,
        /// Who may be asked next.
        next: ShardId,
    },
}

/// What is said of a link's turn to begin (`peer::turns`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It has shaken hands.
    Wanted(PeerId),
    /// It may begin.
    Granted(PeerId),
    /// Its master cannot stream all that is lacked.
    Behind(PeerId),
    /// It has what its master could stream of what it was behind.
    Passed(PeerId),
    /// It may ask for whole partitions.
    Whole(PeerId),
    /// It has what it was behind, or is gone.
    Over(PeerId),
}

impl Turn {
    /// Whose.
    pub fn link(self) -> PeerId {
        match self {
            Turn::Wanted(link) | Turn::Granted(link) | Turn::Behind(link) => link,
            Turn::Passed(link) | Turn::Whole(link) | Turn::Over(link) => link,
        }
    }
}

/// A connection with a node, for comparing data over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Comparable {
    /// Which.
    pub peer: PeerId,
    /// Who is there.
    pub origin: OriginId,
    /// We opened it (else the other end did).
    pub is_link: bool,
    /// As configured (links), or the address it came from (feeds).
    pub host: String,
    /// As configured (links), or the port it listens on (feeds).
    pub port: u16,
    /// The other end can compare.
    pub is_able: bool,
}

/// Where blocks came from.
#[derive(Clone, Debug)]
pub struct From {
    /// The link.
    pub link: PeerId,
    /// The present run of its master.
    pub master: OriginIdx,
    /// Local indices behind the sender's.
    pub dictionary: Arc<[OriginIdx]>,
}

/// What is linked on one core.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Masters that are linked and whose data, as of when the link began, is here.
    pub masters: usize,
    /// Readers that have said something of late.
    pub readers: usize,
    /// Masters that are dialed, shake hands or will be dialed at once.
    pub coming: usize,
}

/// What one core knows of one link or feed, for INFO, ROLE and MULTIMASTER STATUS.
#[derive(Clone, Debug, Default)]
pub struct PeerFigures {
    /// The connection, if there is one.
    pub id: Option<PeerId>,
    /// A link to a master (else a feed to a reader).
    pub is_link: bool,
    /// As configured (links), or the address it came from (feeds).
    pub host: String,
    /// As configured (links), or the port it listens on (feeds).
    pub port: u16,
    /// Of links connect, connecting, handshake, sync or connected; of feeds handshake or online.
    pub state: &'static str,
    /// How many streams or partitions of it are known to be still on their way here; `None`: nothing is.
    pub left: Option<usize>,
    /// Who it is, once known.
    pub node: Option<OriginId>,
    /// Seconds since it last said something; `None`: never.
    pub idle_s: Option<u64>,
    /// Seconds since it was lost; `None`: it is not.
    pub down_s: Option<u64>,
    /// Why it is not connected.
    pub reason: String,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Full merges of partitions taken (links) or given (feeds).
    pub full_merges: u64,
    /// Handshakes that resumed from the backlog.
    pub resumes: u64,
    /// Its clock less ours, milliseconds (`peer::offset`).
    pub clock_offset_ms: i64,
    /// That is beyond `max-clock-drift`.
    pub is_beyond_drift: bool,
    /// Milliseconds since it was heard, when that is longer than a heartbeat takes.
    pub silent_ms: u64,
}

/// What one shard has taken from one master, over all links to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    /// Writes that changed something.
    pub won: u64,
    /// Writes that met something newer.
    pub lost: u64,
    /// Writes that were here already.
    pub duplicates: u64,
    /// How old by our clock the master's newest write was when it was applied; `None`: none came of late.
    pub age_ms: Option<i64>,
    /// When that was, on `Now::mono_us`.
    pub at_us: u64,
}

impl Taken {
    /// Writes in all.
    pub fn records(&self) -> u64 {
        self.won + self.lost + self.duplicates
    }

    /// Another shard's as well.
    pub fn add(&mut self, other: &Self) {
        self.won += other.won;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.age_ms = self.age_ms.max(other.age_ms);
    }
}
