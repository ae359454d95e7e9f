//! The memory tests of 2024, on the servers' processes. They catch replies that are kept for ever, reads that are remembered, and
//! old values that the table of exactly-once results keeps alive.
//!
//! The original measures the live heap of one process after a garbage collection. Here it is what of each server is in memory
//! (`VmRSS`), and an allocator keeps what it once had, now more and now less. So each row's load is done in passes: a value that is
//! kept adds itself with every pass. After [`PASSES`] of them a server must have been, at the end of one pass, within the limit of
//! the highest that it was at before. The limits are the original's, plus [`KEPT_BYTES`], what a server may keep by its settings,
//! with one exception: [`SESSION_BYTES_MAX`].

use bytes::Bytes;
use pontoon_wire::resp::Value;
use tokio::task::JoinSet;

use super::{
    Form,
    ask::{Connection, ask},
    client::Client,
    cluster::{Cluster, broken},
};
use crate::{check::Violation, lab::MemoryRow};

const MIB: u64 = 1 << 20;

/// The caches of 1 MiB, and memtables of 64 KiB: one in use and up to four on their way to the disk.
const KEPT_BYTES: u64 = MIB + 5 * (64 << 10);

/// Of an open session with one reply that is not acknowledged. The original allows 200 bytes for each client, and there a client is
/// one number and one reply. Here it also has a window, a place in the order of expiry, and room for four replies at least; it lives
/// in the half-filled nodes of two ordered maps, and it is measured in pages. Above all it must not be the 1000 bytes that it wrote.
const SESSION_BYTES_MAX: u64 = 500;

/// Passes before the measurement, and in it.
const PASSES_BEFORE: u64 = 3;
const PASSES: u64 = 4;
/// Passes more, at most, until the allocator has given back what it need not have.
const PASSES_MORE: u64 = 12;

impl MemoryRow {
    /// Caches as small as they get, so that they hide nothing, and room for the row's values and sessions.
    pub(super) const FLAGS: [&str; 4] =
        ["--cache-bytes=1MiB", "--memtable-bytes=64KiB", "--value-bytes-max=32MiB", "--sessions-max=500000"];

    /// What the original prints for it.
    pub(super) fn title(self) -> &'static str {
        match self {
            MemoryRow::Get2 => "memory use get",
            MemoryRow::Put2 => "memory use put",
            MemoryRow::Append2 => "memory use append",
            MemoryRow::PutManyClients => "memory use many put clients",
            MemoryRow::GetManyClients => "memory use many get clients",
            MemoryRow::ManyAppends => "memory use many appends",
        }
    }

    /// What was measured, for a person.
    pub(super) async fn run_on(self, cluster: &Cluster, form: &Form) -> Result<String, Violation> {
        let mut highest = Resident(vec![0; cluster.len()]);
        for _ in 0..PASSES_BEFORE {
            self.pass(cluster, form).await?;
            highest = highest.max(Resident::now(cluster).await?);
        }
        for _ in 0..PASSES {
            self.pass(cluster, form).await?;
        }
        let limit = self.limit(form) + KEPT_BYTES;
        let mut grown = highest.growth(&Resident::now(cluster).await?);
        for _ in 0..PASSES_MORE {
            if grown <= limit {
                break;
            }
            self.pass(cluster, form).await?;
            grown = grown.min(highest.growth(&Resident::now(cluster).await?));
        }
        let found = format!("{grown} bytes more in memory, limit {limit}");
        if grown > limit { Err(Violation::new("memory is bounded", found)) } else { Ok(found) }
    }

    /// Clients of all passes of the measurement.
    fn clients(self, form: &Form) -> u64 {
        match self {
            _ if form.quick => 4_000,
            MemoryRow::PutManyClients => 100_000,
            // The figure of 2026: each of these opens a connection.
            _ => 20_000,
        }
    }

    /// The original's limit, in bytes.
    fn limit(self, form: &Form) -> u64 {
        match self {
            MemoryRow::Get2 | MemoryRow::Put2 => 10 * MIB,
            MemoryRow::Append2 => 30 * MIB,
            MemoryRow::PutManyClients => SESSION_BYTES_MAX * self.clients(form),
            MemoryRow::GetManyClients => 10 * self.clients(form),
            MemoryRow::ManyAppends => 3_000_000,
        }
    }

    async fn pass(self, cluster: &Cluster, form: &Form) -> Result<(), Violation> {
        match self {
            MemoryRow::Get2 => large_values(cluster, true).await,
            MemoryRow::Put2 => large_values(cluster, false).await,
            MemoryRow::Append2 => {
                let client = Client::new(cluster).await?;
                client.put("k", "").await?;
                for letter in ["a", "b"] {
                    client.append("k", &letter.repeat(10 << 20)).await?;
                }
                Ok(())
            }
            MemoryRow::PutManyClients => put_by_many(cluster, self.clients(form) / PASSES).await,
            MemoryRow::GetManyClients => get_by_many(cluster, self.clients(form) / PASSES).await,
            MemoryRow::ManyAppends => {
                let client = Client::new(cluster).await?;
                client.put("k", "").await?;
                for _ in 0..1_000 / PASSES {
                    client.append("k", &"m".repeat(1_000)).await?;
                }
                Ok(())
            }
        }
    }
}

/// 10 MiB written and read by two clients, and gone again.
async fn large_values(cluster: &Cluster, read: bool) -> Result<(), Violation> {
    let clients = [Client::new(cluster).await?, Client::new(cluster).await?];
    let value = "v".repeat(10 << 20);
    for client in &clients {
        client.put("k", &value).await?;
    }
    if read {
        for client in &clients {
            client.expect("k", &value).await?;
        }
    }
    clients[0].put("k", "0").await
}

/// So many sessions, each of which puts 1000 bytes once and stays open.
async fn put_by_many(cluster: &Cluster, clients: u64) -> Result<(), Violation> {
    const TOGETHER: u64 = 200;
    let leader = cluster.await_leader().await?;
    let mut connection = Connection::open(cluster.port(leader)).await.map_err(broken)?;
    let value = Bytes::from("p".repeat(1_000));
    for _ in 0..clients / TOGETHER {
        for _ in 0..TOGETHER {
            connection.send(&["SESSION", "OPEN"]).await.map_err(broken)?;
        }
        let mut sessions = Vec::new();
        for _ in 0..TOGETHER {
            match connection.receive().await.map_err(broken)? {
                Value::Integer(session) => sessions.push(session.to_string()),
                other => return Err(Violation::new("a session is opened", format!("{other:?}"))),
            }
        }
        for session in &sessions {
            let words: [&[u8]; 7] = [b"ONCE", session.as_bytes(), b"1", b"1", b"SET", b"k", &value];
            connection.send(&words).await.map_err(broken)?;
        }
        for _ in &sessions {
            let reply = connection.receive().await.map_err(broken)?;
            if reply != Value::OK {
                return Err(Violation::new("a call has a result", format!("{reply:?}")));
            }
        }
    }
    cluster.tally.operate(clients);
    Ok(())
}

/// So many clients, each of which connects, reads once and leaves.
async fn get_by_many(cluster: &Cluster, clients: u64) -> Result<(), Violation> {
    const TOGETHER: u64 = 50;
    let mut tasks = JoinSet::new();
    for first in 0..TOGETHER {
        let ports: Vec<u16> = cluster.all().map(|server| cluster.port(server)).collect();
        tasks.spawn(async move {
            for number in (first..clients).step_by(TOGETHER as usize) {
                let port = ports[number as usize % ports.len()];
                ask(port, &["GET", "k"]).await.map_err(broken)?;
            }
            Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect::<Result<(), Violation>>()?;
    cluster.tally.operate(clients);
    Ok(())
}

/// What of each server is or was in memory, in bytes.
struct Resident(Vec<u64>);

impl Resident {
    async fn now(cluster: &Cluster) -> Result<Resident, Violation> {
        let mut bytes = Vec::new();
        for server in cluster.all() {
            let pid = cluster.pid(server).await.ok_or_else(|| gone(server))?;
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(broken)?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
            bytes.push(kilobytes.ok_or_else(|| gone(server))? << 10);
        }
        Ok(Resident(bytes))
    }

    fn max(self, other: Resident) -> Resident {
        Resident(self.0.into_iter().zip(other.0).map(|(one, other)| one.max(other)).collect())
    }

    /// Of the server that grew most, in bytes.
    fn growth(&self, later: &Resident) -> u64 {
        let each = later.0.iter().zip(&self.0).map(|(later, before)| later.saturating_sub(*before));
        each.max().unwrap_or(0)
    }
}

fn gone(server: usize) -> Violation {
    Violation::new("no server ends by itself", format!("server {server} is gone"))
}
