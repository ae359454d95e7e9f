//! The log and the state in one data folder, as a server has them, and entries that follow from their index.

use std::{path::Path, sync::mpsc::Receiver};

use bytes::Bytes;
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Store, Term, WriteBatch};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::{DataFolder, Log, LogOptions, RestoredLog, StateOptions, StateStore, state::Notice};

use super::{Model, Random, apply, notices};

pub const GROUP: GroupId = GroupId(1);
pub const NODE: NodeId = NodeId(1);

pub struct Server {
    pub log: Log,
    pub store: StateStore,
    pub notices: Receiver<Notice>,
    pub restored: RestoredLog,
    _folder: DataFolder,
}

impl Server {
    /// Opens the folder or creates it. A log file and a memtable have `file_bytes`; the log is purged beyond four files.
    pub fn open(path: &Path, file_bytes: u64) -> Result<Server, String> {
        let folder = DataFolder::open(path, "crash-test", NODE).map_err(|error| error.to_string())?;
        let options = LogOptions { file_bytes, purge_bytes: 4 * file_bytes };
        let log = Log::open(&folder.log(), options).map_err(|error| error.to_string())?;
        let (notify, notices) = notices();
        let options = StateOptions { memtable_bytes: file_bytes, cache_bytes: 1 << 20, open_files_max: 32 };
        let store = StateStore::open(&folder.state(GROUP), GROUP, options, notify);
        let store = store.map_err(|error| error.to_string())?;
        let restored = log.restore(GROUP).map_err(|error| error.to_string())?;
        restored.check_continues(GROUP, store.applied()).map_err(|error| error.to_string())?;
        Ok(Server { log, store, notices, restored, _folder: folder })
    }

    /// Applies what the log has beyond the state. Returns the last entry.
    pub fn replay(&mut self) -> Index {
        let applied = self.store.applied();
        for entry in self.restored.entries.iter().filter(|entry| !is_junk(entry) && entry.index > applied) {
            self.store.write(entry.index, batch_of(entry)).expect("the state accepts it");
        }
        self.store.applied()
    }

    /// Resets the log to the state's end, if a snapshot became the state and the log was not reset.
    pub fn fit(&mut self) {
        let applied = self.store.applied();
        let known = |entry: &Entry| entry.index == applied && entry.term == term_at(applied.0);
        if self.restored.trimmed.0 != applied && !self.restored.entries.iter().any(known) {
            self.write(reset(applied.0));
            self.restored = self.log.restore(GROUP).expect("the log is restored");
        }
    }

    pub fn write(&self, persist: Persist) {
        self.log.write(&[(GROUP, persist)]).expect("the log accepts it");
    }
}

/// The entry at an index.
pub fn entry_at(index: u64) -> Entry {
    let mut random = Random::new(index);
    let length = random.below(3000);
    entry(index, random.bytes(length))
}

/// An entry that no majority has, to be overwritten.
pub fn junk_at(index: u64) -> Entry {
    entry(index, Bytes::from_static(b"junk"))
}

pub fn is_junk(entry: &Entry) -> bool {
    *entry.data == *b"junk"
}

fn entry(index: u64, data: Bytes) -> Entry {
    Entry { index: Index(index), term: term_at(index), clock: ClusterTime(index), data }
}

pub fn term_at(index: u64) -> Term {
    Term(1 + index / 1000)
}

/// What applying an entry changes.
pub fn batch_of(entry: &Entry) -> WriteBatch {
    let key = |number: u64| Bytes::from(format!("\x01key-{}", number % 97));
    let index = entry.index.0;
    WriteBatch::from([(key(index * 7), Some(entry.data.clone())), (key(index * 11 + 1), None)])
}

/// The state after the entries up to here.
pub fn advance(model: &mut Model, from: Index, to: Index) {
    for index in from.0 + 1..=to.0 {
        apply(model, &batch_of(&entry_at(index)));
    }
}

/// The log starts anew after a snapshot.
pub fn reset(index: u64) -> Persist {
    let position = (Index(index), term_at(index));
    let hard_state = HardState { term: position.1, vote: NODE, commit: position.0 };
    Persist { sync: true, reset_to: Some(position), hard_state: Some(hard_state), ..Persist::default() }
}

/// Makes a snapshot of this state the server's.
pub fn install(server: &mut Server, model: &Model, index: Index) {
    let mut stage = server.store.handle().stage(index).expect("a stage");
    let pairs: Vec<(Bytes, Bytes)> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for block in pairs.chunks(10) {
        stage.push(block.to_vec()).expect("the stage accepts it");
    }
    let staged = stage.finish().expect("the snapshot is durable");
    server.store = server.store.install(staged).expect("the snapshot is installed");
}
