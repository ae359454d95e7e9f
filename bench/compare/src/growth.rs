//! How throughput and latency change with keys, sizes, requests in flight, servers, faults and time.
//!
//! Each experiment starts clusters of its own and yields a table and a plot: bench/growth/NAME.md and NAME.svg.

mod lab;
mod lagging;
mod slow_disk;
mod stalls;
mod sweep;
mod timeline;
mod trimming;

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    args::{GrowthArgs, RunArgs},
    document,
};
use lab::Lab;

/// One table and one plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// Against the number of keys, 10 thousand to 10 million
    Keys,
    /// Against the value's size, 16 B to 1 MiB
    Values,
    /// Against the requests in flight, 1 to 4096
    Inflight,
    /// Against the number of servers: 1, 3, 5
    Servers,
    /// The log trimmed rarely, often, never
    Trimming,
    /// A follower that was down catches up under load
    Lagging,
    /// One follower's fsync takes 50 ms longer
    SlowDisk,
    /// A long write run at half the peak rate: the worst pauses, by name
    Stalls,
}

/// What an experiment found.
#[derive(Debug)]
pub struct Finding {
    pub name: &'static str,
    pub title: &'static str,
    /// Markdown: what was done, the table, what it shows.
    pub text: String,
    /// SVG.
    pub plot: String,
}

/// Runs the experiments, prints their tables and writes them to bench/growth/.
pub fn run(run: &RunArgs, args: &GrowthArgs) -> Result<()> {
    let lab = Lab::new(run, args)?;
    let chosen = if args.only.is_empty() { Experiment::value_variants() } else { &args.only[..] };
    for experiment in chosen {
        let finding = match experiment {
            Experiment::Keys => sweep::keys(&lab, args.keys_max)?,
            Experiment::Values => sweep::values(&lab)?,
            Experiment::Inflight => sweep::inflight(&lab)?,
            Experiment::Servers => sweep::servers(&lab)?,
            Experiment::Trimming => trimming::run(&lab)?,
            Experiment::Lagging => lagging::run(&lab)?,
            Experiment::SlowDisk => slow_disk::run(&lab, args.rounds)?,
            Experiment::Stalls => stalls::run(&lab, args.stall_seconds)?,
        };
        let Finding { name, title, text, plot } = finding;
        let text = format!("# {title}\n\n{text}\n![{title}]({name}.svg)\n\n{}", lab.machine());
        document::say(&text);
        if !run.no_write {
            document::write(&format!("growth/{name}.md"), &text)?;
            document::write(&format!("growth/{name}.svg"), &plot)?;
        }
    }
    Ok(())
}
