//! What happened in a row, in figures.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one row.
#[derive(Debug, Default)]
pub struct Tally {
    operations: AtomicU64,
    crashes: AtomicU64,
    partitions: AtomicU64,
    lost: AtomicU64,
}

impl Tally {
    /// Operations of clients that have ended.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Servers killed.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::Relaxed)
    }

    /// Times that links were cut.
    pub fn partitions(&self) -> u64 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// Requests, replies and messages that got lost on an unreliable network.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn operate(&self, count: u64) {
        self.operations.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn crash(&self) {
        self.crashes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn part(&self) {
        self.partitions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }
}
