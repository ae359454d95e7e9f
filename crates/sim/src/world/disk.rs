//! A server's disk: what is synced survives a crash; of what is written and not synced, any prefix does.

use std::collections::VecDeque;

use pontoon_kv::{Applied, ConfState, Entry, Index, Limits, Machine, MemStore, StoreError, Term};
use pontoon_replica::{HardState, Persist, Restored};

use crate::rng::Rng;

/// The log as a disk holds it.
///
/// - `entries` are contiguous and start right after `trimmed`.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogImage {
    pub(crate) hard_state: HardState,
    pub(crate) trimmed: (Index, Term),
    pub(crate) entries: VecDeque<Entry>,
}

impl LogImage {
    pub(crate) fn last(&self) -> Index {
        Index(self.trimmed.0.0 + self.entries.len() as u64)
    }

    /// The term at a position that the log covers, its start included.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.trimmed.0 {
            return Some(self.trimmed.1);
        }
        let at = index.0.checked_sub(self.trimmed.0.0 + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    /// Entries from `low` to below `high`, at least one if there is any, up to about `bytes_max`.
    pub(crate) fn read(&self, low: Index, high: Index, bytes_max: u64) -> Vec<Entry> {
        let Some(skip) = low.0.checked_sub(self.trimmed.0.0 + 1) else { return Vec::new() };
        let mut bytes = 0;
        let mut read = Vec::new();
        for entry in self.entries.iter().skip(skip as usize).take_while(|entry| entry.index < high) {
            bytes += entry.data.len() as u64;
            if bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(entry.clone());
        }
        read
    }

    /// Bytes of the entries' data.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.data.len() as u64).sum()
    }

    pub(crate) fn perform(&mut self, persist: &Persist) {
        if let Some(position) = persist.reset_to {
            self.trimmed = position;
            self.entries.clear();
        }
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = persist.entries.first() {
            assert!(first.index > self.trimmed.0, "entry {} would replace what is trimmed", first.index);
            assert!(
                first.index.0 <= self.last().0 + 1,
                "entry {} leaves a gap after {}",
                first.index,
                self.last()
            );
            self.entries.truncate((first.index.0 - self.trimmed.0.0 - 1) as usize);
            self.entries.extend(persist.entries.iter().cloned());
        }
        if let Some((index, term)) = persist.trim_to {
            assert_eq!(
                self.term_at(index),
                Some(term),
                "the log is trimmed to a position that it does not have"
            );
            self.entries.drain(..(index.0 - self.trimmed.0.0) as usize);
            self.trimmed = (index, term);
        }
    }
}

/// A persist that has become durable.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) persist: Persist,
    /// The term of the entry before its first entry.
    pub(crate) before: Option<Term>,
}

/// What a server's disk holds.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The log as far as it is synced.
    pub(crate) log: LogImage,
    /// Written after that, in order, each whole or not at all (a torn record is found out by its checksum and cut off).
    pub(crate) unsynced: Vec<Persist>,
    /// The state as far as it is durable.
    pub(crate) state: MemStore,
}

impl Disk {
    /// What was written is synced.
    pub(crate) fn sync(&mut self) -> Vec<Synced> {
        let log = &mut self.log;
        let sync = |persist: Persist| {
            let before = persist.entries.first().and_then(|first| match persist.reset_to {
                Some((_, term)) => Some(term),
                None => log.term_at(Index(first.index.0 - 1)),
            });
            log.perform(&persist);
            Synced { persist, before }
        };
        self.unsynced.drain(..).map(sync).collect()
    }

    /// The process ended without a word, or the power failed. Returns what got onto the disk all the same.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> Vec<Synced> {
        let written = self.unsynced.len() as u64;
        let kept = match rng.below(3) {
            0 => 0,
            1 => written,
            _ => rng.below(written + 1),
        };
        self.unsynced.truncate(kept as usize);
        self.sync()
    }

    /// What a server makes of its disk at a start. If it stopped between installing a snapshot and emptying its log, the log
    /// does not have the state's position: it starts anew there.
    pub(crate) fn recover(
        &mut self,
        limits: Limits,
        initial: ConfState,
    ) -> Result<(Restored, Machine<MemStore>), StoreError> {
        let machine = Machine::open(self.state.clone(), limits, initial)?;
        let applied: Applied = machine.applied().clone();
        if self.log.term_at(applied.index) != Some(applied.term) {
            assert!(applied.index > self.log.trimmed.0, "the log is trimmed beyond the durable state");
            self.log.trimmed = (applied.index, applied.term);
            self.log.entries.clear();
        }
        #[cfg(feature = "mutants")]
        super::mutants::recovered_wrongly(&mut self.log, &applied);
        let restored = Restored {
            hard_state: self.log.hard_state,
            applied,
            trimmed: self.log.trimmed,
            entries: self.log.entries.iter().cloned().collect(),
        };
        Ok((restored, machine))
    }
}
