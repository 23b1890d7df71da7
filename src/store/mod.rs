//! Where a shard keeps its data.
//!
//! Reading order: `entry` (one key with its value in one allocation), `table` (the hash table of entries, growing in
//! small steps and scannable without state).

pub mod entry;
pub mod table;
