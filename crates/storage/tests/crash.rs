//! `kill -9` at random moments: the state store and the replayed log equal a model fed with the same entries.
//!
//! A child process writes entries to the log, applies them, flushes, trims, purges, and now and then installs a snapshot, all as
//! fast as it can, until it is killed. All that it writes follows from the log index, so that the parent can tell what must be there.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use common::{
    Model, Random, contents,
    server::{NODE, Server, advance, batch_of, entry_at, install, is_junk, junk_at, reset, term_at},
};
use pontoon_kv::{Entry, Index, Store};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::state::Notice;

const KILLS: u64 = 20;
/// The size of a log file and of a memtable.
const FILE_BYTES: u64 = 64 << 10;
/// Names the data folder to the child.
const FOLDER_VARIABLE: &str = "PONTOON_CRASH_TEST_FOLDER";

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

        let mut server = Server::open(&data, FILE_BYTES).expect("the server starts");
        let applied = server.store.applied();
        assert!(applied >= durable, "{context}: the state went back from {durable} to {applied}");
        advance(&mut model, durable, applied);
        durable = applied;
        assert_eq!(contents(&server.store), model, "{context}: the state of {applied}");
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
    let mut server = Server::open(Path::new(&folder), FILE_BYTES).expect("the server starts");
    server.fit();
    let mut index = server.replay().0;
    let mut model = contents(&server.store);
    let mut random = Random::new(Random::seed());
    let mut turn = 0;
    loop {
        turn += 1;
        // Never behind the entries.
        let hard_state = Some(HardState { term: term_at(index + 10), vote: NODE, commit: Index(index) });
        if random.below(3) == 0 {
            let junk = (index + 1..=index + 1 + random.below(3)).map(junk_at).collect();
            server.write(Persist { hard_state, entries: junk, ..Persist::default() });
        }
        let last = index + 1 + random.below(6);
        let entries: Vec<Entry> = (index + 1..=last).map(entry_at).collect();
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
    install(server, model, Index(target));
    server.write(reset(target));
    acknowledge(target);
    target
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
