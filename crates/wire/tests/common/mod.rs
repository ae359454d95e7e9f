//! A small generator of random numbers (splitmix64), so that a failing seed can be run again.

// Each test file uses its part of this one; a failing seed has to be told.
#![allow(dead_code, unreachable_pub, clippy::print_stderr)]

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// A number of any magnitude.
    pub fn number(&mut self) -> u64 {
        let bits = self.below(64);
        self.next() >> bits
    }
}

/// Runs `test` with many seeds and names the one that fails.
pub fn with_seeds(seeds: std::ops::Range<u64>, test: impl Fn(&mut Random)) {
    for seed in seeds {
        with_seed(seed, &test);
    }
}

/// Runs `test` with one seed and names it if it fails.
pub fn with_seed(seed: u64, test: impl FnOnce(&mut Random)) {
    let run = std::panic::AssertUnwindSafe(|| test(&mut Random::new(seed)));
    if let Err(panic) = std::panic::catch_unwind(run) {
        eprintln!("failed with seed {seed}");
        std::panic::resume_unwind(panic);
    }
}
