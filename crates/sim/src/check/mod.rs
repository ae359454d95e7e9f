//! What must hold in every run: one property a file, each with its source.

mod bounded_memory;
mod cluster_clock;
mod durable_majority;
mod durable_promises;
mod election_safety;
mod exactly_once;
mod leader_completeness;
mod log_continues;
mod log_matching;
mod state_machine_safety;

use std::fmt;

use pontoon_kv::{ClusterTime, Entry, Index};
use pontoon_replica::{Message, Role, Status};

use self::{
    cluster_clock::ClusterClock, durable_majority::DurableMajority, election_safety::ElectionSafety,
    leader_completeness::LeaderCompleteness, log_matching::LogMatching,
    state_machine_safety::StateMachineSafety,
};
use crate::world::{Disk, LogImage, Server, Synced, node};

pub use bounded_memory::{Held, check_sessions};
pub use exactly_once::check_exactly_once;

/// A property does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub property: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// Names the property and what was seen.
    pub fn new(property: &'static str, what: String) -> Violation {
        Violation { property, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

impl std::error::Error for Violation {}

/// The checkers that watch a run.
#[derive(Debug)]
pub(crate) struct Checks {
    election_safety: ElectionSafety,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    state_machine_safety: StateMachineSafety,
    durable_majority: DurableMajority,
    cluster_clock: ClusterClock,
    /// (term, leads) of each server as last seen.
    seen: Vec<(u64, bool)>,
}

impl Checks {
    pub(crate) fn new(servers: usize) -> Checks {
        Checks {
            election_safety: ElectionSafety::default(),
            log_matching: LogMatching::default(),
            leader_completeness: LeaderCompleteness::default(),
            state_machine_safety: StateMachineSafety::default(),
            durable_majority: DurableMajority::default(),
            cluster_clock: ClusterClock::default(),
            seen: vec![(0, false); servers],
        }
    }

    /// Terms that had a leader.
    pub(crate) fn elections(&self) -> u64 {
        self.election_safety.terms()
    }

    /// A server has taken a turn; `log` is its log as it sees it.
    pub(crate) fn on_turn(
        &mut self,
        server: Server,
        status: &Status,
        log: impl FnOnce() -> LogImage,
    ) -> Result<(), Violation> {
        let seen = (status.term.0, status.role == Role::Leader);
        if std::mem::replace(&mut self.seen[server], seen) == seen || !seen.1 {
            return Ok(());
        }
        self.election_safety.on_leader(status.term, node(server))?;
        self.leader_completeness.on_leader(status.term, node(server), &log())
    }

    /// A disk may have changed.
    pub(crate) fn on_disk(&self, disk: &Disk) -> Result<(), Violation> {
        log_continues::on_disk(disk)
    }

    /// These got onto a disk.
    pub(crate) fn on_durable(&mut self, synced: &[Synced]) -> Result<(), Violation> {
        synced.iter().try_for_each(|synced| self.log_matching.on_durable(synced))
    }

    /// A server is about to apply these; `disks` are those of all servers.
    pub(crate) fn on_apply(
        &mut self,
        status: &Status,
        entries: &[Entry],
        disks: &[&Disk],
    ) -> Result<(), Violation> {
        for entry in entries {
            self.state_machine_safety.on_apply(entry)?;
            self.leader_completeness.on_commit(entry, status.term);
            self.durable_majority.on_apply(entry, disks)?;
        }
        Ok(())
    }

    /// A server has applied a batch up to `index`; the cluster clock cannot be beyond `limit_ms`.
    pub(crate) fn on_applied(
        &mut self,
        index: Index,
        clock: ClusterTime,
        limit_ms: u64,
    ) -> Result<(), Violation> {
        self.cluster_clock.on_applied(index, clock, limit_ms)
    }

    /// A server is about to send this; `disk` is its own.
    pub(crate) fn on_send(&self, message: &Message, disk: &Disk) -> Result<(), Violation> {
        durable_promises::on_send(message, disk)
    }
}
