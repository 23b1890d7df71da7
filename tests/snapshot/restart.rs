//! The real binary over restarts.
