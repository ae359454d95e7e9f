//! What loads the systems, and what came of it.

pub mod etcd;
pub mod resp;

/// One measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Requests that succeeded, per second.
    pub per_second: f64,
    /// Latencies in microseconds.
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
    /// Requests that did not succeed.
    pub errors: u64,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Sets a key.
    Put,
    /// Gets a key, linearizably.
    Get,
}

impl Op {
    /// As `pontoon bench` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get",
        }
    }
}
