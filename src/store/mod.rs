//! One shard's memory: databases, slots, keys, deadlines, counts. No clock, no network, no RESP.
//!
//! Reading order: `keyspace` (the one door), `counts`, `deadlines` (when keys fall due), `digests` (what two nodes
//! compare), `late` (what changed behind a scan), `watches` (what changes
//! while nodes compare).

pub mod counts;
pub mod deadlines;
pub mod digests;
pub mod keyspace;
pub mod late;
pub mod watches;
