//! The world around a worker: threads, sockets, files, clocks, signals. Nothing outside this folder names them.
//!
//! It drives any [`Core`]: one per thread, each with its own ring, connections and
//! executor. Reading order: `pump` (the loop), `net` (sockets to calls and back), `conns` and `output` (what is in
//! flight), `ring`, `buffers` and `token` (io_uring), `mesh` (core to core), `dial`, `resolve` and `mailbox` (beside
//! the data path), `disk` and `bell` (files, by glommio), `listen` and `address`, `start` (threads), `preflight`,
//! `process` and `signals`.
//!
//! Promises: one send per connection is in flight; memory lent to the kernel outlives its use; a receiver never
//! waits to send; a peer, name server or disk that does not answer delays nobody else.

mod address;
mod bell;
mod buffers;
pub mod clock;
pub mod config_file;
mod conns;
mod data;
mod dial;
mod disk;
mod files;
mod listen;
pub mod logging;
mod mailbox;
mod marks;
mod measure;
pub mod mesh;
mod net;
mod output;
pub mod preflight;
pub mod process;
mod pump;
mod resolve;
mod ring;
pub mod serve;
mod settings;
mod signals;
mod start;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod toy;

pub use settings::{Port, Settings};
pub use start::{CoreSeat, Running, core_count, start};

use std::os::fd::AsFd;

use crate::worker::port::Core;

/// Runs a node from check to end: answers the exit code, or one line why it could not start.
///
/// A supervisor is told when the cores say so (`Action::Ready`), and when the end begins. SIGTERM and SIGINT ask every
/// core to shut down; a second one ends the process at once.
pub fn run<C, F>(settings: &Settings, make_core: F) -> Result<i32, String>
where
    C: Core + 'static,
    F: Fn(CoreSeat) -> C + Send + Sync + 'static,
{
    preflight::check(core_count(settings))?;
    if settings.disable_thp {
        process::disable_huge_pages();
    }
    let clients_max = process::raise_file_limit(settings.clients_max, core_count(settings));
    signals::install().map_err(|error| format!("could not handle signals: {error}"))?;
    let running = start(&Settings { clients_max, ..settings.clone() }, make_core)?;
    if let Some(signal) = signals::wait(running.finished().as_fd()) {
        tracing::warn!("received {signal}, shutting down");
        running.stop();
    }
    process::say_stopping(settings.supervised);
    Ok(running.wait())
}
