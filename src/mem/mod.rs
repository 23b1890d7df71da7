//! Memory structures that know nothing of keys, commands or merging: a packed entry, a table that grows and is
//! scanned in small steps, and the allocator whose size classes they count on.

pub mod alloc;
pub mod count;
pub mod entry;
pub mod prefetch;
pub mod table;
