//! What a server finds on its disk when it starts, and how the parts are made to fit.

use std::time::Instant;

use pontoon_kv::{ConfState, GroupId, Machine};
use pontoon_replica::{Persist, Restored};
use pontoon_storage::{DataFolder, Log, LogOptions, RestoredLog, StateOptions, StateStore, state::Notify};

use crate::{Settings, server::StartError};

/// A recovered member.
pub(crate) struct Recovered {
    pub(crate) log: Log,
    pub(crate) restored: Restored,
    pub(crate) machine: Machine<StateStore>,
    /// New with each start.
    pub(crate) seed: u64,
}

/// When this member flushes. Members apply the same entries, so with the same limit all would flush, and compact, at the same moment,
/// and no majority would be quick then.
fn memtable_bytes(settings: &Settings) -> u64 {
    settings.memtable_bytes / 8 * (8 - settings.node.0 % 4)
}

impl Recovered {
    /// Opens log and state. The log replays to the state what it had not made durable, once the leader confirms how far the log
    /// is committed.
    pub(crate) fn open(
        folder: &DataFolder,
        settings: &Settings,
        group: GroupId,
        notify: Notify,
    ) -> Result<Recovered, StartError> {
        let started = Instant::now();
        let options = StateOptions {
            memtable_bytes: memtable_bytes(settings),
            cache_bytes: settings.cache_bytes,
            ..StateOptions::default()
        };
        let log = Log::open(&folder.log(), LogOptions::for_trim_bytes(settings.snapshot_log_bytes))
            .map_err(StartError::new)?;
        let state =
            StateStore::open(&folder.state(group), group, options, notify).map_err(StartError::new)?;
        let members = settings.cluster.members.keys().copied().collect();
        let initial = ConfState { voters: members, ..ConfState::default() };
        let machine = Machine::open(state, settings.cluster.limits, initial).map_err(StartError::new)?;
        let restored = fit(&log, group, &machine)?;

        let replay = restored.entries.iter().filter(|entry| entry.index > machine.applied().index).count();
        let RestoredLog { hard_state, trimmed, entries, bytes } = restored;
        tracing::info!(
            term = hard_state.term.0,
            state = machine.applied().index.0,
            last = entries.last().map_or(trimmed.0.0, |entry| entry.index.0),
            trimmed = trimmed.0.0,
            log_bytes = bytes,
            replay,
            sessions = machine.sessions(),
            ms = started.elapsed().as_millis() as u64,
            "recovered: entries after the state are replayed"
        );
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(StartError::new)?;
        let restored = Restored { hard_state, applied: machine.applied().clone(), trimmed, entries };
        Ok(Recovered { log, restored, machine, seed: u64::from_le_bytes(seed) })
    }
}

/// The log, fit to the state.
fn fit(log: &Log, group: GroupId, machine: &Machine<StateStore>) -> Result<RestoredLog, StartError> {
    let restored = log.restore(group).map_err(StartError::new)?;
    let applied = machine.applied();
    restored.check_continues(group, applied.index).map_err(StartError::new)?;
    let position = (applied.index, applied.term);
    let term = |index| match index == restored.trimmed.0 {
        true => Some(restored.trimmed.1),
        false => restored.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term),
    };
    if term(applied.index) == Some(applied.term) {
        return Ok(restored);
    }
    // A snapshot became the state, and the crash came before the log was reset to start after it.
    let persist = Persist { sync: true, reset_to: Some(position), ..Persist::default() };
    log.write(&[(group, persist)]).map_err(StartError::new)?;
    tracing::info!(index = position.0.0, "the log was reset to start after the snapshot that is the state");
    log.restore(group).map_err(StartError::new)
}
