//! How long a member waits for what it passed on to the leader before it takes it for lost.

use std::ops::RangeInclusive;

use crate::Config;

/// Twice what the last outcome took, and longer with each attempt in vain: what waits for a slow disk is not lost, and further copies
/// would make the disk slower.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// What the last outcome took, from its first proposal on, in ticks.
    latency: u64,
}

/// At least: an election may take as long, but with quick outcomes a request that is lost twice still has time. At most: however slow
/// they are, one that is lost once has. In ticks.
pub(crate) fn bounds(config: &Config) -> RangeInclusive<u64> {
    let (election, timeout) = (2 * u64::from(config.election_ticks), config.request_timeout_ticks);
    let min = election.min(timeout / 4).max(1);
    min..=(4 * min).min(timeout / 2).max(1)
}

impl Patience {
    /// An outcome came so many ticks after it was first proposed.
    pub(crate) fn took(&mut self, ticks: u64) {
        self.latency = ticks;
    }

    /// How long to wait after so many attempts in vain.
    pub(crate) fn ticks(&self, bounds: &RangeInclusive<u64>, in_vain: u32) -> u64 {
        let longer = (2 * self.latency).max(*bounds.start()).saturating_mul(1 << in_vain.min(16));
        longer.min(*bounds.end())
    }
}

#[cfg(test)]
mod tests {
    use pontoon_kv::{GroupId, NodeId};

    use super::*;

    #[test]
    fn a_lost_request_has_time_for_another_attempt_however_slow_outcomes_are_and_for_two_if_they_are_quick() {
        for request_timeout_ticks in [4, 20, 80, 200] {
            let config = Config { request_timeout_ticks, ..Config::new(GroupId(1), NodeId(1), 7) };
            let bounds = bounds(&config);
            let mut patience = Patience::default();
            let twice = patience.ticks(&bounds, 0) + patience.ticks(&bounds, 1);
            assert!(twice < request_timeout_ticks, "{twice} of {request_timeout_ticks}");
            for latency in 0..=request_timeout_ticks {
                patience.took(latency);
                let once = patience.ticks(&bounds, 0);
                assert!(once < request_timeout_ticks, "{once} of {request_timeout_ticks} after {latency}");
            }
        }
    }
}
