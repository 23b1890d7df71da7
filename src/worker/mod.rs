//! Everything one core decides, without I/O.

pub mod port;
