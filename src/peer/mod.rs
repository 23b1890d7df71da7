//! Links between nodes: what is said on them, and who has said what.
//!
//! A node opens one connection to each of its masters (its links) and serves one to each node that reads from it (its
//! feeds). Data flows from the master; both ends say what they have applied. Reading order: `codec` (payloads of the
//! blocks in `shard::block`), `handshake`, `roster` (what is known of members), `mesh` (what crosses cores), `verify`
//! (how two nodes compare their data), `suspects` (what of a difference is damage), `offset` (of clocks), `turns` (which
//! link may begin), `runs` (of two runs of one node only one is linked with); `worker::peers` puts them to work.

pub mod codec;
pub mod handshake;
pub mod mesh;
pub mod offset;
pub mod roster;
pub mod runs;
pub mod suspects;
pub mod turns;
pub mod verify;

/// Who has been silent for this long may be gone, microseconds: others forward what a master wrote, and another run of the
/// node is let in. Signs of life come every second.
pub const SILENT_US: u64 = 3_500_000;

/// What was refused is remembered for this long after it has tried last, microseconds. It tries every few seconds.
pub const RIVAL_US: u64 = 60_000_000;
