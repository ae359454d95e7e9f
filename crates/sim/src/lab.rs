//! The classic kvraft suite (MIT 6.824 / 6.5840, labs 3 and 4), row by row, in virtual time. (Against real processes: [`crate::processes`].)
//!
//! Stricter than the original: the log is at most twice `maxraftstate`, every client has two requests in flight, servers also
//! crash under load, an undecided history is a failure, and the last reads of stage 3 of [`Row::OnePartition`] count.

mod bodies;
mod generic;
mod memory;
mod rsm;

use crate::{
    check::Violation,
    time::SECOND,
    world::{Setup, Traced, World},
};

pub use memory::MemoryRow;
pub use rsm::RsmRow;

/// A generic row's rounds on one cluster.
pub(crate) const ROUNDS: u64 = 3;

/// A client blocked in a call across faults is answered within this after they end, in microseconds.
pub(crate) const ANSWERED_WITHIN_US: u64 = 20 * SECOND;

/// The classic `maxraftstate` of the snapshot rows, in bytes.
pub const MAXRAFTSTATE: u64 = 1_000;

/// A row of the suite, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are the original's; what they do is in `Row::generic` and `bodies`"
)]
pub enum Row {
    Basic,
    Speed,
    Concurrent,
    Unreliable,
    UnreliableOneKey,
    OnePartition,
    ManyPartitionsOneClient,
    ManyPartitionsManyClients,
    PersistOneClient,
    PersistConcurrent,
    PersistConcurrentUnreliable,
    PersistPartition,
    PersistPartitionUnreliable,
    PersistPartitionUnreliableLinearizable,
    SnapshotRpc,
    SnapshotSize,
    SpeedWithSnapshots,
    SnapshotRecover,
    SnapshotRecoverManyClients,
    SnapshotUnreliable,
    SnapshotUnreliableRecover,
    SnapshotUnreliableRecoverConcurrentPartition,
    SnapshotUnreliableRecoverConcurrentPartitionLinearizable,
}

/// The parameters of the original's `GenericTest`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Generic {
    pub(crate) servers: usize,
    pub(crate) clients: usize,
    pub(crate) unreliable: bool,
    pub(crate) crash: bool,
    pub(crate) partitions: bool,
    pub(crate) snapshots: bool,
    pub(crate) random_keys: bool,
}

/// What a row wants of its cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) servers: usize,
    pub(crate) unreliable: bool,
    pub(crate) snapshots: bool,
}

/// What a row came to.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Operations that clients did.
    pub operations: u64,
    /// Virtual time, in microseconds.
    pub took_us: u64,
    /// The trace, if it was kept.
    pub trace: String,
}

/// A row of any kind, for whoever runs them all.
pub struct NamedRow {
    /// As in tables and on the command line.
    pub name: String,
    /// Runs it on a seed.
    pub run: Box<dyn Fn(u64, Traced) -> Result<Done, Violation>>,
}

/// The rows of all kinds, in order.
pub fn all_rows() -> Vec<NamedRow> {
    let classic = Row::ALL.map(|row| NamedRow {
        name: format!("{row:?}"),
        run: Box::new(move |seed, traced| row.run(seed, traced)),
    });
    let rsm = RsmRow::ALL
        .map(|row| NamedRow { name: row.name(), run: Box::new(move |seed, traced| row.run(seed, traced)) });
    let memory = MemoryRow::ALL
        .map(|row| NamedRow { name: row.name(), run: Box::new(move |seed, traced| row.run(seed, traced)) });
    classic.into_iter().chain(rsm).chain(memory).collect()
}

impl Done {
    fn of(world: &World) -> Done {
        Done { operations: world.counts().operations, took_us: world.now(), trace: world.trace().to_string() }
    }
}

impl Row {
    /// All rows, in the original's order.
    pub const ALL: [Row; 23] = [
        Row::Basic,
        Row::Speed,
        Row::Concurrent,
        Row::Unreliable,
        Row::UnreliableOneKey,
        Row::OnePartition,
        Row::ManyPartitionsOneClient,
        Row::ManyPartitionsManyClients,
        Row::PersistOneClient,
        Row::PersistConcurrent,
        Row::PersistConcurrentUnreliable,
        Row::PersistPartition,
        Row::PersistPartitionUnreliable,
        Row::PersistPartitionUnreliableLinearizable,
        Row::SnapshotRpc,
        Row::SnapshotSize,
        Row::SpeedWithSnapshots,
        Row::SnapshotRecover,
        Row::SnapshotRecoverManyClients,
        Row::SnapshotUnreliable,
        Row::SnapshotUnreliableRecover,
        Row::SnapshotUnreliableRecoverConcurrentPartition,
        Row::SnapshotUnreliableRecoverConcurrentPartitionLinearizable,
    ];

    /// Runs the row on a seed.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn run(self, seed: u64, traced: Traced) -> Result<Done, Violation> {
        let mut world = World::new(Setup { traced, ..self.setup(seed) });
        match self {
            Row::Speed | Row::SpeedWithSnapshots => bodies::speed(&mut world),
            Row::UnreliableOneKey => bodies::unreliable_one_key(&mut world),
            Row::OnePartition => bodies::one_partition(&mut world),
            Row::SnapshotRpc => bodies::snapshot_rpc(&mut world),
            Row::SnapshotSize => bodies::snapshot_size(&mut world),
            _ => generic::run(&mut world, self.generic().expect("all other rows are generic")),
        }?;
        Ok(Done::of(&world))
    }

    fn setup(self, seed: u64) -> Setup {
        let Shape { servers, unreliable, snapshots } = self.shape(seed);
        let log_bytes_max = snapshots.then_some(MAXRAFTSTATE);
        let mut setup = Setup { unreliable, ..Setup::new(seed, servers) };
        setup.config.log_bytes_max = log_bytes_max;
        // Little of the log is in memory, so that the disk is read.
        setup.config.window_bytes_max = 2_000;
        setup
    }

    pub(crate) fn shape(self, seed: u64) -> Shape {
        let (servers, unreliable, snapshots) = match self {
            Row::Speed => (3, false, false),
            Row::UnreliableOneKey => (3, true, false),
            // Unreliable since 2025.
            Row::OnePartition => (5, seed.is_multiple_of(2), false),
            Row::SnapshotRpc | Row::SnapshotSize | Row::SpeedWithSnapshots => (3, false, true),
            _ => {
                let generic = self.generic().expect("all other rows are generic");
                (generic.servers, generic.unreliable, generic.snapshots)
            }
        };
        Shape { servers, unreliable, snapshots }
    }

    /// The row's parameters, if it is the original's `GenericTest`.
    pub(crate) fn generic(self) -> Option<Generic> {
        let quiet = Generic { servers: 5, clients: 5, ..Generic::default() };
        let persist = Generic { crash: true, ..quiet };
        let snapshot = Generic { snapshots: true, ..quiet };
        let worst = Generic { unreliable: true, partitions: true, ..persist };
        Some(match self {
            Row::Basic => Generic { clients: 1, ..quiet },
            Row::Concurrent => quiet,
            Row::Unreliable => Generic { unreliable: true, ..quiet },
            Row::ManyPartitionsOneClient => Generic { clients: 1, partitions: true, ..quiet },
            Row::ManyPartitionsManyClients => Generic { partitions: true, ..quiet },
            Row::PersistOneClient => Generic { clients: 1, ..persist },
            Row::PersistConcurrent => persist,
            Row::PersistConcurrentUnreliable => Generic { unreliable: true, ..persist },
            Row::PersistPartition => Generic { partitions: true, ..persist },
            Row::PersistPartitionUnreliable => worst,
            Row::PersistPartitionUnreliableLinearizable => {
                Generic { servers: 7, clients: 15, random_keys: true, ..worst }
            }
            Row::SnapshotRecover => Generic { clients: 1, crash: true, ..snapshot },
            Row::SnapshotRecoverManyClients => Generic { clients: 20, crash: true, ..snapshot },
            Row::SnapshotUnreliable => Generic { unreliable: true, ..snapshot },
            Row::SnapshotUnreliableRecover => Generic { unreliable: true, crash: true, ..snapshot },
            Row::SnapshotUnreliableRecoverConcurrentPartition => Generic { snapshots: true, ..worst },
            Row::SnapshotUnreliableRecoverConcurrentPartitionLinearizable => {
                Generic { servers: 7, clients: 15, random_keys: true, snapshots: true, ..worst }
            }
            _ => return None,
        })
    }
}

/// The logs on all disks are at most twice `maxraftstate` (the rule of 2018; later editions allow eight times).
fn check_log_size(world: &World) -> Result<(), Violation> {
    for server in 0..world.len() {
        let bytes = world.log_bytes(server);
        if bytes > 2 * MAXRAFTSTATE {
            let what = format!(
                "server {server}'s log has {bytes} bytes of entries, the limit is twice {MAXRAFTSTATE}"
            );
            return Err(Violation::new("the log is trimmed", what));
        }
    }
    Ok(())
}
