//! A Pontoon cluster.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Process, command, free_port, wait_for};

/// A cluster whose servers can be stopped and started.
#[derive(Debug)]
pub struct Pontoon {
    binary: PathBuf,
    dir: PathBuf,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    peer_port: u16,
    flags: Vec<String>,
    process: Option<Process>,
}

impl Pontoon {
    /// Starts `count` servers with these flags, and waits until one leads.
    pub fn start(binary: &Path, dir: &Path, count: usize, flags: &[&str]) -> Result<Pontoon> {
        let flags: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
        let server = |_| {
            let (port, peer_port) = (free_port()?, free_port()?);
            Ok(Server { port, peer_port, flags: flags.clone(), process: None })
        };
        let servers = (0..count).map(server).collect::<Result<_>>()?;
        let mut cluster = Pontoon { binary: binary.to_path_buf(), dir: dir.to_path_buf(), servers };
        for at in 0..count {
            cluster.start_server(at)?;
        }
        cluster.leader()?;
        Ok(cluster)
    }

    /// Gives a server other flags; they count from its next start on.
    pub fn set_flags(&mut self, at: usize, flags: &[&str]) {
        self.servers[at].flags = flags.iter().map(|flag| flag.to_string()).collect();
    }

    /// Starts a server that does not run.
    pub fn start_server(&mut self, at: usize) -> Result<()> {
        let members: Vec<_> = self.servers.iter().zip(1..).map(member).collect();
        let server = &mut self.servers[at];
        let mut serve = command(&self.binary);
        serve.args(["serve", "--id", &(at + 1).to_string(), "--cluster", &members.join(",")]);
        serve.args(["--listen", &format!("127.0.0.1:{}", server.port)]);
        serve.args(["--peer-listen", &format!("127.0.0.1:{}", server.peer_port)]);
        serve.arg("--data").arg(self.dir.join(format!("pontoon-{}", at + 1))).args(&server.flags);
        server.process = Some(Process::start(serve, &self.dir.join(format!("pontoon-{}.log", at + 1)))?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.servers[at].process = None;
    }

    /// The servers' addresses, the leader's first.
    pub fn addresses(&self) -> Result<Vec<String>> {
        let leader = self.leader()?;
        let others = (0..self.servers.len()).filter(|at| *at != leader);
        Ok(std::iter::once(leader).chain(others).map(|at| self.address(at)).collect())
    }

    /// A server's address.
    pub fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.servers[at].port)
    }

    /// How many servers it has.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// The server that leads in the highest term, as soon as there is one.
    pub fn leader(&self) -> Result<usize> {
        wait_for("a leader", || {
            let leads = |at: usize| {
                let figures = self.figures(at)?;
                (figures.get("raft_role")? == "leader")
                    .then(|| Some((figures.get("raft_term")?.parse::<u64>().ok()?, at)))?
            };
            (0..self.servers.len()).filter_map(leads).max().map(|(_, at)| at)
        })
    }

    /// A server's `INFO`; none if it cannot be reached.
    pub fn figures(&self, at: usize) -> Option<BTreeMap<String, String>> {
        self.servers[at].process.as_ref()?;
        figures(&self.address(at))
    }

    /// One number of a server's `INFO`.
    pub fn figure(&self, at: usize, name: &str) -> Result<u64> {
        let figures = self.figures(at).with_context(|| format!("server {} is not reached", at + 1))?;
        figures.get(name).and_then(|text| text.parse().ok()).with_context(|| format!("no {name}"))
    }

    /// The running servers' processes.
    pub fn processes(&self) -> Vec<&Process> {
        self.servers.iter().filter_map(|server| server.process.as_ref()).collect()
    }

    /// Fails if a server has ended.
    pub fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().filter_map(|server| server.process.as_mut()).try_for_each(Process::check)
    }
}

fn member((server, id): (&Server, u64)) -> String {
    format!("{id}=127.0.0.1:{}", server.peer_port)
}

/// `INFO` of any server that speaks RESP; none if it does not answer.
pub fn figures(address: &str) -> Option<BTreeMap<String, String>> {
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, Duration::from_millis(500)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    // QUIT ends the stream after the reply, so that it can be read to its end.
    stream.write_all(b"*1\r\n$4\r\nINFO\r\n*1\r\n$4\r\nQUIT\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
    Some(pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect())
}
