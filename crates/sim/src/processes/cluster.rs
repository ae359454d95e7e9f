//! A cluster of real servers, and what is done to it.

use std::{io, path::Path, sync::Arc, time::Duration};

use pontoon_clerk::{Clerk, ClerkOptions};
use pontoon_wire::resp::Value;
use tokio::time::{Instant, sleep, timeout};

use super::{
    ask::{ask, raft_info},
    client_proxy::ClientProxy,
    links::Links,
    peer_proxy,
    process::Process,
    proxy::Proxy,
    tally::Tally,
};
use crate::{
    check::Violation,
    lab::{MAXRAFTSTATE, Shape},
    rng::Rng,
    world::Server,
};

/// How long a cluster may take until somebody leads, on a machine that is busy.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
/// After healing every server serves within this, and then all states are equal within it.
const HEALED_WITHIN: Duration = Duration::from_secs(10);
/// The log is trimmed to its limit within this after the last request.
const TRIMMED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(20);
/// A clerk tries for longer than any row may take: only a result or a definite refusal ends its calls.
const CLERK_TRIES: Duration = Duration::from_secs(120);

/// Servers, the proxies between them, and those in front of them. Dropping it kills the servers.
#[derive(Debug)]
pub(super) struct Cluster {
    servers: Vec<Process>,
    _peer_proxies: Vec<Proxy>,
    /// In front of each server, if clients reach it over an unreliable network.
    client_proxies: Vec<ClientProxy>,
    pub(super) links: Arc<Links>,
    pub(super) tally: Arc<Tally>,
    snapshots: bool,
}

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    /// The server.
    pub(super) binary: &'a Path,
    /// Where data and logs go.
    pub(super) folder: &'a Path,
    pub(super) shape: Shape,
    /// Further flags of all servers.
    pub(super) flags: &'a [&'a str],
    /// Of what looks like chance.
    pub(super) seed: u64,
}

impl Cluster {
    /// Starts the servers and waits until one leads.
    pub(super) async fn start(setup: Setup<'_>, tally: Arc<Tally>) -> Result<Cluster, Violation> {
        let cluster = Cluster::spawn(setup, tally).await.map_err(broken)?;
        cluster.await_leader().await?;
        Ok(cluster)
    }

    async fn spawn(setup: Setup<'_>, tally: Arc<Tally>) -> io::Result<Cluster> {
        let Setup { binary, folder, shape, flags, seed } = setup;
        let links = Arc::new(Links::new(shape.servers, shape.unreliable, Rng::new(seed), tally.clone()));
        let (mut servers, mut peer_proxies, mut client_proxies) = (Vec::new(), Vec::new(), Vec::new());
        for server in 0..shape.servers {
            let process = Process::new(binary, folder, server + 1)?;
            peer_proxies.push(peer_proxy::start(server, process.peer_port, links.clone()).await?);
            if shape.unreliable {
                client_proxies.push(ClientProxy::start(process.port, links.clone()).await?);
            }
            servers.push(process);
        }
        // Members reach one another through the proxies, and all agree on where that is.
        let member = |(at, proxy): (usize, &Proxy)| format!("{}={}", at + 1, proxy.address);
        let members: Vec<String> = peer_proxies.iter().enumerate().map(member).collect();
        let log_bytes = if shape.snapshots { MAXRAFTSTATE.to_string() } else { "-1".to_string() };
        let common =
            [format!("--cluster={}", members.join(",")), format!("--snapshot-log-bytes={log_bytes}")];
        for process in &mut servers {
            process.add_flags(common.iter().cloned().chain(flags.iter().map(ToString::to_string)));
            process.start().await?;
        }
        Ok(Cluster {
            servers,
            _peer_proxies: peer_proxies,
            client_proxies,
            links,
            tally,
            snapshots: shape.snapshots,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    /// All servers' numbers, from 0.
    pub(super) fn all(&self) -> std::ops::Range<Server> {
        0..self.len()
    }

    /// Where a server takes clients, past all proxies.
    pub(super) fn port(&self, server: Server) -> u16 {
        self.servers[server].port
    }

    pub(super) async fn pid(&self, server: Server) -> Option<u32> {
        self.servers[server].pid().await
    }

    /// A clerk that reaches all servers as clients of this cluster do, in an order of its own.
    pub(super) fn clerk(&self) -> Clerk {
        let mut addresses: Vec<String> = match self.client_proxies.is_empty() {
            true => self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect(),
            false => self.client_proxies.iter().map(|proxy| proxy.address().to_string()).collect(),
        };
        self.links.shuffle(&mut addresses);
        clerk(addresses)
    }

    /// A clerk with proxies of its own, so that servers can be taken away from it and given back.
    pub(super) async fn clerk_with_doors(&self) -> Result<(Clerk, Vec<ClientProxy>), Violation> {
        let mut doors = Vec::new();
        for server in &self.servers {
            doors.push(ClientProxy::start(server.port, self.links.clone()).await.map_err(broken)?);
        }
        Ok((clerk(doors.iter().map(|door| door.address().to_string()).collect()), doors))
    }

    /// SIGKILL. Returns once it is gone.
    pub(super) async fn kill(&self, server: Server) -> Result<(), Violation> {
        self.tally.crash();
        self.servers[server].kill().await.map_err(broken)
    }

    /// Asks a server to stop. Returns once it has.
    pub(super) async fn stop(&self, server: Server) -> Result<(), Violation> {
        self.servers[server].stop().await.map_err(broken)
    }

    /// Starts a server, if it does not run.
    pub(super) async fn restart(&self, server: Server) -> Result<(), Violation> {
        self.servers[server].start().await.map_err(broken)
    }

    /// Kills all servers one after the other, waits, and starts them again.
    pub(super) async fn crash_all(&self, down_for: Duration) -> Result<(), Violation> {
        for server in self.all() {
            self.kill(server).await?;
        }
        sleep(down_for).await;
        self.restart_all().await
    }

    pub(super) async fn restart_all(&self) -> Result<(), Violation> {
        for server in self.all() {
            self.restart(server).await?;
        }
        Ok(())
    }

    /// A figure of `INFO raft`; none if the server does not answer.
    pub(super) async fn figure(&self, server: Server, name: &str) -> Option<u64> {
        raft_info(self.port(server)).await.ok()?.get(name)?.parse().ok()
    }

    pub(super) fn log(&self, server: Server) -> String {
        self.servers[server].log()
    }

    /// The server that leads in the highest term, once there is one.
    pub(super) async fn await_leader(&self) -> Result<Server, Violation> {
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let mut leaders = Vec::new();
            for server in self.all() {
                let info = raft_info(self.port(server)).await.unwrap_or_default();
                let term = info.get("raft_term").and_then(|term| term.parse::<u64>().ok());
                if info.get("raft_role").is_some_and(|role| role == "leader") {
                    leaders.push((term, server));
                }
            }
            if let Some((_, leader)) = leaders.into_iter().max() {
                return Ok(leader);
            }
            if Instant::now() > deadline {
                return Err(Violation::new("somebody leads", "nobody does".to_string()));
            }
            sleep(LOOK).await;
        }
    }

    /// With snapshots the logs of all servers are at most twice `maxraftstate` (the rule of 2018; later editions allow eight
    /// times); without, nothing was trimmed. The figure is that of `INFO raft`: entries that are not trimmed, 32 bytes more for
    /// each than the simulator counts.
    pub(super) async fn check_log_size(&self) -> Result<(), Violation> {
        for server in self.all() {
            let (figure, max) = match self.snapshots {
                true => ("raft_log_bytes", 2 * MAXRAFTSTATE),
                false => ("raft_trimmed_index", 0),
            };
            let small = async || self.figure(server, figure).await.is_some_and(|found| found <= max);
            if !within(TRIMMED_WITHIN, small).await {
                let found = self.figure(server, figure).await;
                let what = format!("{figure} of server {server} is {found:?}, not at most {max}");
                return Err(Violation::new("the log is trimmed, exactly if it may be", what));
            }
        }
        Ok(())
    }

    /// Waits until a server ends that nobody has stopped, and tells its last words.
    pub(super) async fn death(&self) -> Violation {
        loop {
            for (number, server) in self.servers.iter().enumerate() {
                if let Some(how) = server.ended().await {
                    let log = server.log();
                    let last: Vec<&str> = log.lines().rev().take(5).collect();
                    let last: String = last.iter().rev().map(|line| format!("\n    {line}")).collect();
                    let what = format!("server {number}: {how}, and the end of its log:{last}");
                    return Violation::new("no server ends by itself", what);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Everything heals; then every server serves, and all states are equal.
    pub(super) async fn settle(&self) -> Result<(), Violation> {
        self.links.connect();
        self.restart_all().await?;
        let healed = Instant::now();
        for server in self.all() {
            let serves = async || self.serves(server).await.is_some();
            if !within(HEALED_WITHIN.saturating_sub(healed.elapsed()), serves).await {
                let info = raft_info(self.port(server)).await;
                let what = format!("server {server} does not: {info:?}");
                return Err(Violation::new("every server serves after healing", what));
            }
        }
        self.states_are_equal().await
    }

    async fn serves(&self, server: Server) -> Option<()> {
        let (port, key) = (self.port(server), format!("served-by-{server}"));
        let written = ask(port, &["SET", &key, "yes"]).await.ok()? == Value::OK;
        let read = ask(port, &["GET", &key]).await.ok()? == Value::Bulk("yes".into());
        (written && read).then_some(())
    }

    /// `DEBUG DIGEST`, the applied index and a hash of the whole state, is the same on all servers.
    async fn states_are_equal(&self) -> Result<(), Violation> {
        let deadline = Instant::now() + HEALED_WITHIN;
        loop {
            let mut digests = Vec::new();
            for server in self.all() {
                digests.push(ask(self.port(server), &["DEBUG", "DIGEST"]).await.ok());
            }
            let told = matches!(digests[0], Some(Value::Simple(_) | Value::Bulk(_)));
            if told && digests.iter().all(|digest| *digest == digests[0]) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Violation::new("all states are equal", format!("{digests:?}")));
            }
            sleep(LOOK).await;
        }
    }
}

/// Waits for something, for a bounded time; whether it came.
pub(super) async fn within(limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> bool {
    let until = async {
        while !holds().await {
            sleep(LOOK).await;
        }
    };
    timeout(limit, until).await.is_ok()
}

fn clerk(servers: Vec<String>) -> Clerk {
    let options = ClerkOptions { deadline: CLERK_TRIES, ..ClerkOptions::new(servers) };
    Clerk::connect(options).expect("the options are sound")
}

/// The test itself cannot go on.
pub(super) fn broken(error: io::Error) -> Violation {
    Violation::new("the test can be carried out", error.to_string())
}
