//! `pontoon-sim mutants`: plants each mutant in a process of its own, and looks who finds it.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use pontoon_sim::{
    check::Violation,
    mutants::{CASES, Case, Hunt},
    scenario::Scenario,
    world::Traced,
};

use super::say;

/// A run of a mutant that takes longer has found it: it hangs.
const RUN_MAX: Duration = Duration::from_secs(60);

/// The run of a mutant in this process; beyond the last mutant, the tree as it is. True: it passed.
pub(super) fn run(place: u64, seed: u64, traced: Traced) -> bool {
    let case = CASES[place as usize % CASES.len()];
    if place < CASES.len() as u64 {
        case.planted.plant();
    }
    match hunt(case.hunt, seed, traced) {
        Ok(()) => true,
        Err(violation) => {
            say(&violation.to_string());
            false
        }
    }
}

fn hunt(hunt: Hunt, seed: u64, traced: Traced) -> Result<(), Violation> {
    match hunt {
        Hunt::Seeds => Scenario::from_seed(seed).run(traced).violation.map_or(Ok(()), Err),
        Hunt::Row(row) => row.run(seed, traced).map(drop),
        Hunt::Script(script) => script.run(seed, traced),
    }
}

/// Hunts all mutants and prints the table. True: each was found, and nothing where there is none.
pub(super) fn hunt_all() -> bool {
    say(&format!(
        "{:>3}  {:<24} {:<40} {:>5} {:>8}  found by",
        "no.", "mutant", "must be found in", "seed", "ms"
    ));
    let mut well = true;
    for (place, case) in CASES.iter().enumerate() {
        let started = Instant::now();
        let found = (1..=case.seeds_max).find_map(|seed| how_it_ends(place, seed).map(|how| (seed, how)));
        let took_ms = started.elapsed().as_millis();
        let (seed, how) = match &found {
            Some((seed, how)) => (seed.to_string(), how.as_str()),
            None => ("-".to_string(), "SURVIVES"),
        };
        let name = case.planted.name();
        say(&format!("{:>3}  {name:<24} {:<40} {seed:>5} {took_ms:>8}  {how}", case.number, hunter(case)));
        well &= found.is_some();
        // The same runs without it.
        let last = found.map_or(case.seeds_max, |(seed, _)| seed);
        for seed in 1..=last {
            if let Some(how) = how_it_ends(place + CASES.len(), seed) {
                say(&format!("     without any mutant, seed {seed} fails as well: {how}"));
                well = false;
            }
        }
    }
    well
}

fn hunter(case: &Case) -> String {
    match case.hunt {
        Hunt::Seeds => format!("random runs, {} seeds", case.seeds_max),
        Hunt::Row(row) => format!("{row:?}").chars().take(40).collect(),
        Hunt::Script(script) => format!("{script:?}"),
    }
}

/// How a run fails; none: it passes.
fn how_it_ends(place: usize, seed: u64) -> Option<String> {
    let program = std::env::current_exe().expect("this program has a path");
    let child = Command::new(program)
        .args(["--mutant", &place.to_string(), "--seed", &seed.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program can be started again");
    wait(child)
}

fn wait(mut child: Child) -> Option<String> {
    let started = Instant::now();
    while child.try_wait().expect("a child can be waited for").is_none() {
        if started.elapsed() > RUN_MAX {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
            return Some(format!("it hangs for {} s", RUN_MAX.as_secs()));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("a child's output can be read");
    if output.status.success() {
        return None;
    }
    // What it says is short: far from filling the pipe while it was waited for.
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| !line.is_empty()).unwrap_or("an assertion");
    Some(line.chars().take(100).collect())
}
