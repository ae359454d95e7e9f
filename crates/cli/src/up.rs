//! `pontoon up`: a cluster on this machine.
//!
//! ```text
//!   plan     what runs where: addresses, files, command lines
//!   folder   what a cluster's folder remembers: its size, its secret, who uses it
//!   fleet    the child processes: started, reaped, started again, stopped
//!   watch    the servers' figures, asked for all the time by a thread each
//!   report   what of all this a person is told, and when
//! ```

mod fleet;
mod folder;
mod plan;
mod report;
mod watch;

use std::time::{Duration, Instant};

use crossbeam_channel::select;

use crate::{args::UpArgs, failure::Failure, output, signals};
use fleet::Fleet;
use folder::Folder;
use plan::Plan;
use report::Report;

/// How often the child processes are looked after.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a cluster until it is asked to stop, or none of it is left.
pub fn run(args: UpArgs) -> Result<(), Failure> {
    let signals = signals::listen()?;
    let plan = Plan::new(&args).map_err(Failure::new)?;
    plan.check_ports().map_err(Failure::new)?;
    let folder = Folder::open(&args.dir, args.nodes).map_err(Failure::new)?;

    let mut fleet = Fleet::start(&plan, &folder, !args.no_restart).map_err(Failure::new)?;
    let observations = watch::start(&plan).map_err(Failure::new)?;
    let mut report = Report::new(&plan, Instant::now());
    output::say(format_args!("starting {} in {}", servers(args.nodes), args.dir.display()));
    let end = loop {
        select! {
            recv(signals) -> _ => break Ok(()),
            recv(observations) -> seen => {
                let (node, info) = seen.expect("watchers live as long as their receiver");
                // What was seen of a process that has ended since is no news.
                let info = info.filter(|_| fleet.is_running(node));
                if info.is_some() {
                    fleet.answered(node);
                }
                report.observe(node, info);
            }
            default(POLL_INTERVAL) => {}
        }
        for event in fleet.poll(Instant::now()) {
            report.event(&event);
        }
        report.tick(Instant::now(), &fleet);
        if let Some(why) = report.hopeless(&fleet) {
            break Err(Failure::new(why));
        }
    };
    if end.is_ok() {
        output::say(format_args!("stopping {}", servers(args.nodes)));
    }
    for node in fleet.stop() {
        output::say(format_args!("server {node} did not stop by itself and was killed"));
    }
    if end.is_ok() {
        output::say("stopped; `pontoon up` in the same folder goes on from here");
    }
    end
}

fn servers(count: u16) -> String {
    if count == 1 { "1 server".to_string() } else { format!("{count} servers") }
}
