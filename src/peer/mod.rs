//! Links between nodes: what is said on them, and who has said what.
//!
//! A node opens one connection to each of its masters (its links) and serves one to each node that reads from it (its
//! feeds). Data flows from the master; both ends say what they have applied. Reading order: `codec` (payloads of the
//! blocks in `shard::block`), `handshake`, `roster` (what is known of members), `mesh` (what crosses cores), `verify`
//! (how two nodes compare their data), `suspects` (what of a difference is damage), `offset` (of clocks), `turns` (which
//! link may begin); `worker::peers` puts them to work.

pub mod codec;
pub mod handshake;
pub mod mesh;
pub mod offset;
pub mod roster;
pub mod suspects;
pub mod turns;
pub mod verify;
