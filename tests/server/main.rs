//! The real binary on a free port, spoken to over sockets.

mod client;
mod clock;
mod cluster;
mod config;
mod connection;
mod copies;
mod info;
mod isolation;
mod limits;
mod links;
#[allow(unreachable_pub, reason = "shared by the modules of this program")]
mod node;
mod supervised;
mod table;
mod verify;
