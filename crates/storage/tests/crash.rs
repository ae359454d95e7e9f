//! `kill -9` at random moments: the state store and the replayed log equal a model fed with the same entries.
//!
//! A child process writes entries to the log, applies them, flushes, trims, purges, and now and then installs a snapshot, all as
//! fast as it can, until it is killed. All that it writes follows from the log index, so that the parent can tell what must be there.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::Receiver,
    thread,
    time::Duration,
};

use bytes::Bytes;
use common::{Model, Random, apply, contents, notices};
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Store, Term, WriteBatch};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::{DataFolder, Log, LogOptions, RestoredLog, StateOptions, StateStore, state::Notice};

const GROUP: GroupId = GroupId(1);
const NODE: NodeId = NodeId(1);
const KILLS: u64 = 20;
/// Names the data folder to the child.
const FOLDER_VARIABLE: &str = "PONTOON_CRASH_TEST_FOLDER";

/// The log and the state in one data folder, as a server has them.
struct Server {
    _folder: DataFolder,
    log: Log,
    store: StateStore,
    notices: Receiver<Notice>,
    restored: RestoredLog,
}

impl Server {
    fn open(path: &Path) -> Server {
        let folder = DataFolder::open(path, "crash-test", NODE).expect("the data folder opens");
        let options = LogOptions { file_bytes: 64 << 10, purge_bytes: 256 << 10 };
        let log = Log::open(&folder.log(), options).expect("the log opens");
        let (notify, notices) = notices();
        let options = StateOptions { memtable_bytes: 64 << 10, cache_bytes: 1 << 20, open_files_max: 32 };
        let store = StateStore::open(&folder.state(GROUP), GROUP, options, notify).expect("the state opens");
        let restored = log.restore(GROUP).expect("the log is restored");
        Server { _folder: folder, log, store, notices, restored }
    }

    /// Applies what the log has beyond the state. Returns the last entry.
    fn replay(&mut self) -> Index {
        let applied = self.store.applied();
        for entry in self.restored.entries.iter().filter(|entry| !is_junk(entry) && entry.index > applied) {
            self.store.write(entry.index, batch_of(entry)).expect("the state accepts it");
        }
        self.store.applied()
    }

    fn write(&self, persist: Persist) {
        self.log.write(&[(GROUP, persist)]).expect("the log accepts it");
    }
}

/// The entry at an index.
fn entry_at(index: u64) -> Entry {
    let mut random = Random::new(index);
    let length = random.below(3000);
    entry(index, random.bytes(length))
}

/// An entry that no majority has, to be overwritten.
fn junk_at(index: u64) -> Entry {
    entry(index, Bytes::from_static(b"junk"))
}

fn is_junk(entry: &Entry) -> bool {
    *entry.data == *b"junk"
}

fn entry(index: u64, data: Bytes) -> Entry {
    Entry { index: Index(index), term: term_at(index), clock: ClusterTime(index), data }
}

fn term_at(index: u64) -> Term {
    Term(1 + index / 1000)
}

/// What applying an entry changes.
fn batch_of(entry: &Entry) -> WriteBatch {
    let key = |number: u64| Bytes::from(format!("\x01key-{}", number % 97));
    let index = entry.index.0;
    WriteBatch::from([(key(index * 7), Some(entry.data.clone())), (key(index * 11 + 1), None)])
}

/// The state after the entries up to here.
fn advance(model: &mut Model, from: Index, to: Index) {
    for index in from.0 + 1..=to.0 {
        apply(model, &batch_of(&entry_at(index)));
    }
}

#[test]
fn after_kill_9_the_state_and_the_replayed_log_equal_the_model() {
    let seed = Random::seed();
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (mut durable, mut model) = (Index(0), Model::new());
    let (mut replayed, mut trimmed) = (0, 0);
    for kill in 1..=KILLS {
        let pause = Duration::from_millis(10 + random.below(700));
        let acknowledged = run_and_kill(&data, pause);
        let context = format!("seed {seed}, kill {kill} after {pause:?}, {acknowledged} acknowledged");

        let mut server = Server::open(&data);
        let applied = server.store.applied();
        assert!(applied >= durable, "{context}: the state went back from {durable} to {applied}");
        advance(&mut model, durable, applied);
        durable = applied;
        assert_eq!(contents(&server.store), model, "{context}: the state of {applied}");
        assert!(
            server.restored.trimmed.0 <= applied,
            "{context}: the log begins at {:?}",
            server.restored.trimmed
        );
        for entry in server.restored.entries.iter().filter(|entry| !is_junk(entry)) {
            assert_eq!(*entry, entry_at(entry.index.0), "{context}");
        }
        let last = server.replay();
        assert!(last >= acknowledged, "{context}: the log ends at {last}");
        let mut replayed_model = model.clone();
        advance(&mut replayed_model, applied, last);
        assert_eq!(
            contents(&server.store),
            replayed_model,
            "{context}: the state of {last}, replayed from {applied}"
        );
        replayed += last.0 - applied.0;
        trimmed = server.restored.trimmed.0.0;
    }
    assert!(replayed > 0 && trimmed > 0, "seed {seed}: {replayed} entries replayed, trimmed to {trimmed}");
}

/// Runs the child for this long. Returns the last index that it acknowledged.
fn run_and_kill(data: &Path, pause: Duration) -> Index {
    let program = std::env::current_exe().expect("this test is a program");
    let child = Command::new(program)
        .args(["--ignored", "--exact", "writes_until_it_is_killed", "--nocapture"])
        .env(FOLDER_VARIABLE, data)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut child = Reaped(child);
    let output = child.0.stdout.take().expect("its output is piped");
    let reader = thread::spawn(move || {
        let mut acknowledged = 0;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            acknowledged = line
                .strip_prefix("acknowledged ")
                .and_then(|index| index.parse().ok())
                .unwrap_or(acknowledged);
        }
        Index(acknowledged)
    });
    thread::sleep(pause);
    assert!(child.0.try_wait().expect("the child is known").is_none(), "the child ended by itself");
    child.0.kill().expect("the child is killed");
    child.0.wait().expect("the child is gone");
    reader.join().expect("its output is read")
}

/// Leaves no process behind if the test fails.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _gone_already = self.0.wait();
    }
}

#[test]
#[ignore = "the child process of the test above"]
fn writes_until_it_is_killed() {
    let folder = std::env::var_os(FOLDER_VARIABLE).expect("the parent names the folder");
    let mut server = Server::open(Path::new(&folder));
    let mut index = server.replay().0;
    if server.restored.last().0.0 < index {
        // Killed between the install of a snapshot and the reset of the log.
        server.write(reset(index));
    }
    let mut model = contents(&server.store);
    let mut random = Random::new(Random::seed());
    let mut turn = 0;
    loop {
        turn += 1;
        if random.below(3) == 0 {
            let junk = (index + 1..=index + 1 + random.below(3)).map(junk_at).collect();
            server.write(Persist { entries: junk, ..Persist::default() });
        }
        let last = index + 1 + random.below(6);
        let entries: Vec<Entry> = (index + 1..=last).map(entry_at).collect();
        let hard_state = Some(HardState { term: term_at(last), vote: NODE, commit: Index(index) });
        server.write(Persist { sync: true, hard_state, entries: entries.clone(), ..Persist::default() });
        acknowledge(last);
        for entry in &entries {
            server.store.write(entry.index, batch_of(entry)).expect("the state accepts it");
        }
        advance(&mut model, Index(index), Index(last));
        index = last;
        if turn % 20 == 0 {
            server.store.handle().request_flush();
        }
        if turn % 150 == 0 {
            index = install_snapshot(&mut server, &mut model, index);
        }
        trim(&server, &mut random);
    }
}

/// Jumps ahead, as a follower does that has been away.
fn install_snapshot(server: &mut Server, model: &mut Model, index: u64) -> u64 {
    let target = index + 50;
    advance(model, Index(index), Index(target));
    let mut stage = server.store.handle().stage(Index(target)).expect("a stage");
    let pairs: Vec<(Bytes, Bytes)> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for block in pairs.chunks(10) {
        stage.push(block.to_vec()).expect("the stage accepts it");
    }
    let staged = stage.finish().expect("the snapshot is durable");
    server.store = server.store.install(staged).expect("the snapshot is installed");
    server.write(reset(target));
    acknowledge(target);
    target
}

fn reset(index: u64) -> Persist {
    let position = (Index(index), term_at(index));
    let hard_state = HardState { term: position.1, vote: NODE, commit: position.0 };
    Persist { sync: true, reset_to: Some(position), hard_state: Some(hard_state), ..Persist::default() }
}

/// Trims up to somewhere below what the state has made durable.
fn trim(server: &Server, random: &mut Random) {
    while let Ok(notice) = server.notices.try_recv() {
        match notice {
            Notice::Durable(durable) => {
                let position = durable.0.saturating_sub(random.below(30));
                server.write(Persist {
                    trim_to: Some((Index(position), term_at(position))),
                    ..Persist::default()
                });
                server.log.purge().expect("the log purges");
            }
            Notice::Failed(error) => panic!("{error}"),
        }
    }
}

fn acknowledge(index: u64) {
    let mut output = std::io::stdout();
    writeln!(output, "acknowledged {index}").and_then(|()| output.flush()).expect("the parent listens");
}
