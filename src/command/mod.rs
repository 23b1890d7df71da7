//! Commands: names, arguments, replies. A handler runs on the shard that owns its keys and has three steps in this
//! order: parse everything, read and decide, write. So a parse error never leaves a half-done write.
//!
//! Reading order: `spec` (a row of the table), `table` (all rows), `args`, `error`, then a family such as `string`.

pub mod args;
pub mod bitfield;
pub mod bitmap;
pub mod categories;
pub mod cluster;
pub mod counter;
pub mod debug;
pub mod error;
pub mod expire;
pub mod expiry;
pub mod flush;
pub mod hash;
pub mod hash_random;
pub mod home;
pub mod key;
pub mod lcs;
pub mod object;
pub mod rename;
pub mod scan;
pub mod spec;
pub mod string;
pub mod substring;
pub mod table;

use crate::base::ids::Db;
use crate::base::time::{DeadlineMs, Now};
use crate::merge::op::SetDeadline;
use crate::merge::total::Total;
use crate::resp::write::Reply;
use crate::shard::Shard;
use crate::shard::hash::{HashView, WrongType};
use crate::shard::write::{Found, NotAdded, Value};
use crate::store::keyspace::KeyRef;
use crate::store::keyspace::ahead::Soon;
use args::Args;
use error::CommandError;

/// The configuration handlers look at; a copy per core, replaced when CONFIG SET changes it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`: no string may grow beyond this many bytes.
    pub string_bytes_max: usize,
    /// `hash-max-listpack-entries`: only what OBJECT ENCODING says depends on it.
    pub hash_listpack_entries_max: usize,
    /// `hash-max-listpack-value`, bytes; likewise.
    pub hash_listpack_value_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { string_bytes_max: 512 << 20, hash_listpack_entries_max: 128, hash_listpack_value_bytes_max: 64 }
    }
}

/// What a handler on the owning shard works with.
pub struct Ctx<'a> {
    /// The shard; handlers change it through the methods of `shard::write` only.
    pub shard: &'a mut Shard,
    /// The client's database.
    pub db: Db,
    /// The time of this tick.
    pub now: Now,
    /// Configuration.
    pub limits: &'a Limits,
    /// For printing counters.
    pub scratch: &'a mut Vec<u8>,
    /// What is known of the key already.
    pub foreseen: Option<Soon>,
}

/// Runs a command on the shard that owns its keys.
pub type Handler = fn(&mut Ctx<'_>, &mut Args<'_>, &mut Reply<'_>) -> Result<(), CommandError>;

impl Ctx<'_> {
    /// Hashes a key both ways; do it once per command and key.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> KeyRef<'k> {
        match &self.foreseen {
            Some(soon) if soon.is_of(bytes) => {
                let key = KeyRef { bytes, hash: soon.hash, slot: soon.slot };
                debug_assert_eq!(key.hash, self.shard.key(bytes).hash, "a key changed after it was shown");
                key
            }
            _ => self.shard.key(bytes),
        }
    }

    /// As [`Ctx::key`] for the keys of a long command: asks for the key's memory ahead of its use.
    #[inline]
    pub fn key_soon<'k>(&self, bytes: &'k [u8]) -> KeyRef<'k> {
        let key = self.key(bytes);
        self.shard.keys.prefetch(self.db, &key);
        key
    }

    /// The key as a reader sees it; counts a hit or a miss.
    #[inline]
    pub fn read(&mut self, key: &KeyRef<'_>) -> Option<Found<'_>> {
        self.shard.read(self.db, key, self.now)
    }

    /// The key as a reader sees it, without counting.
    #[inline]
    pub fn peek(&self, key: &KeyRef<'_>) -> Option<Found<'_>> {
        self.shard.peek(self.db, key, self.now)
    }

    /// The string at `key`, a counter as its text; `None` when absent. Counts a hit or a miss.
    #[inline]
    pub fn string(&mut self, key: &KeyRef<'_>) -> Result<Option<&[u8]>, CommandError> {
        match self.shard.read(self.db, key, self.now) {
            None => Ok(None),
            Some(found) => found.value.bytes(self.scratch).map(Some).ok_or(CommandError::WrongType),
        }
    }

    /// Refuses a key that exists and is no string. Returns whether it exists.
    pub fn expect_string(&self, key: &KeyRef<'_>) -> Result<bool, CommandError> {
        match self.peek(key).map(|found| found.value) {
            None => Ok(false),
            Some(Value::Bytes(_) | Value::Number(_)) => Ok(true),
            Some(Value::Hash(_)) => Err(CommandError::WrongType),
        }
    }

    /// Refuses a key that exists and is no hash. Returns whether it exists.
    pub fn expect_hash(&self, key: &KeyRef<'_>) -> Result<bool, CommandError> {
        match self.peek(key).map(|found| found.value) {
            None => Ok(false),
            Some(Value::Hash(_)) => Ok(true),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// A copy of the string at `key` for commands that change part of it; `None` when absent.
    pub fn string_copy(&mut self, key: &KeyRef<'_>) -> Result<Option<Vec<u8>>, CommandError> {
        Ok(self.string(key)?.map(<[u8]>::to_vec))
    }

    /// Writes a whole string.
    #[inline]
    pub fn set(&mut self, key: &KeyRef<'_>, value: &[u8], deadline: SetDeadline) {
        self.shard.set(self.db, key, value, deadline, self.now);
    }

    /// Deletes a key; returns whether it existed.
    pub fn del(&mut self, key: &KeyRef<'_>) -> bool {
        self.shard.del(self.db, key, self.now)
    }

    /// Writes the deadline of a key that exists.
    pub fn set_deadline(&mut self, key: &KeyRef<'_>, at: Option<DeadlineMs>) {
        self.shard.set_deadline(self.db, key, at, self.now);
    }

    /// Adds an integer.
    pub fn incr(&mut self, key: &KeyRef<'_>, by: i64) -> Result<i64, CommandError> {
        Ok(self.shard.incr(self.db, key, by, self.now)?)
    }

    /// Adds a decimal exactly; see [`Shard::incr_exact`].
    pub fn incr_exact(&mut self, key: &KeyRef<'_>, by: Total) -> Result<Option<i128>, CommandError> {
        Ok(self.shard.incr_exact(self.db, key, by, self.now)?)
    }

    /// The hash at `key`, if there is one; counts a hit or a miss.
    #[inline]
    pub fn read_hash(&mut self, key: &KeyRef<'_>) -> Result<Option<HashView<'_>>, CommandError> {
        Ok(self.shard.read_hash(self.db, key, self.now)?)
    }

    /// The hash at `key`, if there is one, without counting.
    pub fn peek_hash(&self, key: &KeyRef<'_>) -> Result<Option<HashView<'_>>, CommandError> {
        Ok(self.shard.peek_hash(self.db, key, self.now)?)
    }

    /// Writes fields of a hash; see [`Shard::hset`].
    pub fn hset<'f>(
        &mut self,
        key: &KeyRef<'_>,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<usize, CommandError> {
        Ok(self.shard.hset(self.db, key, fields, self.now)?)
    }

    /// The time against which deadlines are judged, Unix milliseconds.
    pub fn time_ms(&self) -> u64 {
        self.shard.time_ms(self.now)
    }
}

impl From<WrongType> for CommandError {
    fn from(_: WrongType) -> Self {
        Self::WrongType
    }
}

impl From<NotAdded> for CommandError {
    fn from(not: NotAdded) -> Self {
        match not {
            NotAdded::WrongType => Self::WrongType,
            NotAdded::NotANumber => Self::NotInteger,
            NotAdded::Overflow => Self::Text("ERR increment or decrement would overflow"),
        }
    }
}
