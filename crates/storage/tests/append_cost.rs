//! An append costs what it appends: in the log, and in the store once it is flushed.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "the table of docs/testing.md")]

mod common;

use std::{
    fs,
    path::Path,
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{await_durable, notices};
use pontoon_kv::{
    Block, CallId, ClusterTime, Command, ConfState, Entry, GroupId, Index, Limits, Machine, NodeId, Outcome,
    Proposal, Reply, Seq, SessionId, SessionKind, SetCondition, Term, WaitKey,
};
use pontoon_replica::Persist;
use pontoon_storage::{Log, LogOptions, StateOptions, StateStore, state::Notice};

const GROUP: GroupId = GroupId(1);
const APPENDS: u64 = 100;
/// One file holds all of a test, so that no other is begun while it counts.
const LOG_OPTIONS: LogOptions = LogOptions { file_bytes: 16 << 20, purge_bytes: 64 << 20 };

/// A machine on a real store, behind a real log.
struct Server {
    log: Log,
    machine: Machine<StateStore>,
    notices: Receiver<Notice>,
    session: SessionId,
    seq: u64,
}

impl Server {
    fn open(folder: &Path) -> Server {
        let log = Log::open(&folder.join("log"), LOG_OPTIONS).expect("the log opens");
        await_prepared(&folder.join("log"));
        let (notify, notices) = notices();
        let store = StateStore::open(&folder.join("state"), GROUP, StateOptions::default(), notify);
        let machine = Machine::open(store.expect("the state opens"), Limits::default(), ConfState::default());
        let mut server = Server {
            log,
            machine: machine.expect("the machine opens"),
            notices,
            session: SessionId(0),
            seq: 0,
        };
        let call = CallId { node: NodeId(1), nonce: 1 };
        let Outcome::Opened(session) = server.propose(Proposal::Open { call, kind: SessionKind::Client })
        else {
            panic!("the session is opened");
        };
        server.session = session;
        server
    }

    /// Writes the proposal to the log, durably, and applies it.
    fn propose(&mut self, proposal: Proposal) -> Outcome {
        let index = Index(self.machine.applied().index.0 + 1);
        let data = Block::encode(&[proposal]);
        let entry = Entry { index, term: Term(1), clock: ClusterTime(1), data };
        let persist = Persist { sync: true, entries: vec![entry.clone()], ..Persist::default() };
        self.log.write(&[(GROUP, persist)]).expect("the log accepts it");
        let outcomes: Vec<(WaitKey, Outcome)> = self.machine.apply(&[entry]).expect("the machine applies it");
        outcomes.into_iter().next().expect("one proposal, one outcome").1
    }

    fn execute(&mut self, command: Command) -> Reply {
        self.seq += 1;
        let seq = Seq(self.seq);
        match self.propose(Proposal::Once { session: self.session, seq, ack: seq, command }) {
            Outcome::Reply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn flush(&self) {
        self.machine.store().handle().request_flush();
        await_durable(&self.notices, self.machine.applied().index);
    }
}

/// Waits until the log has its next file ready: that costs the same whatever is written meanwhile.
fn await_prepared(log: &Path) {
    let ready = || fs::metadata(log.join("spare")).is_ok_and(|spare| spare.len() == LOG_OPTIONS.file_bytes);
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(20), "the next file is prepared");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes that this process has written to files.
fn bytes_written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").expect("Linux counts");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("the count");
    line.parse().expect("a number")
}

/// What appending 64 bytes 100 times to a value of this size writes, in the log and in the store.
fn append_bytes(value_bytes: usize) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::open(folder.path());
    let key = Bytes::from_static(b"key");
    let set = Command::Set {
        key: key.clone(),
        value: Bytes::from(vec![b'v'; value_bytes]),
        condition: SetCondition::Always,
        return_old: false,
    };
    assert_eq!(server.execute(set), Reply::Ok);
    server.flush();
    let before = bytes_written();
    for append in 1..=APPENDS {
        let reply = server.execute(Command::Append { key: key.clone(), value: Bytes::from(vec![b'a'; 64]) });
        assert_eq!(reply, Reply::Integer(value_bytes as i64 + 64 * append as i64));
    }
    server.flush();
    bytes_written() - before
}

#[test]
fn appending_to_eight_mebibytes_costs_at_most_three_times_as_much_as_to_eight_kibibytes() {
    let small = append_bytes(8 << 10);
    let large = append_bytes(8 << 20);
    eprintln!("| 8 KiB | {small} |\n| 8 MiB | {large} |");
    assert!(large <= 3 * small, "{small} bytes written for a value of 8 KiB, {large} for one of 8 MiB");
    assert!(small < APPENDS * (4096 + 64) * 2, "{small} bytes written for {APPENDS} appends of 64 bytes");
}
