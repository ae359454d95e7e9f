//! Random runs: some seeds pass, and a seed is the same run every time.

use pontoon_sim::{scenario::Scenario, world::Traced};

const PASSING: std::ops::RangeInclusive<u64> = 1..=60;

/// Runs of this many seeds are compared with themselves.
const COMPARED: std::ops::RangeInclusive<u64> = 1..=100;

#[test]
fn some_seeds_pass() {
    for seed in PASSING {
        let report = Scenario::from_seed(seed).run(Traced::No);
        assert!(
            report.violation.is_none(),
            "seed {seed}: {}\n  replay: cargo run --release -p pontoon-sim -- --seed {seed} --trace",
            report.violation.expect("there is one"),
        );
    }
}

#[test]
fn a_seed_is_the_same_run_to_the_last_byte() {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || COMPARED.skip(part).step_by(4).for_each(run_twice));
        }
    });
}

fn run_twice(seed: u64) {
    let scenario = Scenario::from_seed(seed);
    let (first, second) = (scenario.run(Traced::Kept), scenario.run(Traced::Kept));
    assert!(first.trace.len() > 10_000, "seed {seed} has a trace");
    let differing = first.trace.lines().zip(second.trace.lines()).find(|(first, second)| first != second);
    assert_eq!(differing, None, "seed {seed} runs differently the second time");
    assert_eq!(first.trace.len(), second.trace.len(), "seed {seed} ends differently the second time");
}
