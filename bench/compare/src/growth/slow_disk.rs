//! One follower's fsync takes 50 ms longer.

use anyhow::{Result, bail};

use super::{
    Finding,
    lab::{Cluster, Lab},
};
use crate::{
    compare::median,
    document::{Panel, Series, count, ms, plot, say, table},
    load::{
        Op,
        resp::{Load, Report},
    },
    systems::{Pontoon, wait_for},
};

const DELAY_MS: &str = "50";
/// Throughput with the slow disk must be at least this much of that without.
const RATIO_MIN: f64 = 0.9;

/// Alternating rounds with and without the fault; the follower is started anew in between.
pub fn run(lab: &Lab, rounds: u32) -> Result<Finding> {
    let mut cluster = lab.cluster(3, &[])?;
    let follower = (cluster.pontoon.leader()? + 1) % cluster.pontoon.len();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for slow in [false, true] {
            restart(&mut cluster.pontoon, follower, slow)?;
            let report = measure(lab, &cluster, follower)?;
            say(format_args!("round {round}, slow disk {slow}: {:.0} puts/s", report.operations_per_second));
            let reports = if slow { &mut with } else { &mut without };
            reports.push(report);
        }
    }
    let throughput = |reports: &[Report]| median(reports.iter().map(|report| report.operations_per_second));
    let p99 = |reports: &[Report]| median(reports.iter().map(|report| report.latency_us.p99 as f64 / 1e3));
    let rows = [("none", &without), ("50 ms on one follower", &with)]
        .map(|(name, reports)| vec![name.to_string(), count(throughput(reports)), ms(p99(reports))]);
    let ratio = throughput(&with).zip(throughput(&without)).map_or(0.0, |(with, without)| with / without);
    let verdict = if ratio >= RATIO_MIN { "met" } else { "**missed**" };
    let text = format!(
        "Puts of 256 bytes, 100,000 keys, 16 x 64 in flight, through the leader and the other follower; medians of {rounds} rounds each,\n\
         alternately. Throughput with the slow disk is {ratio:.2} of that without (at least {RATIO_MIN}: {verdict}).\n\n{}",
        table(&["fsync delay", "put /s", "p99 ms"], &rows)
    );
    let line = |name: &str, reports: &[Report]| Series {
        name: name.to_string(),
        points: reports
            .iter()
            .zip(1..)
            .map(|(report, round)| (f64::from(round), report.operations_per_second))
            .collect(),
    };
    let panel = Panel {
        label: "puts per second".to_string(),
        series: vec![line("no delay", &without), line("one slow disk", &with)],
    };
    let title = "A slow disk on one follower";
    Ok(Finding { name: "slow-disk", title, text, plot: plot(title, "round", false, &[panel]) })
}

/// Starts the follower anew, with or without the fault; waits until it has caught up.
fn restart(pontoon: &mut Pontoon, follower: usize, slow: bool) -> Result<()> {
    pontoon.kill(follower);
    pontoon.set_flags(follower, &["--fault-fsync-delay-ms", if slow { DELAY_MS } else { "0" }]);
    pontoon.start_server(follower)?;
    let leader = pontoon.leader()?;
    if leader == follower {
        bail!("server {} came to lead, and a slow leader is another experiment: run it again", leader + 1);
    }
    wait_for("the follower to catch up", || {
        let committed = pontoon.figure(leader, "raft_commit_index").ok()?;
        (pontoon.figure(follower, "raft_applied_index").ok()? >= committed).then_some(())
    })
}

fn measure(lab: &Lab, cluster: &Cluster, slow: usize) -> Result<Report> {
    let load = lab.load(cluster, Op::Put)?;
    let away = cluster.pontoon.address(slow);
    let servers = load.servers.iter().filter(|server| **server != away).cloned().collect();
    Load { servers, ..load }.run()
}
