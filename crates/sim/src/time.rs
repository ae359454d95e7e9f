//! Virtual time, in microseconds from the start of a run.

/// A millisecond.
pub const MS: u64 = 1_000;

/// A second.
pub const SECOND: u64 = 1_000_000;
