//! `pontoon bench` as a process of its own, for Pontoon and Redis alike.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Op, Outcome};
use crate::systems::command;

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    pub pontoon: PathBuf,
    pub servers: Vec<String>,
    pub op: Op,
    pub connections: usize,
    pub inflight: usize,
    pub keys: u64,
    pub value_bytes: u64,
    pub seconds: u64,
    pub warmup: u64,
    pub sessions: bool,
    pub rate: Option<u64>,
    pub load_first: bool,
}

/// The report of `pontoon bench --json`: what is used of it.
#[derive(Debug, Deserialize)]
pub struct Report {
    pub seconds: f64,
    pub operations: u64,
    pub operations_per_second: f64,
    pub latency_us: Latency,
    pub errors: BTreeMap<String, u64>,
    pub missing: u64,
    pub unsent: u64,
    pub pauses: Vec<Pause>,
    pub per_second: Vec<Second>,
    pub costs: Vec<Cost>,
    pub written_bytes_per_operation: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

#[derive(Debug, Deserialize)]
pub struct Pause {
    pub at_seconds: f64,
    pub ms: f64,
}

#[derive(Debug, Deserialize)]
pub struct Second {
    pub operations: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

#[derive(Debug, Deserialize)]
pub struct Cost {
    pub cpu_seconds: Option<f64>,
}

impl Load {
    /// Runs it.
    pub fn run(&self) -> Result<Report> {
        let mut bench = command(&self.pontoon);
        bench.args(["bench", "--json", "--servers", &self.servers.join(","), "--op", self.op.name()]);
        bench.args(["--clients", &self.connections.to_string(), "--inflight", &self.inflight.to_string()]);
        bench.args(["--keys", &self.keys.to_string(), "--value-bytes", &self.value_bytes.to_string()]);
        bench.args(["--seconds", &self.seconds.to_string(), "--warmup", &self.warmup.to_string()]);
        if self.sessions {
            bench.arg("--sessions");
        }
        if self.load_first {
            bench.arg("--load");
        }
        if let Some(rate) = self.rate {
            bench.args(["--rate", &rate.to_string()]);
        }
        let output = bench.stdin(Stdio::null()).output().context("cannot run `pontoon bench`")?;
        if !output.status.success() {
            bail!("{bench:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let report: Report =
            serde_json::from_slice(&output.stdout).context("the report of `pontoon bench`")?;
        if report.missing > 0 {
            bail!("{} gets found no key: the keys were not loaded", report.missing);
        }
        Ok(report)
    }
}

impl Report {
    /// The figures that all systems have.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            per_second: self.operations_per_second,
            p50_us: self.latency_us.p50,
            p99_us: self.latency_us.p99,
            max_us: self.latency_us.max,
            errors: self.errors.values().sum(),
        }
    }

    /// Processor time of all servers together, per operation.
    pub fn cpu_us_per_operation(&self) -> Option<f64> {
        let all: Option<f64> = self.costs.iter().map(|cost| cost.cpu_seconds).sum();
        Some(all? * 1e6 / self.operations.max(1) as f64)
    }
}
