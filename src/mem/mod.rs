//! Memory structures that know nothing of keys, commands or merging: a packed entry and a table that grows and is
//! scanned in small steps.

pub mod entry;
pub mod table;
