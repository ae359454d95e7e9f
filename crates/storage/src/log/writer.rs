//! Turns what is to be persisted into the engine's batches.

use std::{collections::BTreeMap, sync::Mutex};

use pontoon_kv::{Entry, GroupId, Index, Term};
use pontoon_replica::{HardState, Persist};
use raft_engine::{
    Command, LogBatch,
    internals::{EventListener, FileBlockHandle, LogQueue},
};

use super::{
    WriteError,
    record::{self, END_KEY, HARD_STATE_KEY, MARK_GROUP, MARK_KEY, Mark, POSITION_KEY, Place, StoredEntry},
};

/// The writing side.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) batch: LogBatch,
    /// What the next batch begins with.
    pub(super) mark: Mark,
    /// What is stored of each group; learnt at the start.
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Why nothing is written any more.
    pub(super) failure: Option<String>,
}

/// What is stored of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    pub(super) hard_state: HardState,
    pub(super) trimmed: (Index, Term),
    pub(super) last: Index,
}

impl Writer {
    /// Opens a batch with the mark, unless it is open.
    pub(super) fn begin(&mut self) {
        if self.batch.is_empty() {
            let put = self.batch.put(MARK_GROUP.0, MARK_KEY.to_vec(), self.mark.to_bytes());
            put.expect("the key is not one of the engine's own");
        }
    }

    pub(super) fn add(&mut self, group: GroupId, persist: &Persist) -> Result<(), WriteError> {
        assert_ne!(group, MARK_GROUP, "group {group} is not a Raft group");
        let nothing = persist.reset_to.is_none()
            && persist.hard_state.is_none()
            && persist.entries.is_empty()
            && persist.trim_to.is_none();
        if nothing {
            return Ok(());
        }
        self.begin();
        let mut stored = self.groups.get(&group).copied().unwrap_or_default();
        if let Some(position) = persist.reset_to {
            self.batch.add_command(group.0, Command::Clean);
            stored.trimmed = position;
            stored.last = position.0;
            self.put(group, POSITION_KEY, record::position_to_bytes(group, position));
            self.put(group, END_KEY, record::position_to_bytes(group, position));
        }
        if let Some(hard_state) = persist.hard_state {
            stored.hard_state = hard_state;
        }
        if persist.hard_state.is_some() || persist.reset_to.is_some() {
            self.put(group, HARD_STATE_KEY, record::hard_state_to_bytes(group, &stored.hard_state));
        }
        if let Some(last) = persist.entries.last() {
            stored.check_entries(group, &persist.entries);
            let added = self
                .batch
                .add_entries::<StoredEntry>(group.0, &record::entries_to_stored(group, &persist.entries));
            if let Err(error) = added {
                return Err(self.fail(error.to_string()));
            }
            stored.last = last.index;
            self.put(group, END_KEY, record::position_to_bytes(group, (last.index, last.term)));
        }
        if let Some(position) = persist.trim_to.filter(|position| position.0 > stored.trimmed.0) {
            assert!(
                position.0 <= stored.last,
                "group {group}: trimming to {} beyond the end {}",
                position.0,
                stored.last
            );
            self.batch.add_command(group.0, Command::Compact { index: position.0.0 + 1 });
            stored.trimmed = position;
            self.put(group, POSITION_KEY, record::position_to_bytes(group, position));
        }
        self.groups.insert(group, stored);
        Ok(())
    }

    /// Nothing is written from now on.
    pub(super) fn fail(&mut self, reason: String) -> WriteError {
        self.failure = Some(reason.clone());
        WriteError::Failed(reason)
    }

    fn put(&mut self, group: GroupId, key: &[u8], value: Vec<u8>) {
        self.batch.put(group.0, key.to_vec(), value).expect("the key is not one of the engine's own");
    }
}

impl Group {
    /// The engine would panic on a gap only after having written it.
    fn check_entries(&self, group: GroupId, entries: &[Entry]) {
        let first = entries[0].index;
        let (trimmed, last) = (self.trimmed.0, self.last);
        assert!(first > trimmed, "group {group}: entry {first} lies in the trimmed part, up to {trimmed}");
        assert!(first.0 <= last.0 + 1, "group {group}: entry {first} leaves a gap after {last}");
        let consecutive = entries.iter().zip(first.0..).all(|(entry, index)| entry.index.0 == index);
        assert!(consecutive, "group {group}: the entries from {first} on do not follow one another");
    }
}

/// Learns from the engine where its last batch ended.
#[derive(Default)]
pub(super) struct Written {
    end: Mutex<Place>,
}

impl EventListener for Written {
    fn on_append_log_file(&self, handle: FileBlockHandle) {
        if handle.id.queue == LogQueue::Append {
            let end = Place { file: handle.id.seq, offset: handle.offset + handle.len as u64 };
            *self.end.lock().expect("no panic holds this lock") = end;
        }
    }
}

impl Written {
    pub(super) fn end(&self) -> Place {
        *self.end.lock().expect("no panic holds this lock")
    }
}
