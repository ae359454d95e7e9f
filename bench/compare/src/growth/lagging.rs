//! A follower that was down so long that it needs a snapshot of a state of a gigabyte catches up while the cluster is loaded at half its
//! peak rate.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    Finding,
    lab::{Cluster, Lab},
};
use crate::{
    document::{Panel, Series, count, ms, plot, say, table},
    load::{
        Op,
        resp::{Load, Report},
    },
};

/// Some 1.1 GB of state.
const KEYS: u64 = 4_000_000;
/// So long that the follower finds the log trimmed.
const AWAY_SECONDS: u64 = 30;
/// Time to catch up.
const BACK_SECONDS: u64 = 60;
/// A follower this close behind the leader has caught up, in log entries.
const CLOSE_ENTRIES: u64 = 64;

/// All up; one down; that one back.
pub fn run(lab: &Lab) -> Result<Finding> {
    let mut cluster = lab.cluster(3, &[])?;
    let rate = (lab.peak_of(load(lab, &cluster)?)? / 2.0) as u64;
    let follower = (cluster.pontoon.leader()? + 1) % cluster.pontoon.len();
    let mut phases = vec![("all three up", steady(lab, &cluster, follower, rate, lab.seconds())?)];

    let had = cluster.pontoon.figure(follower, "raft_last_index")?;
    let state_bytes = cluster.pontoon.figure(follower, "raft_state_bytes")?;
    cluster.pontoon.kill(follower);
    phases.push(("one follower down", steady(lab, &cluster, follower, rate, AWAY_SECONDS)?));
    let missed = cluster.pontoon.figure(cluster.pontoon.leader()?, "raft_last_index")?;
    let trimmed = cluster.pontoon.figure(cluster.pontoon.leader()?, "raft_trimmed_index")?;

    ensure!(had < trimmed, "the log reaches back to what the follower has: it was not away for long enough");
    cluster.pontoon.start_server(follower)?;
    let (report, took) = caught_up_meanwhile(lab, &cluster, follower, rate)?;
    phases.push(("it is back and catches up", report));
    let took = took.map_or("did not catch up within the run".to_string(), |took| {
        format!(
            "had caught up (at most {CLOSE_ENTRIES} entries behind) {:.1} s after its start",
            took.as_secs_f64()
        )
    });
    say(format_args!("the follower {took}"));
    let text = format!(
        "Puts of 256 bytes over {} keys ({:.1} GB of state) at {} a second (half the peak), 16 x 64 at most in flight, through the two\n\
         other servers. When the follower came back, it had the entries up to {had}, and the others only those from {trimmed} to\n\
         {missed}, so it needed a snapshot. It {took}.\n\n{}",
        count(Some(KEYS as f64)),
        state_bytes as f64 / 1e9,
        count(Some(rate as f64)),
        phase_table(&phases)
    );
    let title = "A lagging follower catches up";
    Ok(Finding { name: "lagging", title, text, plot: plot(title, "second", false, &panels(&phases)) })
}

fn load(lab: &Lab, cluster: &Cluster) -> Result<Load> {
    Ok(Load { keys: KEYS, ..lab.load(cluster, Op::Put)? })
}

/// Loads all servers but the one that will be away.
fn steady(lab: &Lab, cluster: &Cluster, without: usize, rate: u64, seconds: u64) -> Result<Report> {
    let load = load(lab, cluster)?;
    let away = cluster.pontoon.address(without);
    let servers = load.servers.iter().filter(|server| **server != away).cloned().collect();
    Load { servers, rate: Some(rate), seconds, ..load }.run()
}

/// The same, while somebody looks how far the follower is; and when it was close.
fn caught_up_meanwhile(
    lab: &Lab,
    cluster: &Cluster,
    follower: usize,
    rate: u64,
) -> Result<(Report, Option<Duration>)> {
    let start = Instant::now();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if is_close(cluster, follower).unwrap_or(false) {
                    return Some(start.elapsed());
                }
                thread::sleep(Duration::from_millis(20));
            }
            None
        });
        let report = steady(lab, cluster, follower, rate, BACK_SECONDS);
        over.store(true, Ordering::Relaxed);
        let took = watcher.join().expect("it does not panic");
        Ok((report?, took))
    })
}

fn is_close(cluster: &Cluster, follower: usize) -> Result<bool> {
    let leader = cluster.pontoon.leader()?;
    let committed = cluster.pontoon.figure(leader, "raft_commit_index")?;
    let applied = cluster.pontoon.figure(follower, "raft_applied_index").context("it starts")?;
    Ok(applied + CLOSE_ENTRIES >= committed)
}

fn phase_table(phases: &[(&str, Report)]) -> String {
    let row = |(name, report): &(&str, Report)| {
        vec![
            name.to_string(),
            count(Some(report.operations_per_second)),
            ms(Some(report.latency_us.p50 as f64 / 1e3)),
            ms(Some(report.latency_us.p99 as f64 / 1e3)),
            ms(Some(report.latency_us.max as f64 / 1e3)),
            report.unsent.to_string(),
            report.errors.values().sum::<u64>().to_string(),
        ]
    };
    let header = ["phase", "put /s", "p50 ms", "p99 ms", "max ms", "never started", "errors"];
    table(&header, &phases.iter().map(row).collect::<Vec<_>>())
}

/// The phases one after the other.
fn panels(phases: &[(&str, Report)]) -> [Panel; 2] {
    let seconds: Vec<_> = phases.iter().flat_map(|(_, report)| &report.per_second).collect();
    let line = |name: &str, y: &dyn Fn(usize) -> f64| Series {
        name: name.to_string(),
        points: (0..seconds.len()).map(|at| (at as f64 + 1.0, y(at))).collect(),
    };
    [
        Panel {
            label: "puts per second".to_string(),
            series: vec![line("put", &|at| seconds[at].operations as f64)],
        },
        Panel {
            label: "latency, ms".to_string(),
            series: vec![
                line("p99", &|at| seconds[at].p99_us as f64 / 1e3),
                line("max", &|at| seconds[at].max_us as f64 / 1e3),
            ],
        },
    ]
}
