//! Snapshots: RDB files that redis-server loads, with everything more that we know in AUX fields it skips.
//!
//! Reading order: this file (what a file looks like), `put` and `crc64` (bytes), `scan` (a shard into chunks),
//! `state` (what a key's plain form leaves out), `read` and `packed` (bytes into records), `load` (records into a
//! shard), `identity` (who a node is). No I/O here: files are read through [`std::io::Read`] and written by
//! `worker::saving`.
//!
//! ```text
//! header    REDIS0010, AUX redis-ver, ctime, ..., tutti-format, tutti-node, tutti-origins; RESIZEDB per database
//! chunk     SELECTDB, then keys: [EXPIRETIME_MS] AUX tutti-state, type, key, value
//!           a key without a plain form (deleted, expired): AUX tutti-key
//! end       per shard: AUX tutti-versions, tutti-ahead, tutti-flushed, tutti-forgotten, tutti-clock, tutti-final,
//!           tutti-members
//! trailer   EOF, CRC64
//! ```
//!
//! Every chunk stands for itself, so those of several shards may come in any order. Writes go on during the scan. What
//! changes in a place that the scan has passed is written again, whole, as a `tutti-key` which replaces what came
//! before; with the last of these, in the same slice, a shard says its version vectors. So a file holds exactly what
//! they claim: were they taken at the begin, the file would hold writes beyond them that no link would ever pass on.
//! redis-server, which skips AUX fields, sees a key as the scan met it.

pub mod crc64;
pub mod identity;
pub mod load;
pub mod packed;
pub mod put;
pub mod read;
pub mod scan;
pub mod state;

/// The RDB version we write: redis-server 7.0's.
pub const RDB_VERSION: u32 = 10;

/// The latest RDB version whose types and opcodes are known here.
pub const RDB_VERSION_MAX: u32 = 12;

/// The version of our AUX fields.
pub const FORMAT: u64 = 1;

/// What may stand in front of a key, and the end.
pub mod opcode {
    #![allow(missing_docs, reason = "Redis' names")]
    pub const FUNCTION2: u8 = 245;
    pub const SLOT_INFO: u8 = 244;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZEDB: u8 = 251;
    pub const EXPIRETIME_MS: u8 = 252;
    pub const EXPIRETIME: u8 = 253;
    pub const SELECTDB: u8 = 254;
    pub const EOF: u8 = 255;
}

/// The types that are read; the first two are written.
pub mod kind {
    #![allow(missing_docs, reason = "Redis' names")]
    pub const STRING: u8 = 0;
    pub const HASH: u8 = 4;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const HASH_LISTPACK: u8 = 16;
}

/// Names of our AUX fields.
pub mod aux {
    /// The version of these fields, decimal.
    pub const FORMAT: &[u8] = b"tutti-format";
    /// The node's UUID, a space, and its incarnation.
    pub const NODE: &[u8] = b"tutti-node";
    /// Origins: the first index, how many, and for each 16 bytes of UUID and the incarnation.
    pub const ORIGINS: &[u8] = b"tutti-origins";
    /// What the next key knows beyond its plain form; see `snapshot::state`.
    pub const STATE: &[u8] = b"tutti-state";
    /// Database, key and whole state of a key; replaces what came before it.
    pub const KEY: &[u8] = b"tutti-key";
    /// Triples of origin index, partition and reading.
    pub const VERSIONS: &[u8] = b"tutti-versions";
    /// The same of what full merges under way may have brought besides.
    pub const AHEAD: &[u8] = b"tutti-ahead";
    /// Triples of database, partition and the stamp of its last flush.
    pub const FLUSHED: &[u8] = b"tutti-flushed";
    /// Pairs of partition and the latest stamp forgotten there.
    pub const FORGOTTEN: &[u8] = b"tutti-forgotten";
    /// The shard's clock.
    pub const CLOCK: &[u8] = b"tutti-clock";
    /// Before which Unix millisecond deadlines were final in the shard.
    pub const FINAL: &[u8] = b"tutti-final";
    /// Who must acknowledge a delete before it is forgotten, and who was forgotten: `shard::standing`.
    pub const MEMBERS: &[u8] = b"tutti-members";
}
