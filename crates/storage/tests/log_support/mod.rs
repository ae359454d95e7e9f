//! What the tests of the log share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Term};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::log::{Log, LogOptions, RestoredLog};

pub const GROUP: GroupId = GroupId(1);
pub const OTHER: GroupId = GroupId(2);

pub fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let data = (0..bytes).map(|at| (index as usize * 31 + term as usize * 7 + at) as u8).collect::<Vec<u8>>();
    Entry { index: Index(index), term: Term(term), clock: ClusterTime(index * 10), data: Bytes::from(data) }
}

pub fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Vec<Entry> {
    indexes.map(|index| entry(index, term, bytes)).collect()
}

pub fn append(entries: Vec<Entry>) -> Persist {
    Persist { sync: true, entries, ..Persist::default() }
}

pub fn trim(index: u64, term: u64) -> Persist {
    Persist { trim_to: Some((Index(index), Term(term))), ..Persist::default() }
}

pub fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: NodeId(vote), commit: Index(commit) }
}

pub fn small() -> LogOptions {
    LogOptions { file_bytes: 16 << 10, purge_bytes: 64 << 10 }
}

pub fn open(folder: &Path) -> Log {
    Log::open(folder, small()).expect("the log opens")
}

pub fn write(log: &Log, persist: Persist) {
    log.write(&[(GROUP, persist)]).expect("the log accepts the write");
}

pub fn indexes(restored: &RestoredLog) -> Vec<u64> {
    restored.entries.iter().map(|entry| entry.index.0).collect()
}

/// The newest file of the append queue.
pub fn newest_file(folder: &Path) -> PathBuf {
    append_files(folder).pop().expect("the log has a file")
}

pub fn append_files(folder: &Path) -> Vec<PathBuf> {
    let files =
        fs::read_dir(folder).expect("the folder is readable").map(|file| file.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "raftlog")).collect();
    files.sort();
    files
}

/// A copy as a crash would leave it: the log is not closed, so nothing is cut or marked.
pub fn crash_copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in fs::read_dir(folder).expect("the folder is readable") {
        let file = file.expect("an entry");
        fs::copy(file.path(), copy.path().join(file.file_name())).expect("the file is copied");
    }
    copy
}

pub fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).expect("the file is readable");
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).expect("the file is writable");
}

pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files =
        fs::read_dir(folder).expect("the folder is readable").map(|file| file.expect("an entry").path());
    files.map(|path| (path.clone(), fs::read(path).expect("the file is readable"))).collect()
}
