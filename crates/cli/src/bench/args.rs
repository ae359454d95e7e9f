//! What to measure.

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{args::ClientArgs, units::ByteSize};

/// A session holds this many requests in flight by default; one more would be refused.
const SESSION_WINDOW: usize = 256;
/// Redis takes no longer value, and neither does any setting of Pontoon.
const VALUE_BYTES_MAX: u64 = 512 << 20;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Sets a key.
    Put,
    /// Gets a key, linearizably.
    Get,
    /// Appends to a key's value.
    Append,
    /// Gets and puts, half and half.
    Mixed,
}

/// Loads a cluster (or any Redis) and measures it.
///
/// Each connection goes to the next of --servers in turn and keeps --inflight requests in flight; keys are drawn uniformly from
/// --keys, with a fixed seed. Latencies are those of requests that succeeded; errors are counted by kind, and nothing is sent again.
/// After --seconds no request starts any more; those in flight are waited for, and count.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pontoon bench                                      puts, through all servers
  pontoon bench --op get --load --clients 64 --inflight 1
  pontoon bench --rate 20000 --seconds 300           stalls show: latency counts from when a request should have started
  pontoon bench --sessions --json >report.json

Exit codes: 0 measured, with or without errors; 1 bad usage, no server, or no request succeeded.")]
pub struct BenchArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count(1..=10_000))]
    pub clients: usize,
    /// Requests in flight on each connection, at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = count(1..=65_536))]
    pub inflight: usize,
    /// What a request does
    #[arg(long, value_enum, default_value_t = Op::Put)]
    pub op: Op,
    /// The length of each value, such as 256 or 1MiB
    #[arg(long, value_name = "SIZE", default_value = "256")]
    pub value_bytes: ByteSize,
    /// Keys are drawn from this many
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    pub keys: u64,
    /// How long to measure
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Do the same for so many seconds before, unmeasured
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub warmup: u64,
    /// Write every key once before, unmeasured
    #[arg(long)]
    pub load: bool,
    /// Start this many requests a second over all connections, whatever becomes of the earlier ones [default: closed loop]
    #[arg(long, value_name = "PER SECOND", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Send each write in a session (ONCE), so that it could be sent again and would take effect once
    #[arg(long)]
    pub sessions: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// What is wrong with their combination, as one sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.sessions && self.op == Op::Get {
            return Err("--sessions is for writes, and --op get has none: leave out --sessions".to_string());
        }
        if self.sessions && self.inflight > SESSION_WINDOW {
            return Err(format!(
                "--inflight is {}, and a session holds {SESSION_WINDOW} requests: take more --clients instead",
                self.inflight
            ));
        }
        if self.value_bytes.0 > VALUE_BYTES_MAX {
            return Err(format!("--value-bytes is {}, and must be at most 512MiB", self.value_bytes.0));
        }
        Ok(())
    }
}

fn count(range: std::ops::RangeInclusive<i64>) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser;
    clap::value_parser!(u32).range(range).map(|number| number as usize)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Cli, Command};

    fn check(line: &str) -> Result<(), String> {
        let line = format!("pontoon bench {line}");
        match Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?.command {
            Command::Bench(args) => args.check(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn combinations_that_make_no_sense_are_refused() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("--sessions --inflight 256 --op mixed --rate 5 --value-bytes 1MiB"), Ok(()));
        assert!(check("--sessions --op get").unwrap_err().contains("leave out --sessions"));
        assert!(check("--sessions --inflight 257").unwrap_err().contains("take more --clients"));
        assert!(check("--value-bytes 1GiB").unwrap_err().contains("512MiB"));
        assert!(check("--clients 0").is_err());
        assert!(check("--rate 0").is_err());
    }
}
