//! Words and numbers that every other folder uses. No I/O, no clock, no randomness of its own.
//!
//! Reading order: `ids` (numbers that cannot be mixed up), `slot` (key -> slot -> partition -> shard),
//! `time` (the time as an argument), `text` (Redis' number and pattern rules), `rng` (seeded generator), `mix` (a hash that
//! all nodes share).

pub mod ids;
pub mod mix;
pub mod rng;
pub mod sha1;
pub mod slot;
pub mod text;
pub mod time;
