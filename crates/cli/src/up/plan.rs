//! What runs where.

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
};

use clap::Parser;

use crate::args::{self, Cli, SERVERS_DEFAULT, UpArgs};

/// Why a cluster cannot run as asked.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There are 65535 ports.
    #[error("{nodes} servers from port {first} on need ports above 65535: choose a lower {setting}")]
    PortTooHigh {
        /// How many servers.
        nodes: u16,
        /// The first port.
        first: u32,
        /// The flag.
        setting: &'static str,
    },
    /// A port for clients and for members at once.
    #[error(
        "the servers' ports from {port} and their peer ports from {peer_port} on overlap: choose another --peer-port"
    )]
    Overlap {
        /// The first port.
        port: u16,
        /// The first peer port.
        peer_port: u16,
    },
    /// Somebody else has it.
    #[error(
        "port {port} is taken (by another program, or by servers that are still stopping): end it, or choose another {setting}"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The flag.
        setting: &'static str,
    },
    /// The system forbids it.
    #[error("cannot listen on port {port}: {error}; choose another {setting}")]
    PortRefused {
        /// The port.
        port: u16,
        /// The flag.
        setting: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// What follows `--` is no `pontoon serve` option.
    #[error("after `--`: {0}")]
    ServeOptions(String),
}

/// A cluster on this machine: server `n` of `nodes` has the ports `port + n - 1` and `peer_port + n - 1`.
#[derive(Debug)]
pub struct Plan {
    nodes: u16,
    port: u16,
    peer_port: u16,
    dir: PathBuf,
    password: Option<String>,
    serve_options: Vec<OsString>,
}

impl Plan {
    /// Checks what was asked for, without touching ports or files.
    pub fn new(args: &UpArgs) -> Result<Plan, PlanError> {
        let peer_port = args.peer_port.map_or(u32::from(args.port) + 1000, u32::from);
        let plan = Plan {
            nodes: args.nodes,
            port: first_port(args.port.into(), args.nodes, "--port")?,
            peer_port: first_port(peer_port, args.nodes, "--peer-port")?,
            dir: args.dir.clone(),
            password: args.password.clone(),
            serve_options: args.serve_options.clone(),
        };
        if plan.port.abs_diff(plan.peer_port) < plan.nodes {
            return Err(PlanError::Overlap { port: plan.port, peer_port: plan.peer_port });
        }
        // `up` asks the servers itself how they are, so it must know what they were told.
        if plan.serve_options.iter().any(|option| option.to_string_lossy().starts_with("--password")) {
            let why = "--password belongs to `up` itself: pontoon up --password PASSWORD -- ...";
            return Err(PlanError::ServeOptions(why.to_string()));
        }
        let line =
            [OsString::from("pontoon")].into_iter().chain(plan.serve_args(1, "local", Path::new("secret")));
        Cli::try_parse_from(line).map_err(|error| PlanError::ServeOptions(args::usage_sentence(&error)))?;
        Ok(plan)
    }

    /// Whether all ports are free, so that nothing is started in vain.
    pub fn check_ports(&self) -> Result<(), PlanError> {
        for (first, setting) in [(self.port, "--port"), (self.peer_port, "--peer-port")] {
            for port in first..first + self.nodes {
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => PlanError::PortTaken { port, setting },
                    _ => PlanError::PortRefused { port, setting, error },
                })?;
            }
        }
        Ok(())
    }

    /// The servers' ids.
    pub fn nodes(&self) -> impl Iterator<Item = u64> + use<> {
        1..=u64::from(self.nodes)
    }

    /// How many servers can decide.
    pub fn majority(&self) -> usize {
        usize::from(self.nodes) / 2 + 1
    }

    /// The cluster's folder, as the person named it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A server's port for clients.
    pub fn port(&self, node: u64) -> u16 {
        self.port + place(node)
    }

    /// Where a server's clients connect.
    pub fn address(&self, node: u64) -> String {
        format!("127.0.0.1:{}", self.port(node))
    }

    /// A server's log file.
    pub fn log(&self, node: u64) -> PathBuf {
        self.dir.join(format!("node-{node}.log"))
    }

    /// What clients must present.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// What follows `pontoon get greeting`, so that it asks this cluster.
    pub fn client_options(&self) -> String {
        let servers = self.nodes().map(|node| self.address(node)).collect::<Vec<_>>().join(",");
        if servers == SERVERS_DEFAULT { String::new() } else { format!(" --servers {servers}") }
    }

    /// The arguments of a server's process.
    pub fn serve_args(&self, node: u64, cluster_id: &str, secret_file: &Path) -> Vec<OsString> {
        let peer = |node| format!("127.0.0.1:{}", self.peer_port + place(node));
        let cluster = self.nodes().map(|node| format!("{node}={}", peer(node))).collect::<Vec<_>>().join(",");
        let mut args: Vec<OsString> = ["serve", "--stop-on-stdin-eof"].map(OsString::from).into();
        let settings: [(&str, OsString); 7] = [
            ("--id", node.to_string().into()),
            ("--data", self.dir.join(format!("node-{node}")).into()),
            ("--listen", self.address(node).into()),
            ("--peer-listen", peer(node).into()),
            ("--cluster", cluster.into()),
            ("--cluster-id", cluster_id.into()),
            ("--secret-file", secret_file.into()),
        ];
        args.extend(settings.into_iter().flat_map(|(flag, value)| [flag.into(), value]));
        args.extend(self.serve_options.iter().cloned());
        args
    }
}

fn first_port(first: u32, nodes: u16, setting: &'static str) -> Result<u16, PlanError> {
    match u16::try_from(first + u32::from(nodes) - 1) {
        Ok(_) => Ok(first as u16),
        Err(_) => Err(PlanError::PortTooHigh { nodes, first, setting }),
    }
}

/// A server's place in the row, from 0.
fn place(node: u64) -> u16 {
    u16::try_from(node - 1).expect("there are few servers")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(line: &str) -> Result<Plan, PlanError> {
        let line = format!("pontoon up {line}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            args::Command::Up(args) => Plan::new(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn servers_have_ports_in_a_row() {
        let plan = plan("--nodes 3 --port 7101").unwrap();
        assert_eq!(plan.address(3), "127.0.0.1:7103");
        assert_eq!(plan.majority(), 2);
        assert!(plan.client_options().ends_with("--servers 127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"));
        let args = plan.serve_args(2, "c", Path::new("s"));
        assert!(args.contains(&"1=127.0.0.1:8101,2=127.0.0.1:8102,3=127.0.0.1:8103".into()), "{args:?}");
    }

    #[test]
    fn a_cluster_at_the_usual_ports_needs_no_servers_option() {
        assert_eq!(plan("").unwrap().client_options(), "");
    }

    #[test]
    fn impossible_ports_are_refused_with_the_setting_to_change() {
        for (line, setting) in
            [("--port 65534", "--port"), ("--port 64999", "--peer-port"), ("--peer-port 7003", "--peer-port")]
        {
            let error = plan(line).unwrap_err().to_string();
            assert!(error.ends_with(setting), "{line}: {error}");
        }
    }

    #[test]
    fn options_for_the_servers_are_checked_before_anything_is_started() {
        assert!(plan("-- --snapshot-log-bytes 1MiB").is_ok());
        let error = plan("-- --snapshot-log-byte 1MiB").unwrap_err().to_string();
        assert!(error.contains("--snapshot-log-byte"), "{error}");
        let error = plan("-- --password sesame").unwrap_err().to_string();
        assert!(error.contains("pontoon up --password"), "`up` could not ask its servers: {error}");
    }
}
