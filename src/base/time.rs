//! The time as an argument: nothing below `runtime/` can ask a clock.

/// One reading of both clocks, taken once per tick by the runtime (or invented by the simulator).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Unix time in milliseconds. May jump either way.
    pub wall_ms: u64,
    /// Microseconds since the process started. Never goes back.
    pub mono_us: u64,
}

/// An absolute Unix time in milliseconds at which a key stops being visible.
pub type DeadlineMs = u64;
