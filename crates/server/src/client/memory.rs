//! What all client connections together may hold in memory.
//!
//! Each connection is bounded by itself, but ten thousand of them with half a large request each would still be too much. So
//! there is a bound on the sum: above it, a connection that holds more than an equal part is closed.

use std::sync::atomic::{AtomicUsize, Ordering};

/// All connections together hold about this at most, in bytes.
pub(crate) const CLIENTS_BYTES_MAX: usize = 1 << 30;

/// A connection that holds less is never closed for it, in bytes.
const PART_BYTES_MIN: usize = 64 << 10;

/// Changes smaller than this are not told, in bytes: connections with small requests shall not contend for the counter.
const STEP_BYTES: usize = 16 << 10;

/// What connections have told.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes_max: usize,
    bytes: AtomicUsize,
    connections: AtomicUsize,
}

/// A connection's part. Returned when dropped.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    memory: &'a Memory,
    bytes: usize,
}

/// All connections hold too much, and this one holds more than its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("client connections hold too much memory, and this one more than its part")]
pub(crate) struct TooMuch;

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Memory {
        Memory { bytes_max, bytes: AtomicUsize::new(0), connections: AtomicUsize::new(0) }
    }

    /// A part for one more connection.
    pub(crate) fn open(&self) -> Part<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Part { memory: self, bytes: 0 }
    }
}

impl Part<'_> {
    /// The connection holds so many bytes now.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let memory = self.memory;
        if bytes.abs_diff(self.bytes) >= STEP_BYTES {
            match bytes > self.bytes {
                true => memory.bytes.fetch_add(bytes - self.bytes, Ordering::Relaxed),
                false => memory.bytes.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
            };
            self.bytes = bytes;
        }
        if bytes <= PART_BYTES_MIN || memory.bytes.load(Ordering::Relaxed) <= memory.bytes_max {
            return Ok(());
        }
        let equal = memory.bytes_max / memory.connections.load(Ordering::Relaxed).max(1);
        if bytes <= equal { Ok(()) } else { Err(TooMuch) }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.memory.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, TooMuch};

    const MIB: usize = 1 << 20;

    #[test]
    fn above_the_bound_whoever_holds_more_than_an_equal_part_must_go() {
        let memory = Memory::new(10 * MIB);
        let (mut large, mut small, mut tiny) = (memory.open(), memory.open(), memory.open());
        assert_eq!(large.set(9 * MIB), Ok(()), "there is room for it");
        assert_eq!(small.set(2 * MIB), Ok(()), "all is more than 10 MiB, but a third of that is more than 2");
        assert_eq!(tiny.set(100), Ok(()));
        assert_eq!(large.set(9 * MIB), Err(TooMuch));
        assert_eq!(small.set(4 * MIB), Err(TooMuch));
        drop(large);
        assert_eq!(small.set(4 * MIB), Ok(()), "what has gone is free");
        assert_eq!(small.set(MIB), Ok(()));
        assert_eq!(tiny.set(9 * MIB), Ok(()), "what has shrunk is free");
    }
}
