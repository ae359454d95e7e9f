//! A bit flipped anywhere in a server's folder: refused in one sentence that names the file, noticed on reading, or without any
//! effect; never served.

#![allow(clippy::print_stderr, reason = "the table of docs/testing.md")]

mod common;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use common::{
    Model, Random, await_durable, copy, files,
    server::{GROUP, NODE, Server, advance, batch_of, entry_at, install, junk_at, reset, term_at},
};
use pontoon_kv::{Index, Reader, Store};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::{AFTER_DAMAGE, RestoredLog};

/// The size of a log file and of a memtable.
const FILE_BYTES: u64 = 16 << 10;
/// Of a file that has no more bytes, each is flipped; of a larger one as many, chosen by chance.
const FLIPS_MAX: u64 = 64;

/// What a server has.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    log: RestoredLog,
    applied: Index,
    state: Model,
}

/// What became of a flipped bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Refused,
    Noticed,
    WithoutEffect,
}

/// Folders of a server that has worked: one closed, and one of a killed server that was receiving a snapshot. With what they may
/// hold: the killed one with or without its last writes, which look torn if they are damaged.
fn worked() -> [(tempfile::TempDir, Vec<Contents>); 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::open(folder.path(), FILE_BYTES).expect("a new server starts");
    let mut model = Model::new();
    for index in 1..=80 {
        append(&mut server, index);
        if index % 20 == 0 {
            server.store.handle().request_flush();
            await_durable(&server.notices, Index(index));
            server.write(trim(index - 8));
            server.log.purge().expect("the log purges");
        }
    }
    advance(&mut model, Index(0), Index(90));
    install(&mut server, &model, Index(90));
    server.write(reset(90));
    (91..=110).for_each(|index| append(&mut server, index));
    server.store.handle().request_flush();
    await_durable(&server.notices, Index(110));
    let stored = |server: &Server| server.log.restore(GROUP).expect("the log is restored");
    let mut logs = vec![stored(&server)];
    for persist in writes(111) {
        server.write(persist);
        logs.push(stored(&server));
    }
    let mut stage = server.store.handle().stage(Index(200)).expect("a stage");
    stage.push(model.clone().into_iter().collect()).expect("the stage accepts it");
    let staged = stage.finish().expect("the snapshot is durable");
    let killed = copy(folder.path());
    drop(staged);
    drop(server);

    let server = Server::open(folder.path(), FILE_BYTES).expect("the server starts again");
    let (applied, state) = (server.store.applied(), common::contents(&server.store));
    drop(server);
    let closed = logs.last().expect("there is one").clone();
    let contents = |log| Contents { log, applied, state: state.clone() };
    [(folder, vec![contents(closed)]), (killed, logs.into_iter().map(contents).collect())]
}

fn append(server: &mut Server, index: u64) {
    writes(index).into_iter().for_each(|persist| server.write(persist));
    server.store.write(Index(index), batch_of(&entry_at(index))).expect("the state accepts it");
}

/// An entry that is replaced by another, which is durable.
fn writes(index: u64) -> [Persist; 2] {
    let hard_state = Some(HardState { term: term_at(index), vote: NODE, commit: Index(index - 1) });
    let junk = Persist { entries: vec![junk_at(index)], hard_state, ..Persist::default() };
    [junk, Persist { sync: true, hard_state, entries: vec![entry_at(index)], ..Persist::default() }]
}

fn trim(index: u64) -> Persist {
    Persist { trim_to: Some((Index(index), term_at(index))), ..Persist::default() }
}

#[test]
fn a_bit_flipped_anywhere_is_refused_or_noticed_or_without_effect_and_never_served() {
    let mut table: BTreeMap<&str, BTreeMap<Outcome, usize>> = BTreeMap::new();
    for (folder, contents) in worked() {
        let mut random = Random::new(7);
        for (path, bytes) in files(folder.path()) {
            let name = path.strip_prefix(folder.path()).expect("below");
            for offset in offsets(bytes.len() as u64, &mut random) {
                let bit = random.below(8);
                let outcome = flip_and_read(folder.path(), name, offset, bit, &contents);
                *table.entry(kind(name)).or_default().entry(outcome).or_default() += 1;
            }
        }
    }
    let count = |outcomes: &BTreeMap<Outcome, usize>, outcome| outcomes.get(&outcome).copied().unwrap_or(0);
    for (kind, outcomes) in &table {
        let [refused, noticed, without] = [Outcome::Refused, Outcome::Noticed, Outcome::WithoutEffect]
            .map(|outcome| count(outcomes, outcome));
        eprintln!("| {kind} | {} | {refused} | {noticed} | {without} |", refused + noticed + without);
    }
    for kind in ["identity", "CURRENT", "the tree's `current`"] {
        let outcomes = &table[kind];
        assert_eq!(
            outcomes.len(),
            usize::from(outcomes.contains_key(&Outcome::Refused)),
            "{kind}: {outcomes:?}"
        );
    }
    for kind in ["append file of the log", "rewrite file of the log", "manifest `v<n>`", "table"] {
        assert!(count(&table[kind], Outcome::Refused) > 0, "{kind}: {:?}", table[kind]);
    }
}

/// Which bytes to flip.
fn offsets(length: u64, random: &mut Random) -> Vec<u64> {
    if length <= FLIPS_MAX {
        (0..length).collect()
    } else {
        (0..FLIPS_MAX).map(|_| random.below(length)).collect()
    }
}

fn kind(name: &Path) -> &'static str {
    let last = name.file_name().expect("a name").to_str().expect("ASCII");
    let other = |part: &OsStr| part != "gen-2" && part.as_encoded_bytes().starts_with(b"gen-");
    match (last, name.extension().and_then(|extension| extension.to_str())) {
        _ if name.iter().any(other) => "generation that is not the state",
        ("identity", _) => "identity",
        ("CURRENT", _) => "CURRENT",
        ("current", _) => "the tree's `current`",
        (_, Some("raftlog")) => "append file of the log",
        (_, Some("rewrite")) => "rewrite file of the log",
        (_, Some("reserved")) => "log file kept for recycling",
        ("spare", _) => "log file prepared for later",
        (version, None) if version.starts_with('v') => "manifest `v<n>`",
        (_, None) if name.iter().any(|part| part == "tables") => "table",
        _ => panic!("what is {name:?}?"),
    }
}

/// Flips a bit in a copy of the folder, starts and reads all. What is served must be as it was.
fn flip_and_read(folder: &Path, name: &Path, offset: u64, bit: u64, contents: &[Contents]) -> Outcome {
    let context = format!("{}, byte {offset}, bit {bit}", name.display());
    let damaged = fast_copy(folder);
    let path = damaged.path().join(name);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[offset as usize] ^= 1 << bit;
    fs::write(&path, bytes).expect("writable");
    let opened = catch_unwind(AssertUnwindSafe(|| Server::open(damaged.path(), FILE_BYTES)));
    let server = match opened.unwrap_or_else(|_panic| panic!("{context}: the start panics")) {
        Ok(server) => server,
        Err(sentence) => {
            let says_what_to_do = sentence.contains(AFTER_DAMAGE) || sentence.contains("run the newer");
            let names_it = sentence.contains(&*damaged.path().to_string_lossy());
            assert!(says_what_to_do && names_it && !sentence.contains('\n'), "{context}: {sentence}");
            return Outcome::Refused;
        }
    };
    let mut state = Model::new();
    let read = server.store.scan(&[], &[], &mut |key, value| {
        state.insert(key, value);
        true
    });
    if let Err(error) = read {
        assert!(error.to_string().contains(AFTER_DAMAGE), "{context}: {error}");
        return Outcome::Noticed;
    }
    let served = Contents { log: server.restored.clone(), applied: server.store.applied(), state };
    assert!(contents.contains(&served), "{context}: damaged data are served");
    Outcome::WithoutEffect
}

/// A copy in memory, if that can be had.
fn fast_copy(folder: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    for (path, bytes) in files(folder) {
        let path: PathBuf = target.path().join(path.strip_prefix(folder).expect("below"));
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("the file is copied");
    }
    target
}
