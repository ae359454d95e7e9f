//! Where a put's processor time goes, on the leader and on a follower: a profile by perf, each sample attributed to one stage.

mod stage;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    args::{RunArgs, StagesArgs},
    document::{self, Place},
    load::{Op, resp::Load},
    machine::Machine,
    systems::{Pontoon, command},
};
use stage::Stage;

/// Seconds of the same load before it is profiled.
const WARMUP_SECONDS: u64 = 2;
/// Samples per second of a thread's processor time; not 1000, which would keep step with timers.
const SAMPLES_PER_SECOND: &str = "999";
/// Of each sample's stack so many bytes are kept to be unwound: the binary has no frame pointers. What is cut off are callers, which
/// matter only where no callee has a stage.
const CALL_GRAPH: &str = "dwarf,4096";

/// A server's samples by stage, and its processor time per operation.
struct Server {
    samples: BTreeMap<Stage, u64>,
    cpu_us: f64,
}

/// Profiles, prints, and writes bench/README.md's table.
pub fn run(run: &RunArgs, args: &StagesArgs) -> Result<()> {
    let place = Place::new(run)?;
    let machine = Machine::look(place.dir())?;
    let cluster = Pontoon::start(place.pontoon(), place.dir(), 3, &[])?;
    let leader = cluster.leader()?;
    let servers = [leader, (leader + 1) % cluster.len()];
    let pids = servers.map(|at| cluster.processes()[at].pid());
    let load = Load {
        pontoon: place.pontoon().to_path_buf(),
        servers: vec![cluster.address(leader)],
        op: Op::Put,
        connections: 16,
        inflight: 64,
        keys: 100_000,
        value_bytes: 256,
        seconds: args.seconds,
        warmup: 0,
        sessions: false,
        rate: None,
        load_first: false,
    };
    Load { load_first: true, seconds: WARMUP_SECONDS, ..load.clone() }.run()?;

    let data = place.dir().join("perf.data");
    let cpu_seconds =
        || -> Result<Vec<f64>> { servers.iter().map(|at| cpu_seconds(&cluster, *at)).collect() };
    let before = cpu_seconds()?;
    let recording = record(pids, args.seconds, &data)?;
    let report = load.run()?;
    succeed(recording.wait_with_output())?;
    let after = cpu_seconds()?;
    ensure!(cluster.leader()? == leader, "the leader changed meanwhile: try again");

    let samples = samples(&data)?;
    let profile = |at: usize| Server {
        samples: samples.get(&pids[at]).cloned().unwrap_or_default(),
        cpu_us: (after[at] - before[at]) * 1e6 / report.operations.max(1) as f64,
    };
    let [leader, follower] = [profile(0), profile(1)];
    let text = format!(
        "{}\n16 x 64 puts of 256 bytes over 100000 keys through the leader for {} s, under the profiler: {} a second; {} samples of the\n\
         leader, {} of the follower.\n\n{}\n{}",
        machine.text(),
        args.seconds,
        document::count(Some(report.operations_per_second)),
        leader.all(),
        follower.all(),
        table(&leader, &follower),
        method()
    );
    document::say(format_args!("\n{text}"));
    if !run.no_write {
        document::replace_block("README.md", "stages", &text)?;
    }
    Ok(())
}

/// Processor time that a server has taken so far, by its own word.
fn cpu_seconds(cluster: &Pontoon, at: usize) -> Result<f64> {
    let figures = cluster.figures(at).with_context(|| format!("server {} is not reached", at + 1))?;
    let seconds = |name| figures.get(name).and_then(|text| text.parse::<f64>().ok());
    seconds("used_cpu_sys").zip(seconds("used_cpu_user")).map(|(sys, user)| sys + user).context("no used_cpu")
}

fn record(pids: [u32; 2], seconds: u64, data: &Path) -> Result<Child> {
    let mut record = command("perf");
    record.args(["record", "--quiet", "-F", SAMPLES_PER_SECOND, "--call-graph", CALL_GRAPH]);
    record.args(["-p", &pids.map(|pid| pid.to_string()).join(","), "-o"]).arg(data);
    record.args(["--", "sleep", &seconds.to_string()]);
    let child = record.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    child.map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("there is no perf: install Debian's package linux-perf"),
        _ => anyhow::Error::new(error).context("cannot run perf"),
    })
}

/// Of each process, how many samples fell to each stage.
fn samples(data: &Path) -> Result<BTreeMap<u32, BTreeMap<Stage, u64>>> {
    // Inlined functions would take an addr2line per frame.
    let mut script = Command::new("perf");
    script.args(["script", "--no-inline", "-F", "comm,pid,ip,sym", "-i"]).arg(data);
    let text = succeed(script.output())?;
    let mut samples = BTreeMap::<u32, BTreeMap<Stage, u64>>::new();
    for sample in String::from_utf8_lossy(&text).split("\n\n").filter(|sample| !sample.trim().is_empty()) {
        let (pid, stage) = stage::attribute(sample).with_context(|| format!("what perf said: {sample}"))?;
        *samples.entry(pid).or_default().entry(stage).or_default() += 1;
    }
    Ok(samples)
}

/// What it printed, if it went well.
fn succeed(output: io::Result<Output>) -> Result<Vec<u8>> {
    let output = output.context("cannot run perf")?;
    if !output.status.success() {
        bail!("perf: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

fn table(leader: &Server, follower: &Server) -> String {
    let row = |name: &str, count: &dyn Fn(&Server) -> u64| {
        let cells = |server: &Server| {
            let share = count(server) as f64 / server.all().max(1) as f64;
            [format!("{:.2}", share * server.cpu_us), format!("{:.1}", share * 100.0)]
        };
        [vec![name.to_string()], cells(leader).to_vec(), cells(follower).to_vec()].concat()
    };
    let of = |stage| move |server: &Server| server.samples.get(&stage).copied().unwrap_or(0);
    let mut rows: Vec<_> = Stage::ALL.iter().map(|stage| row(stage.name(), &of(*stage))).collect();
    rows.push(row("all", &Server::all));
    document::table(&["stage", "leader µs/op", "leader %", "follower µs/op", "follower %"], &rows)
}

impl Server {
    fn all(&self) -> u64 {
        self.samples.values().sum()
    }
}

fn method() -> String {
    format!(
        "µs/op is a stage's share of the samples, times the processor time of the whole process, by operations that clients saw done.\n\
         `perf record -F {SAMPLES_PER_SECOND} --call-graph {CALL_GRAPH}` took the samples; one belongs to the innermost function on its \
         stack that has a\nstage, else to its thread's. So allocation, copying and page faults count for whoever needs them, and waking \
         a thread counts as\nwaiting wherever it happens. `parse` includes the rest of a client's connection but its replies, `apply` \
         the state's memtable.\n`other` is interrupts that hit a thread, and stacks that name nothing of ours.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_share_of_the_processor_time() {
        let leader = Server { samples: [(Stage::Log, 1), (Stage::Apply, 3)].into(), cpu_us: 20.0 };
        let follower = Server { samples: BTreeMap::new(), cpu_us: 10.0 };
        let text = table(&leader, &follower);
        assert!(text.contains("\n| log | 5.00 | 25.0 | 0.00 | 0.0 |\n"), "{text}");
        assert!(text.ends_with("\n| all | 20.00 | 100.0 | 0.00 | 0.0 |\n"), "{text}");
    }
}
