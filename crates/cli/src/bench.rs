//! `pontoon bench`: the load generator.
//!
//! ```text
//!   args      what to measure
//!   link      one connection: requests out, replies in, the time of each between them
//!   requests  requests as bytes: drawn from a seed, copied from templates
//!   replies   replies as bytes: where each ends, and whether it is an error
//!   pace      when the next request may start: at once (closed loop), or when its time has come (fixed rate)
//!   load      the loop over all connections, in one thread
//!   tally     what came of it: latencies, errors, seconds, pauses
//!   servers   what the servers say of their own cost
//!   report    all of that as text or JSON
//! ```
//!
//! The generator shares the machine with the servers more often than not, so it is made to cost little: one thread, one `epoll_wait`
//! for many connections, one `read` and one `write` for many requests, and no allocation per request.
//!
//! At a fixed rate, latency is measured from the moment at which the request should have started. A closed loop that waits for a
//! stalled server would ask nothing meanwhile and measure nothing (coordinated omission, as wrk2 calls it).

mod args;
mod link;
mod load;
mod pace;
mod replies;
mod report;
mod requests;
mod servers;
mod tally;

pub use args::{BenchArgs, Op};

use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

use crate::{failure::Failure, output};
use load::Load;
use pace::Pace;
use report::Report;
use requests::Work;
use tally::{Second, Tally};

/// A load of all keys ends by itself; this only bounds it.
const LOADING_MAX: Duration = Duration::from_secs(24 * 3600);
/// A load writes at least so many at once on each connection,
const LOADING_INFLIGHT_MIN: usize = 64;
/// but no more for that than so many bytes on all together: large values need no company, and a slow disk would be late.
const LOADING_BYTES_MAX: u64 = 32 << 20;

/// Loads the servers and tells what they did.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    args.check().map_err(Failure::new)?;
    let show = stderr().is_terminal();
    let mut load = Load::connect(&args)?;
    if args.load {
        let bytes_at_once = args.value_bytes.0.max(1) * args.clients as u64;
        let inflight =
            args.inflight.max(LOADING_INFLIGHT_MIN.min((LOADING_BYTES_MAX / bytes_at_once) as usize));
        let tally = phase(&mut load, Work::EveryKey, inflight, &Pace::closed(LOADING_MAX), show)?;
        if tally.errors_total() > 0 {
            return Err(Failure::new(format_args!("not all keys were written: {}", tally.errors_text())));
        }
    }
    if args.warmup > 0 {
        phase(&mut load, Work::Drawn(args.op), args.inflight, &pace(&args, args.warmup), false)?;
    }
    let before = servers::ask(&args.client);
    let cpu_before = servers::own_cpu();
    let tally = phase(&mut load, Work::Drawn(args.op), args.inflight, &pace(&args, args.seconds), show)?;
    let cpu = servers::own_cpu() - cpu_before;
    let after = servers::ask(&args.client);
    load.close();

    let report = Report::new(&args, &tally, &servers::differences(&args.client, &before, &after), cpu);
    let text = if args.json { report.json() } else { report.text() };
    output::deliver(&[text.as_bytes()])?;
    if tally.operations() > 0 {
        Ok(())
    } else {
        Err(Failure::new(format_args!("no request succeeded: {}", tally.errors_text())))
    }
}

/// Starts the clock of each phase anew.
fn pace(args: &BenchArgs, seconds: u64) -> Pace {
    let length = Duration::from_secs(seconds);
    match args.rate {
        None => Pace::closed(length),
        Some(rate) => Pace::rate(length, rate, args.clients),
    }
}

fn phase(load: &mut Load, work: Work, inflight: usize, pace: &Pace, show: bool) -> Result<Tally, Failure> {
    let mut tally = Tally::new(Instant::now());
    load.run(work, inflight, pace, &mut tally, |number, second| {
        if show {
            output::note(progress(number, second));
        }
    })?;
    Ok(tally)
}

fn progress(number: usize, second: &Second) -> String {
    format!(
        "{number:>5} s  {:>9} /s  p50 {:>9.3} ms  p99 {:>9.3} ms  max {:>9.3} ms  errors {}",
        second.operations,
        second.p50_us as f64 / 1e3,
        second.p99_us as f64 / 1e3,
        second.max_us as f64 / 1e3,
        second.errors
    )
}
