//! Everything that touches the world: threads, sockets, files and clocks.

pub mod logging;
