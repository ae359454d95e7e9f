//! The classic suite against real processes: the `pontoon` binary, files in a temporary folder, sockets, SIGKILL.
//!
//! ```text
//!   clerks ──► client proxies ──► servers' client ports         lose requests and replies, if the network is unreliable
//!                                 servers
//!      server 1 ──► peer proxy of 2 ──► server 2's peer port    cut links, lose messages; one link for each ordered pair
//! ```
//!
//! What a row does is that of [`crate::lab`]: `Row::generic` and `Row::shape` are the one table of both. The rules are the
//! tightened ones: the log at most twice `maxraftstate`, two requests in flight for each client, the stalled Get counts, an
//! undecided history is a failure, servers also crash one by one under load. After each row everything heals, every server serves
//! within 10 s, and all states are equal. A row that takes longer than 120 s has failed.

mod ask;
pub mod binary;
mod bodies;
mod client;
mod client_proxy;
mod cluster;
mod generic;
mod links;
mod load;
mod memory;
mod peer_proxy;
mod process;
mod proxy;
mod record;
mod rsm;
mod tally;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use self::cluster::{Cluster, Setup, broken};
pub use self::tally::Tally;
use crate::{
    check::Violation,
    lab::{Generic, MemoryRow, ROUNDS, Row, RsmRow, Shape},
};

/// The original's limit for each row, from the start of its cluster to its last check.
const ROW_MAX: Duration = Duration::from_secs(120);

/// A row, of the suite proper or of what other editions add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabRow {
    /// Of the suite of 2018 to 2024.
    Classic(Row),
    /// Of the `rsm` package of 2025.
    Rsm(RsmRow),
    /// Of the memory tests of 2024.
    Memory(MemoryRow),
}

/// How a row is run.
#[derive(Debug, Clone)]
pub struct Form {
    /// The server.
    pub binary: PathBuf,
    /// Of what looks like chance. (Real processes and clocks have chance of their own: a seed is not the same run twice.)
    pub seed: u64,
    /// One round of a second instead of three of five, and short pauses.
    pub quick: bool,
}

impl Form {
    fn rounds(&self) -> u64 {
        if self.quick { 1 } else { ROUNDS }
    }

    fn round(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 5 })
    }

    /// Before a partition, after it, and while all servers are down.
    fn pause(&self) -> Duration {
        Duration::from_millis(if self.quick { 200 } else { 1_000 })
    }
}

/// What a row came to.
#[derive(Debug)]
pub struct Done {
    /// How many servers it had.
    pub servers: usize,
    /// From the start of the cluster to the last check.
    pub took: Duration,
    /// What happened.
    pub tally: Arc<Tally>,
    /// What was measured, for rows that measure.
    pub measured: Option<String>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tally, seconds) = (&self.tally, self.took.as_secs_f64());
        write!(f, "{seconds:.1} s, {} servers, {} operations", self.servers, tally.operations())?;
        let faults = [
            ("crashes", tally.crashes()),
            ("partitions", tally.partitions()),
            ("messages lost", tally.lost()),
        ];
        for (name, count) in faults.into_iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        self.measured.iter().try_for_each(|measured| write!(f, ", {measured}"))
    }
}

/// A row failed.
#[derive(Debug, thiserror::Error)]
#[error("{violation}\n  the servers' logs and data: {}", .folder.as_deref().unwrap_or(Path::new("none")).display())]
pub struct Failed {
    /// What does not hold.
    pub violation: Violation,
    /// What is left of the servers.
    pub folder: Option<PathBuf>,
}

impl LabRow {
    /// All rows, in the original's order.
    pub fn all() -> Vec<LabRow> {
        let classic = Row::ALL.into_iter().map(LabRow::Classic);
        let rsm = RsmRow::ALL.into_iter().map(LabRow::Rsm);
        let memory = MemoryRow::ALL.into_iter().map(LabRow::Memory);
        classic.chain(rsm).chain(memory).collect()
    }

    /// Its name, as `--row` takes it.
    pub fn name(self) -> String {
        match self {
            LabRow::Classic(row) => format!("{row:?}"),
            LabRow::Rsm(row) => row.name(),
            LabRow::Memory(row) => row.name(),
        }
    }

    /// What the original prints for it.
    pub fn title(self) -> String {
        match self {
            LabRow::Classic(row) => classic_title(row),
            LabRow::Rsm(row) => row.title().to_string(),
            LabRow::Memory(row) => row.title().to_string(),
        }
    }

    /// Runs it.
    ///
    /// # Errors
    ///
    /// What does not hold, and where the servers' files are.
    pub async fn run(self, form: &Form) -> Result<Done, Failed> {
        let started = Instant::now();
        let tally = Arc::new(Tally::default());
        let (shape, flags) = self.wants(form.seed);
        let mut measured = None;
        let folder = tempfile::Builder::new().prefix("pontoon-lab-").tempdir();
        let folder = folder.map_err(|error| Failed { violation: broken(error), folder: None })?;
        let whole = async {
            let setup = Setup { binary: &form.binary, folder: folder.path(), shape, flags, seed: form.seed };
            let cluster = Cluster::start(setup, tally.clone()).await?;
            let row = async {
                self.play(&cluster, form, &mut measured).await?;
                cluster.settle().await
            };
            // A server that stopped by itself explains best whatever else went wrong, and nothing need wait for it.
            tokio::select! {
                ended = row => ended,
                death = cluster.death() => Err(death),
            }
        };
        let ended = timeout(ROW_MAX, whole).await.unwrap_or_else(|_| {
            Err(Violation::new("a row takes at most 120 s", "it was not over then".to_string()))
        });
        match ended {
            Ok(()) => Ok(Done { servers: shape.servers, took: started.elapsed(), tally, measured }),
            Err(violation) => Err(Failed { violation, folder: Some(folder.keep()) }),
        }
    }

    /// The cluster that it wants, and further flags of its servers.
    fn wants(self, seed: u64) -> (Shape, &'static [&'static str]) {
        let three = Shape { servers: 3, unreliable: false, snapshots: false };
        match self {
            LabRow::Classic(row) => (row.shape(seed), &[]),
            LabRow::Rsm(row) => (Shape { snapshots: row == RsmRow::Snapshot, ..three }, &[]),
            LabRow::Memory(_) => (Shape { snapshots: true, ..three }, &MemoryRow::FLAGS),
        }
    }

    async fn play(
        self,
        cluster: &Cluster,
        form: &Form,
        measured: &mut Option<String>,
    ) -> Result<(), Violation> {
        match self {
            LabRow::Classic(Row::Speed | Row::SpeedWithSnapshots) => bodies::speed(cluster).await,
            LabRow::Classic(Row::UnreliableOneKey) => bodies::unreliable_one_key(cluster).await,
            LabRow::Classic(Row::OnePartition) => bodies::one_partition(cluster).await,
            LabRow::Classic(Row::SnapshotRpc) => bodies::snapshot_rpc(cluster).await,
            LabRow::Classic(Row::SnapshotSize) => bodies::snapshot_size(cluster).await,
            LabRow::Classic(row) => {
                let generic = row.generic().expect("all other rows are generic");
                generic::run(cluster, generic, form).await
            }
            LabRow::Rsm(row) => row.run_on(cluster).await,
            LabRow::Memory(row) => row.run_on(cluster, form).await.map(|found| *measured = Some(found)),
        }
    }
}

fn classic_title(row: Row) -> String {
    match row {
        Row::Speed | Row::SpeedWithSnapshots => "ops complete fast enough".to_string(),
        Row::UnreliableOneKey => "concurrent append to same key, unreliable".to_string(),
        Row::OnePartition => {
            "progress in majority, no progress in minority, completion after heal".to_string()
        }
        Row::SnapshotRpc => "InstallSnapshot RPC".to_string(),
        Row::SnapshotSize => "snapshot size is reasonable".to_string(),
        _ => generic_title(row.generic().expect("all other rows are generic")),
    }
}

/// As the original puts it together.
fn generic_title(row: Generic) -> String {
    let parts = [
        (row.unreliable, "unreliable net"),
        (row.crash, "restarts"),
        (row.partitions, "partitions"),
        (row.snapshots, "snapshots"),
        (row.random_keys, "random keys"),
        (row.clients > 1, "many clients"),
        (row.clients == 1, "one client"),
    ];
    let named: Vec<&str> = parts.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect();
    named.join(", ")
}
