//! Tutti: a Redis-protocol server where every node is a master. See ARCHITECTURE.md.

pub mod base;
pub mod config;
pub mod merge;
pub mod resp;
pub mod runtime;
pub mod store;
