//! Several cores of one node, and several nodes, in memory: everything a worker decides, without sockets or threads.

mod comparing;
mod configuring;
mod conflicts;
mod copies;
mod crossing;
mod divergences;
mod histories;
mod isolation;
mod keyspace;
mod links;
mod loading;
mod losses;
mod membership;
#[allow(unreachable_pub, reason = "shared by the modules of this program")]
mod nodes;
mod quorum;
#[allow(unreachable_pub, reason = "shared by the modules of this program")]
mod world;
