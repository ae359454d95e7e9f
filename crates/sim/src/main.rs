//! `pontoon-sim`: runs seeds, replays one of them, and runs the lab suite.

mod lab_command;
#[cfg(feature = "mutants")]
mod mutants_command;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use pontoon_sim::{
    scenario::{Report, Scenario},
    shrink::shrink,
    time::SECOND,
    world::{Counts, FaultKind, Traced},
};

const USAGE: &str = "pontoon-sim --seeds N [--from S]     run N seeds from S on (default: from 1)
pontoon-sim --seed S [--trace]       run one seed, and say what happens line by line
            [--faults KIND,... | none] [--clients SESSIONS,PLAIN] [--for-us N]    with less in it
pontoon-sim lab [--row ROW] [--quick]             run the classic suite's rows against real servers
            [--seed S] [--pontoon PATH]           with this seed; with this binary
pontoon-sim lab --simulated [--row ROW]           run them in the simulator, each on N seeds (default: 1)
            [--seeds N] [--from S]
            [--seed S] [--trace]                  one of them, and say what happens line by line";

#[derive(Default)]
struct Arguments {
    seeds: Option<u64>,
    from: Option<u64>,
    seed: Option<u64>,
    trace: bool,
    lab: bool,
    simulated: bool,
    quick: bool,
    row: Option<String>,
    pontoon: Option<PathBuf>,
    faults: Option<String>,
    clients: Option<String>,
    for_us: Option<u64>,
    #[cfg(feature = "mutants")]
    mutants: bool,
    /// The place of a mutant to plant.
    #[cfg(feature = "mutants")]
    mutant: Option<u64>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut number = || {
            let text = given.next().ok_or_else(|| format!("{name} wants a number"))?;
            text.parse::<u64>().map_err(|error| format!("{name} {text}: {error}"))
        };
        match name.as_str() {
            "lab" => arguments.lab = true,
            "--simulated" => arguments.simulated = true,
            "--quick" => arguments.quick = true,
            "--row" => arguments.row = given.next(),
            "--pontoon" => arguments.pontoon = given.next().map(PathBuf::from),
            "--faults" => arguments.faults = given.next(),
            "--clients" => arguments.clients = given.next(),
            "--for-us" => arguments.for_us = Some(number()?),
            "--seeds" => arguments.seeds = Some(number()?),
            "--from" => arguments.from = Some(number()?),
            "--seed" => arguments.seed = Some(number()?),
            #[cfg(feature = "mutants")]
            "mutants" => arguments.mutants = true,
            #[cfg(feature = "mutants")]
            "--mutant" => arguments.mutant = Some(number()?),
            "--trace" => arguments.trace = true,
            other => return Err(format!("{other} is not known\n{USAGE}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(what) => {
            say(&what);
            return ExitCode::from(2);
        }
    };
    let traced = if arguments.trace { Traced::Printed } else { Traced::No };
    #[cfg(feature = "mutants")]
    if arguments.mutants {
        return if mutants_command::hunt_all() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    #[cfg(feature = "mutants")]
    if let (Some(place), Some(seed)) = (arguments.mutant, arguments.seed) {
        return if mutants_command::run(place, seed, traced) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let done = match (arguments.seed, arguments.seeds) {
        _ if arguments.lab && !arguments.simulated => lab_command::against_processes(&arguments),
        _ if arguments.lab => lab_command::simulated(&arguments, traced),
        (Some(seed), None) => match scenario(seed, &arguments) {
            Ok(scenario) => run_one(seed, &scenario, traced),
            Err(what) => {
                say(&what);
                false
            }
        },
        (None, Some(seeds)) => run_many(arguments.from.unwrap_or(1), seeds),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(what: &str) {
    // Whoever closed the pipe wants no more of it.
    let _ = writeln!(std::io::stdout(), "{what}");
}

/// A panic is a failure like any other: it says how to see it again, too.
fn name_run_on_panic(replay: String) {
    std::panic::set_hook(Box::new(move |panic| {
        let _ = writeln!(std::io::stderr(), "FAILED: {panic}\n  replay: {replay}");
    }));
}

fn replay(seed: u64) -> String {
    format!("cargo run --release -p pontoon-sim -- --seed {seed} --trace")
}

/// The scenario of a seed, with what the command line leaves of it.
fn scenario(seed: u64, arguments: &Arguments) -> Result<Scenario, String> {
    let mut scenario = Scenario::from_seed(seed);
    if let Some(names) = &arguments.faults {
        let kind = |name| FaultKind::ALL.into_iter().find(|kind| kind.name() == name);
        let named = names.split(',').filter(|name| *name != "none");
        let kinds = named.map(|name| kind(name).ok_or_else(|| format!("{name} is no kind of fault")));
        scenario.faults.kinds = kinds.collect::<Result<_, _>>()?;
    }
    if let Some(clients) = &arguments.clients {
        let counts = clients
            .split_once(',')
            .and_then(|(sessions, plain)| Some((sessions.parse().ok()?, plain.parse().ok()?)));
        scenario.clients =
            counts.ok_or_else(|| format!("--clients {clients}: two numbers are wanted, as in 2,1"))?;
    }
    if let Some(for_us) = arguments.for_us {
        scenario.faults_for_us = for_us;
    }
    Ok(scenario)
}

/// The command that replays what is left of a seed's scenario.
fn replay_shrunk(seed: u64, scenario: &Scenario) -> String {
    let names: Vec<&str> = scenario.faults.kinds.iter().map(|kind| kind.name()).collect();
    let names = if names.is_empty() { "none".to_string() } else { names.join(",") };
    let Scenario { clients: (sessions, plain), faults_for_us, .. } = scenario;
    format!("{} --faults {names} --clients {sessions},{plain} --for-us {faults_for_us}", replay(seed))
}

fn run_one(seed: u64, scenario: &Scenario, traced: Traced) -> bool {
    name_run_on_panic(replay_shrunk(seed, scenario));
    say(&format!("{scenario:#?}"));
    let report = scenario.run(traced);
    say(&format!("{:#?}", report.counts));
    match report.violation {
        None => say(&format!("seed {seed} passed")),
        Some(ref violation) => say(&format!("seed {seed} FAILED: {violation}")),
    }
    report.violation.is_none()
}

fn run_many(from: u64, seeds: u64) -> bool {
    let started = Instant::now();
    let mut total = Total::default();
    let mut failed = Vec::new();
    for seed in from..from + seeds {
        name_run_on_panic(replay(seed));
        // Where panics unwind; in the release profile they end the run, and have named the seed.
        let run = std::panic::catch_unwind(|| Scenario::from_seed(seed).run(Traced::No));
        let Ok(report) = run else {
            failed.push(seed);
            continue;
        };
        if let Some(violation) = &report.violation {
            say(&format!("\rseed {seed} FAILED: {violation}\n  replay: {}", replay(seed)));
            let shrunk =
                shrink(&Scenario::from_seed(seed), |scenario| scenario.run(Traced::No).violation.is_some());
            say(&format!("  shrunk: {}", replay_shrunk(seed, &shrunk)));
            failed.push(seed);
        }
        total.add(&report);
        if std::io::stdout().is_terminal() {
            let done = seed - from + 1;
            let bar = "#".repeat((done * 40 / seeds) as usize);
            let _ = write!(std::io::stdout(), "\r[{bar:<40}] {done}/{seeds}, {} failed", failed.len());
            let _ = std::io::stdout().flush();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    say(&format!("\n{}", total.table(seeds, seconds, &failed)));
    failed.is_empty()
}

#[derive(Default)]
struct Total {
    counts: Counts,
    virtual_us: u64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        let (sum, run) = (&mut self.counts, &report.counts);
        sum.events += run.events;
        sum.operations += run.operations;
        sum.unknown += run.unknown;
        sum.messages += run.messages;
        sum.elections += run.elections;
        sum.snapshots += run.snapshots;
        sum.log_reads += run.log_reads;
        sum.fail_stops += run.fail_stops;
        sum.refused_starts += run.refused_starts;
        for (kind, times) in &run.faults {
            *sum.faults.entry(kind).or_default() += times;
        }
        self.virtual_us += report.took_us;
    }

    fn table(&self, seeds: u64, seconds: f64, failed: &[u64]) -> String {
        let counts = &self.counts;
        let mut rows = vec![
            ("runs", seeds.to_string()),
            ("failed", format!("{} {failed:?}", failed.len())),
            ("virtual time", format!("{} s", self.virtual_us / SECOND)),
            ("wall-clock time", format!("{seconds:.1} s")),
            ("operations", counts.operations.to_string()),
            ("  with an unknown outcome", counts.unknown.to_string()),
            ("  per minute of wall-clock", format!("{:.0}", counts.operations as f64 / seconds * 60.0)),
            ("messages", counts.messages.to_string()),
            ("events", counts.events.to_string()),
            ("elections", counts.elections.to_string()),
            ("snapshots installed", counts.snapshots.to_string()),
            ("reads of the log's older part", counts.log_reads.to_string()),
            ("servers stopped by their disk", counts.fail_stops.to_string()),
            ("starts refused on damage", counts.refused_starts.to_string()),
        ];
        rows.extend(counts.faults.iter().map(|(kind, times)| (*kind, times.to_string())));
        rows.iter().map(|(name, value)| format!("{name:<32} {value}\n")).collect()
    }
}
