//! The Redis protocol as bytes: requests in, replies out. Knows no command, no socket and no clock.
//!
//! Reading order: `parse` (the command stream a client sends, parsed in place), `scout` (a look ahead at its keys),
//! `write` (replies, RESP2 and RESP3),
//! `value` (replies read back: by tests, and by links where we are the client).

pub mod parse;
pub mod scout;
pub mod value;
pub mod write;

pub use parse::{Argv, Limits, Parsed, Parser, ProtocolError};
pub use value::{Value, decode};
pub use write::{Reply, Version, encode_command};
