//! Snapshots: written and read back on any number of shards, refused when damaged, exchanged with redis-server, and
//! kept over restarts of the real binary.

#![allow(unreachable_pub, reason = "shared by the modules of this program")]

mod damage;
mod files;
#[allow(dead_code, reason = "shared by several test programs")]
#[path = "../server/node.rs"]
mod node;
mod restart;
mod round_trip;
mod server;
