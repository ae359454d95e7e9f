//! A run of one target.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use crate::{Random, change, corpus, memory};

/// A function that takes any bytes, and what is expected of it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its fuzz target and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics if a promise does not hold.
    pub check: fn(&[u8]),
    /// What the check may hold at once, in bytes, beside 128 for each byte of the input.
    pub held_bytes_max: usize,
}

/// Decoded twice, compared and encoded again, a byte on the wire becomes some values and their text.
const HELD_PER_BYTE: usize = 128;

/// However fast the machine is, and however slow.
const INPUTS_MAX: u64 = 1_000_000;
const INPUTS_MIN: u64 = 100;

impl Target {
    /// Checks the corpus, then changed inputs for two seconds: input `n` is that of seed `first + n`. `PONTOON_SEED=s` sets the
    /// first, so that a failing one is repeated at once; `PONTOON_FUZZ_SECONDS` the time.
    ///
    /// # Panics
    ///
    /// If a check does, or holds more memory than it may.
    #[expect(clippy::print_stdout, reason = "a failed test is to name its input")]
    pub fn run(&self, examples: &[Vec<u8>]) {
        let first = setting("PONTOON_SEED").unwrap_or(0);
        let seconds = setting("PONTOON_FUZZ_SECONDS").unwrap_or(2);
        println!("{}: seeds from {first}, for {seconds} s", self.name);
        let inputs = corpus::load(self.name, examples);
        assert!(!inputs.is_empty(), "there is nothing to change");
        for (number, input) in inputs.iter().enumerate() {
            self.check(input, format_args!("input {number} of the corpus"));
        }
        let start = Instant::now();
        let mut count = 0;
        while count < INPUTS_MIN || start.elapsed() < Duration::from_secs(seconds) && count < INPUTS_MAX {
            let seed = first.wrapping_add(count);
            let input = change(&inputs, &mut Random::new(seed));
            self.check(&input, format_args!("PONTOON_SEED={seed}"));
            count += 1;
        }
        println!("{}: {count} changed inputs passed", self.name);
    }

    #[expect(clippy::print_stdout, reason = "a failed test is to name its input")]
    fn check(&self, input: &[u8], name: std::fmt::Arguments<'_>) {
        let mut result = Ok(());
        let held = memory::peak_bytes(|| {
            result = catch_unwind(AssertUnwindSafe(|| (self.check)(input)));
        });
        if let Err(panic) = result {
            println!("{} failed with {name}: b\"{}\"", self.name, input.escape_ascii());
            resume_unwind(panic);
        }
        let max = self.held_bytes_max + HELD_PER_BYTE * input.len();
        assert!(
            held <= max,
            "{} held {held} bytes for an input of {} (at most {max} are allowed), with {name}: b\"{}\"",
            self.name,
            input.len(),
            input.escape_ascii()
        );
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
