//! Commands on one shard, without sockets: scripts of commands and the replies Redis gives.

#[allow(unreachable_pub, dead_code, reason = "shared by several test programs")]
#[path = "../support/mod.rs"]
mod support;

mod against_redis;
mod bitmap;
mod counter;
mod digest;
mod expire;
mod flush;
mod hash;
mod hash_against_redis;
mod huge;
mod key;
mod scan;
mod string;
