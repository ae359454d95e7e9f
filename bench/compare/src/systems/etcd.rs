//! A cluster of three etcd members.

use std::path::Path;

use anyhow::{Context, Result};

use super::{PATIENCE, Process, command, free_port};
use crate::load::etcd;

/// Three members.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Process>,
    /// The leader's first.
    endpoints: Vec<String>,
}

/// What the members are started with, beyond their place: etcd keeps each version of each key, and would stop at its default of 2 GB.
pub const FLAGS: &str = "--quota-backend-bytes 8589934592";

/// How many members.
const MEMBERS: usize = 3;

impl Etcd {
    /// Starts them and waits until one leads.
    pub fn start(dir: &Path) -> Result<Etcd> {
        let ports = (0..MEMBERS).map(|_| Ok((free_port()?, free_port()?))).collect::<Result<Vec<_>>>()?;
        let cluster: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(at, (_, peer))| format!("m{at}=http://127.0.0.1:{peer}"))
            .collect();
        let cluster = cluster.join(",");
        let mut members = Vec::new();
        for (at, (port, peer)) in ports.iter().enumerate() {
            let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
            let mut member = command("etcd");
            member.arg("--data-dir").arg(dir.join(format!("etcd-{at}")));
            member.args(["--name", &format!("m{at}"), "--initial-cluster", &cluster]);
            member.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            member.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            member.args(FLAGS.split(' '));
            let log = dir.join(format!("etcd-{at}.log"));
            let process = Process::start(member, &log)
                .context("etcd is missing: install Debian's package etcd-server")?;
            members.push(process);
        }
        let endpoints: Vec<_> = ports.iter().map(|(port, _)| format!("http://127.0.0.1:{port}")).collect();
        let endpoints = etcd::leader_first(&endpoints, PATIENCE)?;
        Ok(Etcd { members, endpoints })
    }

    /// Where clients connect, the leader's first.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Its processes.
    pub fn processes(&self) -> Vec<&Process> {
        self.members.iter().collect()
    }
}
