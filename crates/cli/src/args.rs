//! The command line.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    bench::BenchArgs,
    config::{self, RawSettings},
    failure::Failure,
    units::Span,
};

/// Where clients look for a cluster when nobody tells: at the ports of `pontoon up`.
pub const SERVERS_DEFAULT: &str = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003";

/// A replicated key-value store that speaks the Redis protocol and holds what it acknowledged.
#[derive(Debug, Parser)]
#[command(name = "pontoon", version, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Start here:
  pontoon up                          a cluster of three on this machine
  redis-cli -p 7001 set greeting hello
  pontoon get greeting                the same cluster, through another server
  pontoon status                      who leads, and how far each server is

Exit codes of all commands: 0 done; 1 bad usage, or surely not done, with one sentence on stderr;
2 no such key (get); 3 a write whose outcome is unknown; 130 interrupted twice.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a cluster on this machine, one process per server
    Up(UpArgs),
    /// Run one server
    Serve(Box<ServeArgs>),
    /// Set a key
    Put(WriteArgs),
    /// Append to a key's value; prints the new length in bytes
    Append(WriteArgs),
    /// Print a key's value
    Get(GetArgs),
    /// Remove keys, all in one atomic step; prints how many there were
    Del(DelArgs),
    /// Show each server's part, progress and log
    Status(StatusArgs),
    /// Load a cluster, and measure throughput, latency and what they cost
    Bench(Box<BenchArgs>),
}

/// A cluster on this machine.
///
/// Servers are child processes of their own, with Redis ports from --port and peer ports from --peer-port on. A server that dies is
/// started again after a second, so that it can be killed and watched. Ctrl-C stops all of them; started once more in the same folder,
/// the cluster finds its data again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pontoon up
  pontoon up --nodes 5 --dir /tmp/five --port 7101
  pontoon up -- --snapshot-log-bytes 1MiB --log-level debug

All that follows `--` is given to each `pontoon serve`; so are the environment variables of its settings.")]
pub struct UpArgs {
    /// How many servers; a folder keeps the number it was made with
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Where the servers keep their data and logs; created if missing
    #[arg(long, value_name = "DIR", default_value = "pontoon-data")]
    pub dir: PathBuf,
    /// The first server's Redis port; the others have the next ones
    #[arg(long, value_name = "PORT", default_value_t = 7001, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// The first server's port for the other members; the others have the next ones [default: --port + 1000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub peer_port: Option<u16>,
    /// Leave a server that died dead
    #[arg(long)]
    pub no_restart: bool,
    /// What clients must present with AUTH; none: nothing is asked
    #[arg(long, value_name = "TEXT", env = "PONTOON_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Options for each `pontoon serve`
    #[arg(last = true, value_name = "SERVE OPTIONS")]
    pub serve_options: Vec<OsString>,
}

/// One server.
///
/// With --data alone it is a cluster of one. Every setting can also be given as an environment variable (shown with each), or in a TOML
/// file (--config) under the flag's name: a flag wins over the environment, that over the file, that over the default.
///
/// Sizes are bytes, or have a unit: KiB, MiB, GiB (kB, MB, GB are powers of 1000). Times have a unit: ms, s, m, h.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pontoon serve --data /var/lib/pontoon

  pontoon serve --id 1 --data DIR --listen 127.0.0.1:7001 --peer-listen 127.0.0.1:8001 \\
      --cluster 1=127.0.0.1:8001,2=127.0.0.1:8002,3=127.0.0.1:8003

  pontoon serve --config pontoon.toml, with a file such as
      id = 1
      data = \"/var/lib/pontoon\"
      listen = \"10.0.0.1:7001\"
      peer-listen = \"10.0.0.1:8001\"
      secret-file = \"/etc/pontoon/secret\"
      snapshot-log-bytes = \"128MiB\"
      [cluster]
      1 = \"10.0.0.1:8001\"
      2 = \"10.0.0.2:8001\"
      3 = \"10.0.0.3:8001\"

SIGTERM and SIGINT stop it cleanly (leadership handed over, requests in flight answered); a second one at once.")]
pub struct ServeArgs {
    /// A TOML file of settings
    #[arg(long, value_name = "FILE", env = "PONTOON_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: RawSettings,
    /// Stop when stdin ends: how a server notices that the `pontoon up` it belongs to is gone.
    #[arg(long, hide = true)]
    pub stop_on_stdin_eof: bool,
}

/// How clients reach the cluster.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The cluster's servers, some or all
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        env = "PONTOON_SERVERS",
        value_delimiter = ',',
        default_value = SERVERS_DEFAULT,
        value_parser = server_address
    )]
    pub servers: Vec<String>,
    /// What to present with AUTH
    #[arg(long, value_name = "TEXT", env = "PONTOON_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
}

/// How long and where a client tries.
#[derive(Debug, Args)]
pub struct CallArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// After this the command ends in any case
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub timeout: Span,
}

/// A write of one value: executed exactly once, however often it has to be sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pontoon put greeting hello
  pontoon append log \"one more line\"
  pontoon put picture - <picture.png
  pontoon put -- --key --value

Exit codes: 0 done; 1 surely not done; 3 nobody knows (it may have been done, or may yet be, once).")]
pub struct WriteArgs {
    /// The key, any bytes
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// The value, any bytes; `-` reads it from stdin
    #[arg(value_name = "VALUE", allow_negative_numbers = true)]
    pub value: OsString,
    #[command(flatten)]
    pub call: CallArgs,
}

/// A linearizable read: the value as of some moment during the call.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pontoon get greeting
  pontoon get picture --raw >picture.png
  if value=$(pontoon get key); then echo \"it is $value\"; elif [ $? = 2 ]; then echo \"no such key\"; fi

Exit codes: 0 printed (an empty value prints an empty line); 1 no answer; 2 no such key, nothing printed.")]
pub struct GetArgs {
    /// The key, any bytes
    #[arg(value_name = "KEY")]
    pub key: OsString,
    /// Print the value's bytes alone, without a line end after them
    #[arg(long, alias = "no-newline")]
    pub raw: bool,
    #[command(flatten)]
    pub call: CallArgs,
}

/// Removes keys, all in one atomic step, exactly once.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done (also if there was nothing to remove); 1 surely not done; 3 nobody knows."
)]
pub struct DelArgs {
    /// The keys, any bytes
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<OsString>,
    #[command(flatten)]
    pub call: CallArgs,
}

/// One line per server.
///
/// NODE is its id, LEADER the id of the leader it knows. COMMIT is the last log entry it knows to be on a majority, APPLIED the last one that
/// its state holds, LAST the log's end; entries up to TRIMMED are in the state only (the snapshot index). WAITING counts requests
/// without an answer yet.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 a majority of the listed servers answers and one of them leads; 1 otherwise.")]
pub struct StatusArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Print one JSON object per server and line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Reads the process's arguments. An error has been reported; what is left is to exit with its code.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody reading it is no failure of the help.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::new("there is no command: start with `pontoon up`, or see `pontoon --help`").report()
        }
        _ => Failure::new(usage_sentence(&error)).report(),
    })
}

/// What is wrong with the usage, as one line.
pub fn usage_sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text
        .split("\n\nUsage:")
        .next()
        .and_then(|text| text.split("\n\nFor more").next())
        .unwrap_or_default();
    let words: Vec<_> = said.trim_start_matches("error: ").split_whitespace().collect();
    let sentence = words.join(" ").replace(" tip: ", "; ");
    format!("{sentence}; --help tells more")
}

fn server_address(text: &str) -> Result<String, String> {
    match config::port(text.trim()) {
        Some(port) if port > 0 => Ok(text.trim().to_string()),
        _ => Err("give HOST:PORT for each server, such as 127.0.0.1:7001".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_usage_error_is_one_sentence() {
        for args in [
            vec!["pontoon", "serve", "--dta", "x"],
            vec!["pontoon", "put", "key"],
            vec!["pontoon", "up", "--nodes", "many"],
            vec!["pontoon", "get", "k", "--servers", "nowhere"],
        ] {
            let sentence = usage_sentence(&Cli::try_parse_from(&args).unwrap_err());
            let left = ["\n", "Usage", "tip"].iter().find(|part| sentence.contains(**part));
            assert_eq!(left, None, "{sentence}");
            assert!(sentence.len() > 30, "{sentence}");
        }
    }
}
