//! `pontoon-sim lab`: the classic suite, in the form of the original.

use std::time::Instant;

use pontoon_sim::{
    lab::{NamedRow, all_rows},
    processes::{Form, LabRow, binary},
    time::SECOND,
    world::Traced,
};

use super::{Arguments, name_run_on_panic, say};

/// Runs rows against real servers. True: all passed.
pub(super) fn against_processes(arguments: &Arguments) -> bool {
    let binary = match arguments.pontoon.clone().map_or_else(binary::find, Ok) {
        Ok(binary) => binary,
        Err(what) => {
            say(&what);
            return false;
        }
    };
    let form = Form { binary, seed: arguments.seed.unwrap_or(1), quick: arguments.quick };
    let rows: Vec<LabRow> =
        LabRow::all().into_iter().filter(|row| is_asked_for(arguments, &row.name())).collect();
    if rows.is_empty() {
        return no_such_row(LabRow::all().into_iter().map(LabRow::name));
    }
    let runtime = tokio::runtime::Runtime::new().expect("this process can have threads");
    let interrupted = async {
        // An error means that there are no signals: then nobody interrupts.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    runtime.block_on(async {
        tokio::select! {
            passed = run(&rows, &form) => passed,
            // What runs is dropped, and its servers and files with it.
            () = interrupted => {
                say("interrupted");
                false
            }
        }
    })
}

async fn run(rows: &[LabRow], form: &Form) -> bool {
    let started = Instant::now();
    let (mut failed, mut operations) = (Vec::new(), 0);
    for row in rows {
        say(&format!("Test: {} ({}) ...", row.title(), row.name()));
        match row.run(form).await {
            Ok(done) => {
                operations += done.tally.operations();
                say(&format!("  ... Passed -- {done}"));
            }
            Err(what) => {
                say(&format!("  ... FAILED -- {what}"));
                failed.push(row.name());
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let passed = rows.len() - failed.len();
    say(&format!("{passed} of {} rows passed -- {seconds:.1} s, {operations} operations", rows.len()));
    if !failed.is_empty() {
        say(&format!("FAILED: {}", failed.join(", ")));
    }
    failed.is_empty()
}

/// Runs rows in the simulator, each on some seeds. True: all passed.
pub(super) fn simulated(arguments: &Arguments, traced: Traced) -> bool {
    let (from, seeds) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from.unwrap_or(1), arguments.seeds.unwrap_or(1)),
    };
    let (asked_for, others): (Vec<_>, Vec<_>) =
        all_rows().into_iter().partition(|row| is_asked_for(arguments, &row.name));
    if asked_for.is_empty() {
        return no_such_row(others.into_iter().map(|row| row.name));
    }
    let mut failed = 0;
    for NamedRow { name, run } in asked_for {
        say(&format!("Test: {name} ..."));
        for seed in from..from + seeds {
            let replay = format!(
                "cargo run --release -p pontoon-sim -- lab --simulated --row {name} --seed {seed} --trace"
            );
            name_run_on_panic(replay.clone());
            let started = Instant::now();
            match run(seed, traced) {
                Ok(done) => {
                    let (virtual_s, operations) = (done.took_us / SECOND, done.operations);
                    let took_ms = started.elapsed().as_millis();
                    say(&format!(
                        "  ... Passed  seed {seed}, {virtual_s} s virtual, {took_ms} ms, {operations} operations"
                    ));
                }
                Err(violation) => {
                    failed += 1;
                    say(&format!("  ... FAILED  seed {seed}: {violation}\n  replay: {replay}"));
                }
            }
        }
    }
    failed == 0
}

fn is_asked_for(arguments: &Arguments, name: &str) -> bool {
    arguments.row.as_ref().is_none_or(|asked| asked == name)
}

fn no_such_row(names: impl Iterator<Item = String>) -> bool {
    say(&format!("there is no such row; there are: {}", names.collect::<Vec<_>>().join(", ")));
    false
}
