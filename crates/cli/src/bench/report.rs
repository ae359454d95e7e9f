//! The report, as text or JSON.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use super::{
    BenchArgs, Op,
    servers::Cost,
    tally::{Pause, Second, Tally},
};

/// What a run was and what came of it. Its fields are those of the JSON.
#[derive(Debug, Serialize)]
pub struct Report {
    op: Op,
    servers: Vec<String>,
    clients: usize,
    inflight: usize,
    value_bytes: u64,
    keys: u64,
    sessions: bool,
    /// Requests a second; `None`: a closed loop.
    rate: Option<u64>,
    /// From the first request to the last reply.
    seconds: f64,
    /// Requests that succeeded.
    operations: u64,
    operations_per_second: f64,
    latency_us: Latency,
    /// By kind: an error's first word, or what became of the connection.
    errors: BTreeMap<String, u64>,
    /// Gets that found no such key; they count among the operations.
    missing: u64,
    /// Requests that a fixed rate owes.
    unsent: u64,
    connections_lost: u64,
    /// Times without any reply, longest first.
    pauses: Vec<Pause>,
    per_second: Vec<Second>,
    costs: Vec<Cost>,
    /// On all servers together; `None`: one of them does not say.
    written_bytes_per_operation: Option<f64>,
    generator_cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Report {
    /// Of a run that is over.
    pub fn new(args: &BenchArgs, tally: &Tally, costs: &[Cost], generator_cpu_seconds: f64) -> Report {
        let latencies = tally.latencies();
        let seconds = tally.elapsed().as_secs_f64();
        let written: Option<u64> = costs.iter().map(|cost| cost.written_bytes).sum();
        let operations = tally.operations();
        Report {
            op: args.op,
            servers: args.client.servers.clone(),
            clients: args.clients,
            inflight: args.inflight,
            value_bytes: args.value_bytes.0,
            keys: args.keys,
            sessions: args.sessions,
            rate: args.rate,
            seconds,
            operations,
            operations_per_second: operations as f64 / seconds,
            latency_us: Latency {
                mean: latencies.mean(),
                p50: latencies.value_at_quantile(0.5),
                p99: latencies.value_at_quantile(0.99),
                p999: latencies.value_at_quantile(0.999),
                max: latencies.max(),
            },
            errors: tally.errors().clone(),
            missing: tally.missing_total(),
            unsent: tally.unsent_total(),
            connections_lost: tally.connections_lost(),
            pauses: tally.pauses().to_vec(),
            per_second: tally.seconds().to_vec(),
            costs: costs.to_vec(),
            written_bytes_per_operation: written
                .filter(|_| operations > 0)
                .map(|bytes| bytes as f64 / operations as f64),
            generator_cpu_seconds,
        }
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("numbers and texts are JSON");
        text + "\n"
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, what) in self.lines() {
            writeln!(text, "{name:<15} {what}").expect("a String takes all");
        }
        text
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let latency = &self.latency_us;
        let ms = |us: u64| format!("{:.3} ms", us as f64 / 1e3);
        let rate = self.rate.map_or("closed loop".to_string(), |rate| format!("{rate} /s"));
        let sessions = if self.sessions { "on" } else { "off" };
        let shape = format!(
            "{} values of {} bytes, {} keys, {} x {} in flight, sessions {sessions}, {rate}",
            format!("{:?}", self.op).to_lowercase(),
            self.value_bytes,
            self.keys,
            self.clients,
            self.inflight
        );
        let mut lines = vec![
            ("load", shape),
            (
                "throughput",
                format!(
                    "{:.0} /s ({} in {:.2} s)",
                    self.operations_per_second, self.operations, self.seconds
                ),
            ),
            (
                "latency",
                format!(
                    "p50 {}  p99 {}  p99.9 {}  max {}",
                    ms(latency.p50),
                    ms(latency.p99),
                    ms(latency.p999),
                    ms(latency.max)
                ),
            ),
            ("errors", self.errors_text()),
        ];
        if self.missing > 0 {
            lines.push((
                "missing",
                format!("{} gets found no such key (--load writes all first)", self.missing),
            ));
        }
        if self.unsent > 0 {
            lines.push(("behind", format!("{} requests never started: the rate is too high", self.unsent)));
        }
        if self.connections_lost > 0 {
            lines.push(("lost", format!("{} of {} connections", self.connections_lost, self.clients)));
        }
        lines.push(("longest pauses", self.pauses_text()));
        lines.extend(self.cost_lines());
        lines
    }

    fn errors_text(&self) -> String {
        if self.errors.is_empty() {
            return "none".to_string();
        }
        self.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    }

    fn pauses_text(&self) -> String {
        let pause = |pause: &Pause| format!("{:.1} ms at {:.2} s", pause.ms, pause.at_seconds);
        self.pauses.iter().map(pause).collect::<Vec<_>>().join(", ")
    }

    fn cost_lines(&self) -> Vec<(&'static str, String)> {
        let unknown = || "unknown".to_string();
        let seconds =
            |seconds: Option<f64>| seconds.map_or_else(unknown, |seconds| format!("{seconds:.2} s"));
        let servers = self.costs.iter().map(|cost| format!("{} {}", cost.server, seconds(cost.cpu_seconds)));
        let written =
            self.written_bytes_per_operation.map_or_else(unknown, |bytes| format!("{bytes:.0} bytes"));
        vec![
            (
                "processor time",
                format!(
                    "{}, this generator {:.2} s",
                    servers.collect::<Vec<_>>().join(", "),
                    self.generator_cpu_seconds
                ),
            ),
            ("written", format!("{written} per operation, on all servers together")),
        ]
    }
}
