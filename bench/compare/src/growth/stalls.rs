//! A long write run at half the peak rate: its worst pauses, and what the servers did then.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Finding,
    lab::Lab,
    timeline::{Event, Timeline},
};
use crate::{
    document::{Panel, Series, count, ms, plot, table},
    load::{
        Op,
        resp::{Load, Report},
    },
};

/// No request may take longer.
const STALL_MS_MAX: f64 = 250.0;
/// The worst seconds that are told.
const WORST: usize = 10;
/// What happened this shortly before a second belongs to it, too.
const BEFORE: Duration = Duration::from_millis(300);
/// Events told of one second.
const EVENTS_MAX: usize = 6;

/// Runs, and names the worst seconds.
pub fn run(lab: &Lab, seconds: u64) -> Result<Finding> {
    let cluster = lab.cluster(3, &[])?;
    let peak = lab.peak(&cluster)?;
    let rate = (peak / 2.0) as u64;
    let load = lab.load(&cluster, Op::Put)?;
    // Without a warm-up the run starts with its process, but for the time of some connects.
    let load = Load { rate: Some(rate), seconds, warmup: 0, ..load };
    let timeline =
        Timeline::start((0..cluster.pontoon.len()).map(|at| cluster.pontoon.address(at)).collect());
    let start = Instant::now();
    let report = load.run()?;
    let events = timeline.events();

    let worst = report.latency_us.max as f64 / 1e3;
    let verdict = if worst <= STALL_MS_MAX { "met" } else { "**missed**" };
    let longest =
        report.pauses.iter().map(|pause| format!("{:.0} ms at {:.1} s", pause.ms, pause.at_seconds));
    let text = format!(
        "Puts of 256 bytes, 100,000 keys, at {} a second (half the peak of {}), {:.0} s, three servers. Latency counts from the moment a\n\
         request was due. p50 {} ms, p99 {} ms, p99.9 {} ms, longest {worst:.0} ms (at most {STALL_MS_MAX}: {verdict}); {} errors, {}\n\
         requests never started. Longest times without any reply: {}.\n\nThe worst seconds, and what the servers did then:\n\n{}",
        count(Some(rate as f64)),
        count(Some(peak)),
        report.seconds,
        ms(Some(report.latency_us.p50 as f64 / 1e3)),
        ms(Some(report.latency_us.p99 as f64 / 1e3)),
        ms(Some(report.latency_us.p999 as f64 / 1e3)),
        report.errors.values().sum::<u64>(),
        report.unsent,
        longest.collect::<Vec<_>>().join(", "),
        worst_table(&report, start, &events)
    );
    let title = "Pauses in a long run";
    Ok(Finding { name: "stalls", title, text, plot: plot(title, "second", false, &[panel(&report)]) })
}

fn worst_table(report: &Report, start: Instant, events: &[Event]) -> String {
    let mut seconds: Vec<_> = report.per_second.iter().enumerate().collect();
    seconds.sort_by_key(|(_, second)| std::cmp::Reverse(second.max_us));
    seconds.truncate(WORST);
    let row = |(at, second): &(usize, &crate::load::resp::Second)| {
        let from = start + Duration::from_secs(*at as u64);
        let of_it = |event: &&Event| event.at + BEFORE >= from && event.at <= from + Duration::from_secs(1);
        let mut names: Vec<_> = events.iter().filter(of_it).map(|event| event.what.clone()).collect();
        let more = names.len().saturating_sub(EVENTS_MAX);
        names.truncate(EVENTS_MAX);
        if more > 0 {
            names.push(format!("{more} more"));
        }
        vec![
            (at + 1).to_string(),
            ms(Some(second.max_us as f64 / 1e3)),
            ms(Some(second.p99_us as f64 / 1e3)),
            names.join("; "),
        ]
    };
    table(&["second", "longest ms", "p99 ms", "what happened"], &seconds.iter().map(row).collect::<Vec<_>>())
}

fn panel(report: &Report) -> Panel {
    let line = |name: &str, y: &dyn Fn(usize) -> f64| Series {
        name: name.to_string(),
        points: (0..report.per_second.len()).map(|at| (at as f64 + 1.0, y(at))).collect(),
    };
    Panel {
        label: "latency, ms".to_string(),
        series: vec![
            line("p99", &|at| report.per_second[at].p99_us as f64 / 1e3),
            line("longest", &|at| report.per_second[at].max_us as f64 / 1e3),
        ],
    }
}
