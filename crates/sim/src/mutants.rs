//! Bugs planted on purpose: each must be found by the run that is named for it. A mutant that survives is a hole in the suite.
//!
//! Those of the data and of the core are switches in `kv` and `replica`; those of the driver and its disks are here, where the
//! world is the driver. No normal build contains either: feature `mutants`.

use std::sync::atomic::{AtomicU8, Ordering};

use pontoon_kv::mutants::{Mutant as Deep, plant as plant_deep};

use crate::{lab::Row, scripts::Script};

/// A bug of the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// Who waits is entered after the request was proposed, not with it.
    WaiterEnteredLate = 1,
    /// The apply thread waits for ever for a client that has gone.
    ApplyWaitsForClient,
    /// A server that thinks it leads reads its own state.
    LeaderReadsOwnState,
    /// Reads do not wait for what they must see to be applied.
    ReadBeforeApplied,
    /// The log is never trimmed.
    NeverTrims,
    /// A snapshot says that it is of a later entry than its contents.
    SnapshotLabelledLater,
    /// An older snapshot is installed over a newer state.
    OlderSnapshotInstalled,
    /// A log that goes on beyond the state is emptied all the same.
    LogSuffixDropped,
    /// The log starts behind a snapshot before that is the state.
    LogResetBeforeInstall,
    /// An installed snapshot is not made durable.
    InstallNotDurable,
    /// A snapshot leaves sessions' records out.
    SessionsNotInSnapshot,
    /// Sessions and data become durable one after the other.
    SessionsDurableFirst,
    /// Votes and terms are spoken of before the disk has them.
    VoteBeforeDisk,
    /// Entries are acknowledged before the disk has them.
    AppendBeforeDisk,
    /// A heartbeat tells followers to commit what they may not have.
    HeartbeatCommitsAll,
    /// What may have been executed is reported as surely not executed.
    UnknownIsNotExecuted,
    /// Replies of one turn get crossed.
    RepliesCrossed,
    /// What a disk failed to sync is acknowledged.
    FailedSyncIgnored,
    /// A damaged log is cut off at the damage, as a torn one is.
    DamageCutOff,
}

/// What must find a mutant.
#[derive(Debug, Clone, Copy)]
pub enum Hunt {
    /// Random runs.
    Seeds,
    /// A row of the classic suite.
    Row(Row),
    /// A scripted run.
    Script(Script),
}

/// A mutant, and what must find it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its number in the project's list of mutations (`docs/testing.md`).
    pub number: u32,
    /// What is planted.
    pub planted: Planted,
    /// What must find it.
    pub hunt: Hunt,
    /// Within so many seeds.
    pub seeds_max: u64,
}

/// A mutant of either kind.
#[derive(Debug, Clone, Copy)]
pub enum Planted {
    /// Of the driver.
    Driver(Mutant),
    /// Of the data or of the core.
    Deep(Deep),
}

const fn driver(number: u32, mutant: Mutant, hunt: Hunt, seeds_max: u64) -> Case {
    Case { number, planted: Planted::Driver(mutant), hunt, seeds_max }
}

const fn deep(number: u32, mutant: Deep, hunt: Hunt, seeds_max: u64) -> Case {
    Case { number, planted: Planted::Deep(mutant), hunt, seeds_max }
}

/// All mutants, by number.
pub const CASES: [Case; 33] = [
    driver(1, Mutant::WaiterEnteredLate, Hunt::Row(Row::Speed), 1),
    driver(2, Mutant::ApplyWaitsForClient, Hunt::Seeds, 20),
    deep(4, Deep::WokenByIndex, Hunt::Seeds, 100),
    deep(5, Deep::LeaderChangeUnnoticed, Hunt::Script(Script::BlockedCallsEnd), 1),
    deep(7, Deep::WaitersLeak, Hunt::Seeds, 20),
    deep(10, Deep::NoDuplicateCheck, Hunt::Row(Row::UnreliableOneKey), 20),
    deep(11, Deep::NoDuplicateCheckForSet, Hunt::Row(Row::PersistPartitionUnreliableLinearizable), 20),
    deep(13, Deep::HighestNumberOnly, Hunt::Row(Row::Unreliable), 1),
    deep(14, Deep::CopyAnsweredAnew, Hunt::Row(Row::Unreliable), 1),
    deep(15, Deep::RecordsKept, Hunt::Row(Row::SnapshotSize), 1),
    deep(16, Deep::OwnClockExpires, Hunt::Script(Script::ExpiryIsTheSameEverywhere), 1),
    deep(17, Deep::ExpiredSessionServed, Hunt::Script(Script::ExpiredStaysExpired), 1),
    driver(18, Mutant::SessionsNotInSnapshot, Hunt::Row(Row::SnapshotUnreliableRecover), 20),
    driver(19, Mutant::SessionsDurableFirst, Hunt::Seeds, 20),
    driver(20, Mutant::LeaderReadsOwnState, Hunt::Row(Row::OnePartition), 1),
    deep(20, Deep::QuestionConfirms, Hunt::Row(Row::OnePartition), 20),
    deep(21, Deep::ReadBeforeOwnTerm, Hunt::Seeds, 400),
    deep(22, Deep::RoundsShareAName, Hunt::Script(Script::LateRound), 1),
    driver(24, Mutant::ReadBeforeApplied, Hunt::Seeds, 20),
    driver(25, Mutant::NeverTrims, Hunt::Row(Row::SnapshotRecover), 1),
    driver(27, Mutant::SnapshotLabelledLater, Hunt::Seeds, 20),
    driver(29, Mutant::OlderSnapshotInstalled, Hunt::Script(Script::LateSnapshot), 1),
    driver(30, Mutant::LogSuffixDropped, Hunt::Row(Row::SnapshotRecover), 20),
    driver(31, Mutant::LogResetBeforeInstall, Hunt::Row(Row::SnapshotRpc), 1),
    driver(32, Mutant::InstallNotDurable, Hunt::Row(Row::SnapshotRpc), 1),
    driver(34, Mutant::VoteBeforeDisk, Hunt::Seeds, 1),
    driver(35, Mutant::AppendBeforeDisk, Hunt::Seeds, 1),
    driver(35, Mutant::FailedSyncIgnored, Hunt::Seeds, 20),
    deep(36, Deep::CountsOlderTerms, Hunt::Script(Script::Figure8), 1),
    driver(37, Mutant::DamageCutOff, Hunt::Seeds, 200),
    driver(38, Mutant::HeartbeatCommitsAll, Hunt::Seeds, 200),
    driver(40, Mutant::UnknownIsNotExecuted, Hunt::Seeds, 20),
    driver(43, Mutant::RepliesCrossed, Hunt::Row(Row::Concurrent), 1),
];

impl Planted {
    /// Its name.
    pub fn name(self) -> String {
        match self {
            Planted::Driver(mutant) => format!("{mutant:?}"),
            Planted::Deep(mutant) => format!("{mutant:?}"),
        }
    }

    /// Plants it in this process.
    pub fn plant(self) {
        match self {
            Planted::Driver(mutant) => PLANTED.store(mutant as u8, Ordering::Relaxed),
            Planted::Deep(mutant) => plant_deep(mutant),
        }
    }
}

static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Whether this one is planted.
pub(crate) fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as u8
}
