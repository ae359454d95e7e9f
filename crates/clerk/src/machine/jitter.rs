//! How long to wait before a retry, spread by a seed so that clerks do not retry in step.

use std::time::Duration;

use super::Settings;

#[derive(Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter { state: seed }
    }

    /// The wait after so many failures before this one: doubling, and of that between half and all.
    pub(super) fn backoff(&mut self, settings: &Settings, failures: u32) -> Duration {
        let doubled = settings.backoff_min.saturating_mul(1 << failures.min(20));
        let longest = doubled.min(settings.backoff_max);
        let spread = (self.next() % 1024) as u32;
        longest / 2 + (longest / 2) * spread / 1023
    }

    /// splitmix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
