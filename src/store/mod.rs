//! One shard's memory: databases, slots, keys, deadlines, counts. No clock, no network, no RESP.
//!
//! Reading order: `keyspace` (the one door), `counts`.

pub mod counts;
pub mod keyspace;
