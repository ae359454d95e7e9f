//! The log trimmed rarely, often, never.

use anyhow::Result;

use super::{Finding, lab::Lab};
use crate::{
    document::{Panel, Series, count, ms, plot, table},
    load::Op,
};

/// The longer the run, the more often the log is trimmed.
const RUN_FACTOR: u64 = 3;

/// Puts, second by second, with each bound of the log.
pub fn run(lab: &Lab) -> Result<Finding> {
    let mut rows = Vec::new();
    let (mut throughput, mut latency) = (Vec::new(), Vec::new());
    for (name, bound) in
        [("128 MiB (default)", "128MiB"), ("64 MiB", "64MiB"), ("8 MiB", "8MiB"), ("never", "-1")]
    {
        let cluster = lab.cluster(3, &["--snapshot-log-bytes", bound])?;
        let mut load = lab.load(&cluster, Op::Put)?;
        load.seconds = RUN_FACTOR * lab.seconds();
        let report = load.run()?;
        let trimmed = cluster.pontoon.figure(0, "raft_trimmed_index")?;
        rows.push(vec![
            name.to_string(),
            count(Some(report.operations_per_second)),
            ms(Some(report.latency_us.p99 as f64 / 1e3)),
            ms(Some(report.latency_us.p999 as f64 / 1e3)),
            ms(Some(report.latency_us.max as f64 / 1e3)),
            count(report.written_bytes_per_operation),
            count(Some(cluster.pontoon.figure(0, "raft_log_bytes")? as f64 / f64::from(1 << 20))),
            if trimmed > 0 { "yes" } else { "no" }.to_string(),
        ]);
        let line = |y: &dyn Fn(usize) -> f64| Series {
            name: name.to_string(),
            points: (0..report.per_second.len()).map(|at| (at as f64 + 1.0, y(at))).collect(),
        };
        throughput.push(line(&|at| report.per_second[at].operations as f64));
        latency.push(line(&|at| report.per_second[at].p99_us as f64 / 1e3));
    }
    let header = [
        "log trimmed at",
        "put /s",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "bytes written per put, all servers",
        "log at the end, MiB",
        "trimmed",
    ];
    let panels = [
        Panel { label: "puts per second".to_string(), series: throughput },
        Panel { label: "p99, ms".to_string(), series: latency },
    ];
    let title = "Log trimming";
    let text = "Puts of 256 bytes, 100,000 keys, 16 x 64 in flight, three servers; a cluster of its own for each row.";
    Ok(Finding {
        name: "trimming",
        title,
        text: format!("{text}\n\n{}", table(&header, &rows)),
        plot: plot(title, "second", false, &panels),
    })
}
