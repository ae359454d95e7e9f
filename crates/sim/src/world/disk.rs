//! A server's disk. What is synced survives a crash. What is written and not synced survives batch by batch: each is one record
//! that is whole, torn or lost, and from the first that is not whole on, recovery cuts the log off.
//!
//! Damage (a flipped bit) is found when it is read: in the log at the next start, which reads all of it, or when a follower is to
//! be caught up from there; in the state as [`Tables`] say. The last batch is never damaged: no store could tell that from a
//! torn one (`storage::log` says so of itself), and a server that takes it for one has forgotten what it acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;
use pontoon_kv::{Applied, ConfState, Entry, Index, Limits, Machine, MemStore, Reader, Term};
use pontoon_replica::{HardState, Persist, Restored};

use super::{
    record,
    tables::{DamagedValue, Tables},
};
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
        self.entry(index).map(|entry| entry.term)
    }

    /// The entry at a position.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(index.0.checked_sub(self.trimmed.0.0 + 1)? as usize)
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

/// A bit that is not what was written.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// In the log's record of this entry.
    Entry(Index, u64),
    /// In a value of the state.
    Value(DamagedValue),
}

/// What a server's disk holds.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The log as far as it is synced.
    pub(crate) log: LogImage,
    /// Written after that, in order: batches, each one record.
    pub(crate) written: Vec<Vec<Persist>>,
    /// Where the entries of the last batch that was synced begin.
    last_batch: Index,
    /// The state as far as it is durable.
    pub(crate) state: MemStore,
    pub(crate) damage: Option<Damage>,
}

impl Disk {
    /// What was written is synced.
    pub(crate) fn sync(&mut self) -> Vec<Synced> {
        let log = &mut self.log;
        if let Some(last) = self.written.last() {
            let first = last.iter().filter_map(|persist| persist.entries.first()).map(|entry| entry.index);
            self.last_batch = first.min().unwrap_or(Index(u64::MAX));
        }
        let sync = |persist: Persist| {
            let before = persist.entries.first().and_then(|first| match persist.reset_to {
                Some((_, term)) => Some(term),
                None => log.term_at(Index(first.index.0 - 1)),
            });
            log.perform(&persist);
            Synced { persist, before }
        };
        self.written.drain(..).flatten().map(sync).collect()
    }

    /// The process ended without a word, or the power failed. Returns what got onto the disk all the same.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> Vec<Synced> {
        let whole = match rng.below(3) {
            0 => 0,
            1 => self.written.len(),
            _ => self.written.iter().take_while(|batch| is_whole(batch, rng)).count(),
        };
        self.written.truncate(whole);
        self.sync()
    }

    /// Flips a bit of the log, or of the state; none: there is nothing to damage.
    pub(crate) fn flip(&mut self, rng: &mut Rng) -> Option<Damage> {
        let bit = rng.next();
        let trimmed = self.log.trimmed.0.0;
        let entries = self.log.last().0.min(self.last_batch.0.saturating_sub(1)).saturating_sub(trimmed);
        self.damage = if entries > 0 && rng.chance(0.5) {
            Some(Damage::Entry(Index(trimmed + 1 + rng.below(entries)), bit))
        } else {
            let at = rng.below(self.state.len() as u64);
            self.key_at(at).map(|key| Damage::Value(DamagedValue { key, bit }))
        };
        self.damage.clone()
    }

    fn key_at(&self, mut at: u64) -> Option<Bytes> {
        let mut found = None;
        let look = &mut |key, _| {
            found = (at == 0).then_some(key);
            at = at.wrapping_sub(1);
            found.is_none()
        };
        self.state.scan(&[], &[], look).expect("a store in memory can be read");
        found
    }

    /// A snapshot becomes the state: in tables of its own, which replace the old ones.
    pub(crate) fn replace_state(&mut self, state: MemStore) {
        self.state = state;
        if matches!(self.damage, Some(Damage::Value(_))) {
            self.damage = None;
        }
    }

    /// The log has been trimmed beyond what was damaged: the file is gone.
    fn forget_trimmed_damage(&mut self) {
        if matches!(&self.damage, Some(Damage::Entry(index, _)) if self.log.entry(*index).is_none()) {
            self.damage = None;
        }
    }

    /// Reads the log, as a start does, or a reader of its older part.
    ///
    /// # Errors
    ///
    /// What is damaged.
    pub(crate) fn read_log(&mut self, low: Index, high: Index, bytes_max: u64) -> Result<Vec<Entry>, String> {
        self.forget_trimmed_damage();
        let mut entries = self.log.read(low, high, bytes_max);
        if let Some(Damage::Entry(damaged, bit)) = &self.damage
            && let Some(entry) = entries.iter_mut().find(|entry| entry.index == *damaged)
        {
            let mut bytes = record::of_entries(self.log.hard_state, vec![entry.clone()]);
            record::flip(&mut bytes, *bit);
            let read = record::entries(bytes).and_then(|mut entries| entries.pop());
            *entry = read.ok_or_else(|| format!("the log is damaged at entry {damaged}"))?;
        }
        Ok(entries)
    }

    /// The state, with its damage.
    pub(crate) fn tables(&self) -> Tables<MemStore> {
        let damaged = match &self.damage {
            Some(Damage::Value(damaged)) => Some(damaged.clone()),
            _ => None,
        };
        Tables { pairs: self.state.clone(), damaged }
    }

    /// What a server makes of its disk at a start. If it stopped between installing a snapshot and emptying its log, the log
    /// does not have the state's position: it starts anew there.
    ///
    /// # Errors
    ///
    /// What is damaged: the server refuses to start.
    pub(crate) fn recover(
        &mut self,
        limits: Limits,
        initial: ConfState,
    ) -> Result<(Restored, Machine<Tables<MemStore>>), String> {
        #[cfg(feature = "mutants")]
        super::mutants::cut_at_damage(self);
        if self.damage.is_some() {
            let first = Index(self.log.trimmed.0.0 + 1);
            self.log.entries = self.read_log(first, Index(u64::MAX), u64::MAX)?.into();
        }
        let machine =
            Machine::open(self.tables(), limits, initial).map_err(|error| format!("the state: {error}"))?;
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

/// Whether a batch that was not synced is all there after a crash.
fn is_whole(batch: &[Persist], rng: &mut Rng) -> bool {
    match rng.below(4) {
        0 | 1 => true,
        2 => false,
        _ => {
            let mut bytes = record::of_batch(batch);
            record::tear(&mut bytes, rng);
            record::entries(bytes).is_some()
        }
    }
}
