//! What it all ran on.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::document;

/// How long the disk is tried, for each way to write.
const DISK_TRIAL: Duration = Duration::from_secs(2);
/// What one write of the trial holds, in bytes.
const BLOCK_BYTES: usize = 4096;

/// The machine, the commit and the day.
#[derive(Debug)]
pub struct Machine {
    date: String,
    commit: String,
    command: String,
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    /// fdatasyncs a second of a file that grows by a block each time.
    appends_per_second: f64,
    /// The same, of a file that has its full size already.
    overwrites_per_second: f64,
    /// The same for each of three who do so at once, as three servers do.
    overwrites_of_three: f64,
}

impl Machine {
    /// Looks, and tries the disk under this folder.
    pub fn look(dir: &Path) -> Result<Machine> {
        let memory = proc_field("/proc/meminfo", "MemTotal");
        let kilobytes = memory.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(Machine {
            date: said(Command::new("date").args(["-u", "+%Y-%m-%d"])),
            commit: commit(),
            command: command_line(),
            cpu: proc_field("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism()?.get(),
            memory_gib: (kilobytes + (1 << 19)) >> 20,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_string(),
            appends_per_second: try_disk(&dir.join("disk-trial"), false)?,
            overwrites_per_second: try_disk(&dir.join("disk-trial"), true)?,
            overwrites_of_three: try_disk_at_once(dir, 3)?,
        })
    }

    /// As Markdown.
    pub fn text(&self) -> String {
        format!(
            "{}, commit `{}`, {} cores of {}, {} GiB of memory, Linux {}. The disk did {:.0} fdatasyncs a second of 4 KiB appended to\na \
             file, {:.0} of 4 KiB overwritten in one, and {:.0} in each of three at once.\n\n```sh\n{}\n```\n",
            self.date,
            self.commit,
            self.cores,
            self.cpu,
            self.memory_gib,
            self.kernel,
            self.appends_per_second,
            self.overwrites_per_second,
            self.overwrites_of_three,
            self.command
        )
    }
}

/// The tree's commit; with a mark if the tree has changes beside this tool's own documents.
fn commit() -> String {
    let git = |args: &[&str]| said(Command::new("git").arg("-C").arg(document::root()).args(args));
    let changes = git(&["status", "--porcelain", "--", ".", ":!bench/*.md", ":!bench/growth"]);
    let commit = git(&["rev-parse", "--short", "HEAD"]);
    if changes.is_empty() { commit } else { format!("{commit} with changes") }
}

fn command_line() -> String {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let base = "cargo run --release --manifest-path bench/compare/Cargo.toml";
    if args.is_empty() { base.to_string() } else { format!("{base} -- {}", args.join(" ")) }
}

/// So many overwrite a file each at the same time: the rate of the slowest.
fn try_disk_at_once(dir: &Path, writers: usize) -> Result<f64> {
    thread::scope(|scope| {
        let trials: Vec<_> = (0..writers)
            .map(|writer| dir.join(format!("disk-trial-{writer}")))
            .map(|path| scope.spawn(move || try_disk(&path, true)))
            .collect();
        let rates = trials.into_iter().map(|trial| trial.join().expect("no panic"));
        rates.reduce(|slowest, rate| Ok(slowest?.min(rate?))).expect("there is a writer")
    })
}

fn try_disk(path: &Path, allocated: bool) -> Result<f64> {
    let file = File::create(path)?;
    let block = [0x5a; BLOCK_BYTES];
    if allocated {
        file.write_all_at(&vec![0; 4096 * BLOCK_BYTES], 0)?;
        file.sync_all()?;
    }
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < DISK_TRIAL {
        let at = if allocated { count % 4096 } else { count };
        file.write_all_at(&block, at * BLOCK_BYTES as u64)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

fn proc_field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_string()).unwrap_or_default()
}

/// What a command prints; nothing if it fails.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_string()
}
