//! The log as raft-rs reads it: its end in memory, its older part by asking the disk.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
};

use pontoon_kv::{Entry, Index, NodeId, Term};
use raft::{GetEntriesContext, RaftState, StorageError, eraftpb};

use crate::{
    Restored, SnapshotMeta,
    convert::{conf_state_to_raft, entry_to_raft, hard_state_to_raft, snapshot_to_raft},
};

/// What an entry is counted as beyond its data, in bytes.
const ENTRY_BYTES: u64 = 32;

/// The log's window.
///
/// - The log covers `trimmed.0 < index <= last`; of it, memory holds `window_first..=last`.
/// - Entries that are not applied or not durable are always in the window.
/// - `terms` and `marks` cover the whole log, also what the window has let go.
pub(crate) struct LogWindow {
    initial: RaftState,
    trimmed: (u64, u64),
    last: u64,
    window: VecDeque<eraftpb::Entry>,
    window_bytes: u64,
    /// (first index, term) of each run of one term.
    terms: VecDeque<(u64, u64)>,
    /// (index, bytes of all entries ever up to it): possible places to trim, at least `mark_bytes` apart.
    marks: VecDeque<(u64, u64)>,
    mark_bytes: u64,
    /// Bytes of all entries ever, and of those that are trimmed.
    bytes_total: u64,
    bytes_trimmed: u64,
    wanted: RefCell<Wanted>,
    /// Pinned views, by the follower that they are for.
    built: BTreeMap<u64, SnapshotMeta>,
}

/// What raft-rs asked for and must wait for.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Reads to ask of the disk: low, high, about how many bytes.
    pub(crate) reads: Vec<(u64, u64, u64)>,
    contexts: BTreeMap<u64, GetEntriesContext>,
    fetched: BTreeMap<u64, Vec<eraftpb::Entry>>,
    /// Followers that need a snapshot.
    pub(crate) snapshots: Vec<u64>,
}

fn size(entry: &eraftpb::Entry) -> u64 {
    entry.data.len() as u64 + ENTRY_BYTES
}

impl LogWindow {
    pub(crate) fn new(restored: Restored, mark_bytes: u64) -> LogWindow {
        let applied = restored.applied;
        let mut hard_state = restored.hard_state;
        // The state may be ahead of the last hard state that reached the disk: what was applied was committed.
        hard_state.commit = hard_state.commit.max(applied.index);
        let trimmed = (restored.trimmed.0.0, restored.trimmed.1.0);
        let mut log = LogWindow {
            initial: RaftState::new(hard_state_to_raft(hard_state), conf_state_to_raft(&applied.conf_state)),
            trimmed,
            last: trimmed.0,
            window: VecDeque::new(),
            window_bytes: 0,
            terms: VecDeque::new(),
            marks: VecDeque::new(),
            mark_bytes,
            bytes_total: 0,
            bytes_trimmed: 0,
            wanted: RefCell::default(),
            built: BTreeMap::new(),
        };
        assert!(
            trimmed.0 <= applied.index.0,
            "the log is trimmed to {} beyond the state at {}",
            trimmed.0,
            applied.index
        );
        log.append(restored.entries.into_iter().map(entry_to_raft).collect());
        assert!(
            log.last >= applied.index.0,
            "the log ends at {} before the state at {}",
            log.last,
            applied.index
        );
        log
    }

    pub(crate) fn trimmed(&self) -> Index {
        Index(self.trimmed.0)
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.last)
    }

    /// Bytes of the entries that are not trimmed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_total - self.bytes_trimmed
    }

    /// Bytes of the entries that are in memory.
    pub(crate) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn window_first(&self) -> u64 {
        self.last + 1 - self.window.len() as u64
    }

    /// Appends, after removing whatever stands from the first entry's index on.
    pub(crate) fn append(&mut self, entries: Vec<eraftpb::Entry>) {
        let Some(first) = entries.first() else { return };
        self.truncate(first.index);
        for entry in entries {
            assert_eq!(entry.index, self.last + 1, "entries of a log are contiguous");
            self.last = entry.index;
            self.bytes_total += size(&entry);
            self.window_bytes += size(&entry);
            if self.terms.back().is_none_or(|run| run.1 != entry.term) {
                self.terms.push_back((entry.index, entry.term));
            }
            if self.marks.back().map_or(self.bytes_trimmed, |mark| mark.1) + self.mark_bytes
                <= self.bytes_total
            {
                self.marks.push_back((entry.index, self.bytes_total));
            }
            self.window.push_back(entry);
        }
    }

    fn truncate(&mut self, from: u64) {
        assert!(from <= self.last + 1, "entries from {from} on leave a gap after {}", self.last);
        assert!(from >= self.window_first(), "entries from {from} on would replace what is applied");
        while self.last >= from {
            let entry = self.window.pop_back().expect("the window reaches from its first to the last entry");
            self.bytes_total -= size(&entry);
            self.window_bytes -= size(&entry);
            self.last -= 1;
        }
        while self.terms.back().is_some_and(|run| run.0 > self.last) {
            self.terms.pop_back();
        }
        while self.marks.back().is_some_and(|mark| mark.0 > self.last) {
            self.marks.pop_back();
        }
    }

    /// Lets go of the window's oldest entries up to `index`, as far as there are more than `bytes_max`.
    pub(crate) fn shrink_window(&mut self, index: u64, bytes_max: u64) {
        while self.window_bytes > bytes_max && self.window.front().is_some_and(|entry| entry.index <= index) {
            let entry = self.window.pop_front().expect("there is a front");
            self.window_bytes -= size(&entry);
        }
    }

    /// Where to trim so that about `keep_bytes` remain (for followers that lag a little), never beyond `limit`.
    pub(crate) fn trim_point(&self, limit: Index, keep_bytes: u64) -> Option<(Index, Term)> {
        let within = self.marks.iter().take_while(|mark| mark.0 <= limit.0);
        let mut best = None;
        for mark in within {
            best = Some(mark.0);
            if self.bytes_total - mark.1 <= keep_bytes {
                break;
            }
        }
        best.map(|index| (Index(index), Term(self.term_of(index).expect("a mark is within the log"))))
    }

    /// Bytes of the entries after this index, or a little more if it is not one to trim at.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        let before = self.marks.iter().take_while(|mark| mark.0 <= index.0).last();
        self.bytes_total - before.map_or(self.bytes_trimmed, |mark| mark.1)
    }

    /// Forgets the entries up to this position.
    pub(crate) fn trim(&mut self, (index, term): (Index, Term)) {
        assert!(self.trimmed.0 <= index.0 && index.0 <= self.last, "trim to {index} is outside of the log");
        while self.marks.front().is_some_and(|mark| mark.0 <= index.0) {
            self.bytes_trimmed = self.marks.pop_front().expect("there is a front").1;
        }
        while self.terms.get(1).is_some_and(|run| run.0 <= index.0 + 1) {
            self.terms.pop_front();
        }
        while self.window.front().is_some_and(|entry| entry.index <= index.0) {
            let entry = self.window.pop_front().expect("there is a front");
            self.window_bytes -= size(&entry);
        }
        self.trimmed = (index.0, term.0);
    }

    /// Empties the log: it starts after this position (a snapshot is the state now).
    pub(crate) fn reset(&mut self, (index, term): (Index, Term)) {
        self.window.clear();
        self.window_bytes = 0;
        self.terms.clear();
        self.marks.clear();
        self.bytes_trimmed = self.bytes_total;
        self.trimmed = (index.0, term.0);
        self.last = index.0;
    }

    fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.trimmed.0 {
            return Some(self.trimmed.1);
        }
        if index < self.trimmed.0 || index > self.last {
            return None;
        }
        let run = self.terms.partition_point(|run| run.0 <= index);
        Some(self.terms[run - 1].1)
    }

    /// What raft-rs has asked for since the last call.
    pub(crate) fn take_wanted(&mut self) -> Wanted {
        let wanted = self.wanted.get_mut();
        Wanted {
            reads: std::mem::take(&mut wanted.reads),
            snapshots: std::mem::take(&mut wanted.snapshots),
            ..Wanted::default()
        }
    }

    /// The disk answered. What comes back is to be told to raft-rs, which reads the entries then.
    pub(crate) fn fetched(&mut self, low: Index, entries: Vec<Entry>) -> Option<GetEntriesContext> {
        let wanted = self.wanted.get_mut();
        let context = wanted.contexts.remove(&low.0)?;
        let entries: Vec<_> = entries.into_iter().map(entry_to_raft).collect();
        assert!(
            entries.first().is_none_or(|first| first.index == low.0),
            "the disk answered with other entries"
        );
        // An entry that was replaced while the disk was being read must not be sent as this leader's.
        let intact = entries.iter().all(|entry| self.term_of(entry.index) == Some(entry.term));
        if intact && !entries.is_empty() {
            self.wanted.get_mut().fetched.insert(low.0, entries);
        }
        Some(context)
    }

    /// Drops what raft-rs did not take after all.
    pub(crate) fn drop_fetched(&mut self) {
        self.wanted.get_mut().fetched.clear();
    }

    pub(crate) fn snapshot_built(&mut self, to: NodeId, meta: SnapshotMeta) {
        self.built.insert(to.0, meta);
    }

    pub(crate) fn snapshot_done(&mut self, to: NodeId) {
        self.built.remove(&to.0);
    }

    fn take_size_limited<'a>(
        entries: impl Iterator<Item = &'a eraftpb::Entry>,
        bytes_max: u64,
    ) -> Vec<eraftpb::Entry> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for entry in entries {
            bytes += size(entry);
            if bytes > bytes_max && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        taken
    }
}

impl raft::Storage for LogWindow {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.trimmed.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last + 1, "raft-rs reads up to {high}, beyond the last entry {}", self.last);
        let bytes_max = bytes_max.into().unwrap_or(u64::MAX);
        let first = self.window_first();
        if low >= first {
            let range = (low - first) as usize..(high - first) as usize;
            return Ok(Self::take_size_limited(self.window.range(range), bytes_max));
        }
        assert!(
            context.can_async(),
            "what is not applied is in the window, and raft-rs reads the rest only for followers"
        );
        let mut wanted = self.wanted.borrow_mut();
        if let Some(entries) = wanted.fetched.remove(&low) {
            let below = entries.iter().take_while(|entry| entry.index < high);
            return Ok(Self::take_size_limited(below, bytes_max));
        }
        let Wanted { reads, contexts, .. } = &mut *wanted;
        // Another follower that waits for the same place asks again after its next heartbeat.
        contexts.entry(low).or_insert_with(|| {
            reads.push((low, high.min(first), bytes_max));
            context
        });
        Err(StorageError::LogTemporarilyUnavailable.into())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.trimmed.0 => Err(StorageError::Compacted.into()),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.trimmed.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last)
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<eraftpb::Snapshot> {
        match self.built.get(&to) {
            Some(meta) if meta.index.0 >= request_index => Ok(snapshot_to_raft(meta)),
            _ => {
                self.wanted.borrow_mut().snapshots.push(to);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}
