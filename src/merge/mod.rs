//! The algebra of concurrent change: what two nodes must compute alike, whatever arrives first.
//!
//! Every type here is a join semilattice: joining is commutative, associative and idempotent for every input
//! (`tests/laws`). No clock, no randomness, no I/O, no knowledge of RESP, commands or shards.
//!
//! Reading order: `stamp` (the order of writes), `origins` (who wrote), `total` (exact sums), `cell` (register and
//! counter), `hash` (fields), `key` (everything a key holds), `op` (the effect of a write), `version` (what has been
//! seen), `hlc` (the clock that mints stamps), `digest` (what of a key two nodes compare),
//! `damage` (on purpose).

pub mod cell;
pub mod context;
pub mod damage;
pub mod digest;
pub mod hash;
pub mod hlc;
pub mod key;
pub mod op;
pub mod origins;
pub mod realm;
pub mod stamp;
pub mod total;
pub mod version;
pub mod waste;
