//! The state store: whole batches, frozen views, background flushes, snapshots that replace it, damage that is refused.

mod common;

use std::{path::Path, sync::Arc, thread};

use bytes::Bytes;
use common::{
    Model, Random, apply, await_durable, await_none, contents, copy, deaf, files, notices, random_batch,
};
use pontoon_kv::{GroupId, Index, Reader, Store, WriteBatch};
use pontoon_storage::{StateOptions, StateStore};

const GROUP: GroupId = GroupId(1);

fn small() -> StateOptions {
    StateOptions { memtable_bytes: 32 << 10, cache_bytes: 64 << 10, open_files_max: 16 }
}

fn open(folder: &Path) -> StateStore {
    StateStore::open(folder, GROUP, small(), deaf()).expect("the state opens")
}

fn put(key: &str, value: &str) -> WriteBatch {
    WriteBatch::from([(Bytes::from(format!("\x01{key}")), Some(Bytes::from(value.to_owned())))])
}

fn pairs(model: &Model) -> Vec<(Bytes, Bytes)> {
    model.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[test]
fn a_new_state_is_empty() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("state").join("1"));
    assert_eq!((store.applied(), store.durable()), (Index(0), Index(0)));
    assert_eq!(contents(&store), Model::new());
    assert_eq!(store.get(b"\x01missing").expect("readable"), None);
}

#[test]
fn it_reopens_at_a_batch_that_it_had_with_exactly_the_state_of_then() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let mut history = vec![(Index(0), Model::new())];
    let (mut restarts, mut lost, mut forgotten) = (0, 0, 0);
    for step in 0..1500 {
        let (index, mut model) = history.last().expect("the beginning stays").clone();
        let index = Index(index.0 + 1 + random.below(3));
        let batch = random_batch(&mut random, 3000);
        apply(&mut model, &batch);
        store.write(index, batch).expect("the store accepts it");
        assert_eq!(contents(&store), model, "seed {seed}, step {step}");
        let at = random.below(model.len() as u64 + 1) as usize;
        for (key, value) in model.iter().skip(at).take(3) {
            forgotten += u64::from(store.handle().known().get(key).is_none());
            let read = store.get(key).expect("readable");
            assert_eq!(read.as_ref(), Some(value), "seed {seed}, step {step}: {key:?}");
        }
        history.push((index, model));
        if random.below(20) == 0 {
            store.handle().request_flush();
        }
        if random.below(40) == 0 {
            drop(store);
            store = open(folder.path());
            let applied = store.applied();
            let position = history.iter().position(|(index, _)| *index == applied);
            let position =
                position.unwrap_or_else(|| panic!("seed {seed}, step {step}: no batch ends at {applied}"));
            (restarts, lost) = (restarts + 1, lost + history.len() - position - 1);
            history.truncate(position + 1);
            assert_eq!(
                contents(&store),
                history[position].1,
                "seed {seed}, step {step}: reopened at {applied}"
            );
        }
    }
    assert!(
        restarts > 5 && lost > 0 && forgotten > 100,
        "seed {seed}: {restarts} restarts lost {lost} batches in all, {forgotten} records were not in memory, too little to \
         prove anything"
    );
}

#[test]
fn a_view_stays_as_it_was_through_flushes_and_compactions() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let (mut model, mut views) = (Model::new(), Vec::new());
    for step in 1..=1500 {
        let batch = random_batch(&mut random, 2000);
        apply(&mut model, &batch);
        store.write(Index(step), batch).expect("the store accepts it");
        if random.below(50) == 0 {
            views.push((step, store.view(), model.clone()));
        }
        if views.len() > 8 || random.below(100) == 0 && !views.is_empty() {
            let (born, view, frozen) = views.swap_remove(random.below(views.len() as u64) as usize);
            assert_eq!(contents(&view), frozen, "seed {seed}: the view of {born}, at {step}");
            for key in frozen.keys().take(5).chain(model.keys().take(5)) {
                let seen = view.get(key).expect("readable");
                assert_eq!(seen.as_ref(), frozen.get(key), "seed {seed}: {key:?} in the view of {born}");
            }
        }
    }
    assert_eq!(contents(&store), model, "seed {seed}");
}

#[test]
fn a_view_can_be_read_by_another_thread_while_the_writer_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let mut random = Random::new(7);
    let mut model = Model::new();
    for index in 1..=200 {
        let batch = random_batch(&mut random, 2000);
        apply(&mut model, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
    }
    let view = store.view();
    let reader = thread::spawn(move || (0..50).for_each(|_| assert_eq!(contents(&view), model)));
    let mut index = 200;
    while !reader.is_finished() {
        index += 1;
        store.write(Index(index), random_batch(&mut random, 2000)).expect("the store accepts it");
    }
    reader.join().expect("the view stayed as it was");
}

#[test]
fn a_scan_visits_the_keys_of_its_range_in_order_until_it_is_told_to_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    for (index, key) in ["d", "b", "a", "c"].iter().enumerate() {
        store.write(Index(index as u64 + 1), put(key, "value")).expect("the store accepts it");
    }
    let visited = |from: &[u8], to: &[u8], count: usize| {
        let mut keys = Vec::new();
        let scanned = store.scan(from, to, &mut |key, _| {
            keys.push(String::from_utf8(key[1..].to_vec()).expect("text"));
            keys.len() < count
        });
        scanned.expect("readable");
        keys.concat()
    };
    assert_eq!(visited(b"", b"", 9), "abcd");
    assert_eq!(visited(b"\x01b", b"\x01d", 9), "bc");
    assert_eq!(visited(b"\x01b", b"", 2), "bc");
    assert_eq!(visited(b"\x01c", b"\x01a", 9), "");
}

#[test]
fn a_handle_knows_what_was_written_or_read_and_nothing_of_another_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let handle = store.handle();
    let known = |key: &[u8]| handle.known().get(key);
    store.write(Index(1), put("key", "old")).expect("the store accepts it");
    assert_eq!(known(b"\x01key"), Some(Some("old".into())));
    store.write(Index(2), put("key", "new")).expect("the store accepts it");
    assert_eq!(known(b"\x01key"), Some(Some("new".into())));
    store.write(Index(3), WriteBatch::from([("\x01key".into(), None)])).expect("the store accepts it");
    assert_eq!(known(b"\x01key"), Some(None), "it is known to be gone");
    assert_eq!(known(b"\x01other"), None, "nobody has looked for it");
    store.get(b"\x01other").expect("readable");
    assert_eq!(known(b"\x01other"), Some(None));
    let staged = handle.stage(Index(4)).and_then(pontoon_storage::state::Stage::finish).expect("a snapshot");
    let _installed = store.install(staged).expect("it is installed");
    assert_eq!(known(b"\x01key"), None, "nothing is known of another state");
}

#[test]
fn a_long_record_that_was_read_is_left_to_the_tree() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let options = StateOptions { cache_bytes: 8 << 20, ..small() };
    let mut store = StateStore::open(folder.path(), GROUP, options, notify).expect("the state opens");
    let long = "v".repeat((8 << 10) + 1);
    let batch = put("long", &long).into_iter().chain(put("short", &long[1..]));
    store.write(Index(1), batch.collect()).expect("the store accepts it");
    store.handle().request_flush();
    await_durable(&heard, Index(1));
    drop(store);
    let store = StateStore::open(folder.path(), GROUP, options, deaf()).expect("the state opens");
    let known = |key: &[u8]| store.handle().known().get(key).flatten();
    assert_eq!(store.get(b"\x01long").expect("readable").as_deref(), Some(long.as_bytes()));
    assert_eq!(known(b"\x01long"), None);
    assert_eq!(store.get(b"\x01short").expect("readable").as_deref(), Some(&long.as_bytes()[1..]));
    assert_eq!(known(b"\x01short").as_deref(), Some(&long.as_bytes()[1..]));
}

/// Keys and records may be parts of messages, and of memory that is used again.
#[test]
fn nothing_of_a_batch_is_held_when_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let message: Arc<[u8]> = (*b"\x01key value").into();
    let bytes = Bytes::from_owner(message.clone());
    let batch = WriteBatch::from([(bytes.slice(..4), Some(bytes.slice(5..)))]);
    drop(bytes);
    store.write(Index(1), batch).expect("the store accepts it");
    assert_eq!(Arc::strong_count(&message), 1);
    assert_eq!(store.get(b"\x01key").expect("readable"), Some("value".into()));
}

#[test]
fn a_requested_flush_makes_all_that_is_applied_durable_and_says_so_every_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let mut store = StateStore::open(folder.path(), GROUP, small(), notify).expect("the state opens");
    let handle = store.handle();
    for index in [3, 4, 9] {
        store.write(Index(index), put("key", "value")).expect("the store accepts it");
    }
    assert_eq!(store.durable(), Index(0));
    handle.request_flush();
    await_durable(&heard, Index(9));
    assert_eq!((store.durable(), handle.durable()), (Index(9), Index(9)));
    handle.request_flush();
    await_durable(&heard, Index(9));
    drop((store, handle));
    assert_eq!(open(folder.path()).applied(), Index(9));
}

#[test]
fn ordinary_flushes_are_announced() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let mut store = StateStore::open(folder.path(), GROUP, small(), notify).expect("the state opens");
    let mut random = Random::new(1);
    for index in 1..=100 {
        store.write(Index(index), random_batch(&mut random, 3000)).expect("the store accepts it");
    }
    await_durable(&heard, Index(1));
    assert!(store.durable() <= Index(100));
}

#[test]
fn the_longest_keys_and_large_values_are_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let mut store = StateStore::open(folder.path(), GROUP, small(), notify).expect("the state opens");
    let mut random = Random::new(3);
    let mut model = Model::new();
    for (index, last) in (1..=5).zip(b"abcde") {
        let mut key = vec![b'k'; usize::from(u16::MAX)];
        *key.last_mut().expect("it is long") = *last;
        let batch = WriteBatch::from([(Bytes::from(key), Some(random.bytes(1 << 20)))]);
        apply(&mut model, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
    }
    assert_eq!(contents(&store), model);
    store.handle().request_flush();
    await_durable(&heard, Index(5));
    drop(store);
    let store = open(folder.path());
    assert_eq!(contents(&store), model);
    assert_eq!(store.get(&[b'k'; 70_000]).expect("a key that cannot be is not there"), None);
}

#[test]
fn a_scan_may_begin_and_end_at_keys_that_are_too_long_to_be_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    let longest = |last: u8| [&[b'k'; u16::MAX as usize - 1][..], &[last]].concat();
    let pairs = [b'a', b'b', b'c'].map(|last| (Bytes::from(longest(last)), Some(Bytes::from(vec![last]))));
    store.write(Index(1), WriteBatch::from(pairs)).expect("the store accepts it");
    let beyond = |last: u8| [longest(last), vec![0]].concat();
    let visited = |from: &[u8], to: &[u8]| {
        let mut values = Vec::new();
        store
            .scan(from, to, &mut |_, value| {
                values.extend_from_slice(&value);
                true
            })
            .expect("readable");
        values
    };
    assert_eq!(visited(&longest(b'a'), &longest(b'c')), b"ab");
    assert_eq!(visited(&beyond(b'a'), &longest(b'c')), b"b");
    assert_eq!(visited(&longest(b'a'), &beyond(b'b')), b"ab");
    assert_eq!(visited(&beyond(b'a'), &[]), b"bc");
    assert_eq!(visited(&beyond(b'c'), &[]), b"");
}

#[test]
#[should_panic = "comes after batch"]
fn a_batch_that_is_not_after_the_last_is_a_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path());
    store.write(Index(5), put("key", "value")).expect("the store accepts it");
    let _ = store.write(Index(5), put("key", "value"));
}

#[test]
fn a_writer_that_outruns_the_disk_is_held_back_in_bounded_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = StateOptions { memtable_bytes: 1 << 10, ..small() };
    let mut store = StateStore::open(folder.path(), GROUP, options, deaf()).expect("the state opens");
    let mut random = Random::new(5);
    let mut model = Model::new();
    for index in 1..=400 {
        let batch = random_batch(&mut random, 2000);
        apply(&mut model, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
        assert!(
            index - store.durable().0 <= 24,
            "{index} batches are applied and {} durable",
            store.durable()
        );
    }
    assert_eq!(contents(&store), model);
}

#[test]
fn overwritten_values_leave_the_disk_with_later_flushes_and_old_versions_when_the_store_is_idle() {
    let folder = tempfile::tempdir().expect("a folder");
    let (notify, heard) = notices();
    let mut store = StateStore::open(folder.path(), GROUP, small(), notify).expect("the state opens");
    let mut random = Random::new(9);
    let (mut model, mut view) = (Model::new(), store.view());
    for index in 1..=3000 {
        let key = Bytes::from(format!("\x01{}", index % 10));
        let batch = WriteBatch::from([(key, Some(random.bytes(2000)))]);
        apply(&mut model, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
        if index % 100 == 0 {
            view = store.view();
        }
    }
    store.handle().request_flush();
    await_durable(&heard, Index(3000));
    assert_eq!(contents(&view), model);
    drop(view);
    // What the view pinned, and what waits for company in the first level, goes with the next compaction. These flushes bring
    // it about: fewer than ten of them can wait there.
    for index in 3001..=3010 {
        let batch = (0..10).map(|key| (Bytes::from(format!("\x01{key}")), Some(random.bytes(2000))));
        let batch = WriteBatch::from_iter(batch);
        apply(&mut model, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
        store.handle().request_flush();
        await_durable(&heard, Index(index));
    }
    await_none(|| {
        let names = files(&folder.path().join("gen-1"));
        let versions = names.keys().filter(|path| is_version(path)).count();
        let bytes: usize = names.values().map(Vec::len).sum();
        let too_many = versions > 1 || bytes >= 240_000;
        too_many.then(|| format!("20 kB of data take {bytes} bytes, in {versions} versions"))
    });
    assert_eq!(contents(&store), model);
}

/// Whether this is a manifest of the tree.
fn is_version(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v'))
}

#[test]
fn an_installed_snapshot_is_the_state_and_open_views_stay_on_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random::new(11);
    let mut store = open(folder.path());
    let (mut old, mut new) = (Model::new(), Model::new());
    for index in 1..=300 {
        let batch = random_batch(&mut random, 2000);
        apply(&mut old, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
        apply(&mut new, &random_batch(&mut random, 2000));
    }
    let (view, handle) = (store.view(), store.handle());
    let mut stage = store.handle().stage(Index(1000)).expect("a stage");
    for block in pairs(&new).chunks(7) {
        stage.push(block.to_vec()).expect("the stage accepts it");
    }
    let staged = stage.finish().expect("the snapshot is durable");
    assert_eq!(contents(&store), old, "nothing changes before the install");
    let installed = store.install(staged).expect("the snapshot is installed");
    assert_eq!((installed.applied(), handle.durable()), (Index(1000), Index(1000)));
    assert_eq!(contents(&installed), new);
    assert_eq!((contents(&view), contents(&store)), (old.clone(), old));
    store.write(Index(1001), put("key", "value")).expect_err("the replaced store accepts nothing");
    drop((store, view));
    let replaced = folder.path().join("gen-1");
    await_none(|| replaced.exists().then(|| "the replaced state is still there, without a view".to_owned()));
    let mut store = installed;

    let mut random = Random::new(12);
    for index in 1001..=1300 {
        let batch = random_batch(&mut random, 2000);
        apply(&mut new, &batch);
        store.write(Index(index), batch).expect("the store accepts it");
    }
    assert_eq!(contents(&store), new);
    handle.request_flush();
    drop((store, handle));
    assert!(open(folder.path()).applied() >= Index(1000));
}

#[test]
fn an_installed_snapshot_survives_a_restart_with_an_empty_memtable() {
    let folder = tempfile::tempdir().expect("a folder");
    let new = Model::from([(Bytes::from_static(b"\x01key"), Bytes::from_static(b"value"))]);
    {
        let mut store = open(folder.path());
        let index = Index(77);
        let mut stage = store.handle().stage(index).expect("a stage");
        stage.push(pairs(&new)).expect("the stage accepts it");
        let staged = stage.finish().expect("durable");
        assert_eq!(store.install(staged).expect("installed").applied(), index);
    }
    let store = open(folder.path());
    assert_eq!((store.applied(), contents(&store)), (Index(77), new));
}

#[test]
fn an_empty_snapshot_can_be_installed() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let mut store = open(folder.path());
        store.write(Index(1), put("key", "value")).expect("the store accepts it");
        let index = Index(5);
        let staged = store.handle().stage(index).expect("a stage").finish().expect("durable");
        assert_eq!(store.install(staged).expect("installed").applied(), index);
    }
    let store = open(folder.path());
    assert_eq!((store.applied(), contents(&store)), (Index(5), Model::new()));
}

#[test]
fn a_snapshot_that_is_not_installed_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let mut stage = store.handle().stage(Index(10)).expect("a stage");
    stage
        .push(vec![(Bytes::from_static(b"\x01key"), Bytes::from_static(b"value"))])
        .expect("the stage accepts it");
    drop(stage);
    assert!(!folder.path().join("gen-2").exists(), "a transfer that broke off");
    let staged = store.handle().stage(Index(10)).expect("a stage").finish().expect("durable");
    assert!(folder.path().join("gen-3").exists());
    let crashed = copy(folder.path());
    drop(staged);
    assert!(!folder.path().join("gen-3").exists(), "a snapshot that was not wanted");
    let store = open(crashed.path());
    assert_eq!(store.applied(), Index(0));
    assert!(!crashed.path().join("gen-3").exists(), "a crash before the install");
}

#[test]
fn a_snapshot_whose_keys_are_not_in_order_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for keys in [[&b"\x01b"[..], b"\x01a"], [b"\x01a", b"\x01a"], [b"", b"\x01a"], [b"\x01a", b"\xff"]] {
        let mut stage = store.handle().stage(Index(10)).expect("a stage");
        let block = keys.map(|key| (Bytes::copy_from_slice(key), Bytes::new())).to_vec();
        let error = stage.push(block).and_then(|()| stage.finish().map(drop)).expect_err("out of order");
        assert!(error.to_string().contains("not in order"), "{error}");
    }
    assert_eq!(store.applied(), Index(0));
}
