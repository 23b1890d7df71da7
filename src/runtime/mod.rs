//! The world around a worker: threads, sockets, files, clocks, signals. Nothing outside this folder names them.
//!
//! It drives any [`Core`](crate::worker::port::Core): one per thread, each with its own ring, connections and
//! executor. Reading order: `pump` (the loop), `net` (sockets to calls and back), `conns` and `output` (what is in
//! flight), `ring`, `buffers` and `token` (io_uring), `mesh` (core to core), `dial`, `resolve` and `mailbox` (beside
//! the data path), `listen` and `address`, `start` (threads).
//!
//! Promises: one send per connection is in flight; memory lent to the kernel outlives its use; a receiver never
//! waits to send; a peer, name server or disk that does not answer delays nobody else.

mod address;
mod buffers;
pub mod clock;
mod conns;
mod dial;
mod listen;
pub mod logging;
mod mailbox;
pub mod mesh;
mod net;
mod output;
mod pump;
mod resolve;
mod ring;
mod settings;
mod start;
mod token;

pub use settings::{Port, Settings};
pub use start::{CoreSeat, Running, core_count, start};
