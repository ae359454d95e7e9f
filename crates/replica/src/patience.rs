//! How long a member waits for what it passed on to the leader before it takes it for lost.

use crate::Config;

/// Twice what the last outcome took, and longer with each attempt in vain: what waits for a slow disk is not lost, and further copies
/// would make the disk slower.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// What the last outcome took, from its first proposal on, in ticks.
    latency: u64,
}

/// At most so many times the shortest patience, so that a request that is lost twice still has time.
const FACTOR_MAX: u64 = 4;

/// The shortest patience, in ticks: an election may take as long, but a request that is lost twice must still have time.
pub(crate) fn shortest(config: &Config) -> u64 {
    let election = 2 * u64::from(config.election_ticks);
    election.min(config.request_timeout_ticks / FACTOR_MAX).max(1)
}

impl Patience {
    /// An outcome came so many ticks after it was first proposed.
    pub(crate) fn took(&mut self, ticks: u64) {
        self.latency = ticks;
    }

    /// How long to wait after so many attempts in vain.
    pub(crate) fn ticks(&self, min: u64, in_vain: u32) -> u64 {
        let longer = min.max(2 * self.latency).saturating_mul(1 << in_vain.min(16));
        longer.min(min * FACTOR_MAX)
    }
}
