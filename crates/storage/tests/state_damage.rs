//! A state that is damaged, incomplete, in use or not ours: refused by name, or noticed on reading; never served.

mod common;

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use common::{Model, Random, apply, await_durable, copy, deaf, files, flip, notices, random_batch};
use pontoon_kv::{GroupId, Index, Reader, Store, WriteBatch};
use pontoon_storage::{
    StateOptions, StateStore,
    state::{Notice, OpenError},
};

const GROUP: GroupId = GroupId(1);

fn small() -> StateOptions {
    StateOptions { memtable_bytes: 32 << 10, cache_bytes: 1 << 20, open_files_max: 16 }
}

fn open(folder: &Path) -> StateStore {
    StateStore::open(folder, GROUP, small(), deaf()).expect("the state opens")
}

fn put(key: &str, value: &str) -> WriteBatch {
    WriteBatch::from([(Bytes::from(format!("\x01{key}")), Some(Bytes::from(value.to_owned())))])
}

/// A folder with tables, closed.
fn filled() -> (tempfile::TempDir, Model) {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let mut store = StateStore::open(folder.path(), GROUP, small(), notify).expect("the state opens");
    let (mut random, mut model) = (Random::new(21), Model::new());
    for index in 1..=150 {
        let batch = random_batch(&mut random, 1000);
        apply(&mut model, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
    }
    store.handle().request_flush();
    await_durable(&heard, Index(150));
    drop(store);
    // Until compactions have nothing left to do and only files remain that are needed.
    let mut before = files(folder.path());
    loop {
        drop(open(folder.path()));
        let after = files(folder.path());
        if after == before {
            return (folder, model);
        }
        before = after;
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_noticed_on_reading_and_never_served() {
    let (folder, model) = filled();
    let mut refused = 0;
    for (path, bytes) in files(folder.path()) {
        let name = path.strip_prefix(folder.path()).expect("below").to_owned();
        if name.ends_with("LOCK") {
            continue;
        }
        let step = (bytes.len() / 40).max(1);
        for offset in (0..bytes.len()).step_by(step) {
            let damaged = copy(folder.path());
            flip(&damaged.path().join(&name), offset);
            let Ok(store) = StateStore::open(damaged.path(), GROUP, small(), deaf()) else {
                refused += 1;
                continue;
            };
            let mut served = Model::new();
            let scanned = store.scan(&[], &[], &mut |key, value| {
                served.insert(key, value);
                true
            });
            assert!(scanned.is_err() || served == model, "{name:?}, byte {offset}: damaged data were served");
        }
    }
    assert!(refused > 100, "only {refused} damages were refused at the start");
}

#[test]
fn missing_and_cut_files_are_refused_and_nothing_is_changed() {
    let (folder, _) = filled();
    for (path, bytes) in files(folder.path()) {
        let name = path.strip_prefix(folder.path()).expect("below").to_owned();
        if name.ends_with("LOCK") {
            continue;
        }
        for keep in [None, Some(0), Some(bytes.len() / 2), Some(bytes.len() - 1)] {
            let damaged = copy(folder.path());
            let path = damaged.path().join(&name);
            match keep {
                None => fs::remove_file(&path).expect("removed"),
                Some(keep) => fs::write(&path, &bytes[..keep]).expect("cut"),
            }
            let before = files(damaged.path());
            let error = StateStore::open(damaged.path(), GROUP, small(), deaf()).err();
            assert!(matches!(error, Some(OpenError::Damaged { .. })), "{name:?} cut to {keep:?}: {error:?}");
            assert_eq!(files(damaged.path()), before, "{name:?} cut to {keep:?}");
        }
    }
}

#[test]
fn another_groups_state_is_refused() {
    let (folder, _) = filled();
    let error =
        StateStore::open(folder.path(), GroupId(2), small(), deaf()).err().expect("it belongs to group 1");
    assert!(error.to_string().contains("belongs to group 1, not to group 2"), "{error}");
}

#[test]
fn an_open_state_is_not_opened_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let _store = open(folder.path());
    assert!(matches!(StateStore::open(folder.path(), GROUP, small(), deaf()), Err(OpenError::Locked(_))));
}

#[test]
fn after_a_failed_flush_the_store_says_so_and_refuses_all_further_batches() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let mut store = StateStore::open(folder.path(), GROUP, small(), notify).expect("the state opens");
    store.write(Index(1), put("key", "value")).expect("the store accepts it");
    fs::remove_dir_all(folder.path().join("gen-1")).expect("removed");
    store.handle().request_flush();
    let notice = heard.recv_timeout(Duration::from_secs(20)).expect("a notice comes");
    assert!(matches!(notice, Notice::Failed(_)), "{notice:?}");
    let error = store.write(Index(2), put("key", "value")).expect_err("refused");
    assert!(error.to_string().contains("gen-1"), "{error}");
    assert_eq!(store.durable(), Index(0));
}
