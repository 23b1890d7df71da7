//! Tutti: a Redis-protocol server where every node is a master. See ARCHITECTURE.md.

pub mod base;
pub mod command;
pub mod config;
pub mod mem;
pub mod merge;
pub mod peer;
pub mod resp;
pub mod runtime;
pub mod shard;
pub mod snapshot;
pub mod store;
pub mod worker;
