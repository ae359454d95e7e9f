//! A follower that was down catches up while the cluster is loaded at half its peak rate.

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

/// So small that the follower finds the log trimmed and needs a snapshot.
const LOG_BOUND: &str = "8MiB";
/// A follower this close behind the leader has caught up, in log entries.
const CLOSE_ENTRIES: u64 = 64;

/// All up; one down; that one back.
pub fn run(lab: &Lab) -> Result<Finding> {
    let mut cluster = lab.cluster(3, &["--snapshot-log-bytes", LOG_BOUND])?;
    let rate = (lab.peak(&cluster)? / 2.0) as u64;
    let follower = (cluster.pontoon.leader()? + 1) % cluster.pontoon.len();
    let mut phases = vec![("all three up", steady(lab, &cluster, follower, rate)?)];

    let had = cluster.pontoon.figure(follower, "raft_last_index")?;
    cluster.pontoon.kill(follower);
    phases.push(("one follower down", steady(lab, &cluster, follower, rate)?));
    let missed = cluster.pontoon.figure(cluster.pontoon.leader()?, "raft_last_index")?;
    let trimmed = cluster.pontoon.figure(cluster.pontoon.leader()?, "raft_trimmed_index")?;

    ensure!(had < trimmed, "the log reaches back to what the follower has: give more --seconds");
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
        "Puts of 256 bytes at {} a second (half the peak), 16 x 64 at most in flight, through the two other servers. The log is\n\
         trimmed at {LOG_BOUND}: when the follower came back, it had the entries up to {had}, and the others only those from\n\
         {trimmed} to {missed}, so it needed a snapshot. It {took}.\n\n{}",
        count(Some(rate as f64)),
        phase_table(&phases)
    );
    let title = "A lagging follower catches up";
    Ok(Finding { name: "lagging", title, text, plot: plot(title, "second", false, &panels(&phases)) })
}

/// Loads all servers but the one that will be away.
fn steady(lab: &Lab, cluster: &Cluster, without: usize, rate: u64) -> Result<Report> {
    let load = lab.load(cluster, Op::Put)?;
    let away = cluster.pontoon.address(without);
    let servers = load.servers.iter().filter(|server| **server != away).cloned().collect();
    Load { servers, rate: Some(rate), ..load }.run()
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
        let report = steady(lab, cluster, follower, rate);
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
