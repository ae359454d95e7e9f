//! What the tests share: a group of one machine that is fed entries, and numbers from a seed.
#![allow(dead_code, unreachable_pub, reason = "each test file is its own crate and uses a part of this")]

use std::{cell::Cell, ops::Range};

use bytes::Bytes;
use pontoon_kv::{
    Block, CallId, ClusterTime, Command, ConfState, Entry, Index, Limits, Machine, MemStore, NodeId, Outcome,
    Proposal, Reader, Refusal, Reply, Seq, SessionId, SessionKind, SetCondition, Store, StoreError, Term,
    WriteBatch, mem::MemView,
};

pub const CALL: CallId = CallId { node: NodeId(1), nonce: 7 };

/// A machine and the log that it is fed from.
pub struct Group {
    pub machine: Machine<MemStore>,
    pub limits: Limits,
    pub clock: u64,
}

impl Group {
    pub fn new() -> Group {
        Group::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Group {
        Group { machine: open(MemStore::new(), limits), limits, clock: 1000 }
    }

    /// The next entry, of these proposals.
    pub fn entry(&self, proposals: &[Proposal]) -> Entry {
        let data = if proposals.is_empty() { Bytes::new() } else { Block::encode(proposals) };
        Entry {
            index: Index(self.machine.applied().index.0 + 1),
            term: Term(1),
            clock: ClusterTime(self.clock),
            data,
        }
    }

    /// Applies one entry.
    pub fn apply(&mut self, proposals: &[Proposal]) -> Vec<Outcome> {
        let entry = self.entry(proposals);
        let outcomes = self.machine.apply(&[entry]).unwrap();
        pontoon_kv::verify(self.machine.store()).unwrap();
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    pub fn apply_one(&mut self, proposal: Proposal) -> Outcome {
        let mut outcomes = self.apply(&[proposal]);
        assert_eq!(outcomes.len(), 1);
        outcomes.remove(0)
    }

    pub fn open(&mut self) -> SessionId {
        self.open_kind(SessionKind::Client)
    }

    pub fn open_kind(&mut self, kind: SessionKind) -> SessionId {
        match self.apply_one(Proposal::Open { call: CALL, kind }) {
            Outcome::Opened(session) => session,
            other => panic!("no session: {other:?}"),
        }
    }

    pub fn once(&mut self, session: SessionId, seq: u64, ack: u64, command: Command) -> Outcome {
        self.apply_one(once(session, seq, ack, command))
    }

    pub fn relay(
        &mut self,
        session: SessionId,
        seq: u64,
        ack: u64,
        attempt: u32,
        command: Command,
    ) -> Outcome {
        self.apply_one(relay(session, seq, ack, attempt, command))
    }

    /// The reply of a command that is executed in a fresh session.
    pub fn execute(&mut self, command: Command) -> Reply {
        let session = self.open();
        let Outcome::Reply(reply) = self.once(session, 1, 1, command) else { panic!("not executed") };
        self.apply_one(Proposal::Close { call: CALL, session });
        reply
    }

    pub fn get(&self, key: &str) -> Reply {
        self.machine.read(&get(key)).unwrap()
    }

    /// The machine as it is after a restart.
    pub fn restart(&mut self) {
        self.machine = open(self.machine.store().clone(), self.limits);
    }

    pub fn hash(&self) -> u128 {
        pontoon_kv::state_hash(&self.machine.store().view()).unwrap()
    }

    /// Store pairs whose key starts with this byte.
    pub fn pairs(&self, space: u8) -> Vec<(Bytes, Bytes)> {
        pairs(self.machine.store(), space)
    }
}

pub fn open<S: Store>(store: S, limits: Limits) -> Machine<S> {
    Machine::open(store, limits, members()).unwrap()
}

pub fn members() -> ConfState {
    ConfState { voters: vec![NodeId(1), NodeId(2), NodeId(3)], ..ConfState::default() }
}

pub fn pairs(reader: &impl pontoon_kv::Reader, space: u8) -> Vec<(Bytes, Bytes)> {
    let mut pairs = Vec::new();
    reader
        .scan(&[space], &[space + 1], &mut |key, value| {
            pairs.push((key, value));
            true
        })
        .unwrap();
    pairs
}

pub fn once(session: SessionId, seq: u64, ack: u64, command: Command) -> Proposal {
    Proposal::Once { session, seq: Seq(seq), ack: Seq(ack), command }
}

pub fn relay(session: SessionId, seq: u64, ack: u64, attempt: u32, command: Command) -> Proposal {
    Proposal::Relay { session, seq: Seq(seq), ack: Seq(ack), attempt, command }
}

pub fn keep_alive(session: SessionId) -> Proposal {
    Proposal::KeepAlive { call: CALL, session }
}

pub fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

pub fn integer(n: i64) -> Outcome {
    Outcome::Reply(Reply::Integer(n))
}

pub fn bytes(text: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(text.as_ref())
}

pub fn value(text: impl AsRef<[u8]>) -> Reply {
    Reply::Bytes(bytes(text))
}

pub fn get(key: &str) -> Command {
    Command::Get { key: bytes(key) }
}

pub fn set(key: &str, value: impl AsRef<[u8]>) -> Command {
    Command::Set { key: bytes(key), value: bytes(value), condition: SetCondition::Always, return_old: false }
}

pub fn append(key: &str, value: impl AsRef<[u8]>) -> Command {
    Command::Append { key: bytes(key), value: bytes(value) }
}

pub fn increment(key: &str, delta: i64) -> Command {
    Command::IncrBy { key: bytes(key), delta }
}

pub fn del(keys: &[&str]) -> Command {
    Command::Del { keys: keys.iter().map(bytes).collect() }
}

/// Numbers from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// True in one of `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, len: usize) -> Bytes {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Runs a property for some seeds and names the one that it fails for. `PONTOON_SEED=n` runs only that one.
pub fn for_seeds(seeds: Range<u64>, property: impl Fn(u64)) {
    struct Name(u64);
    #[expect(clippy::print_stderr, reason = "a failed test is to name its seed")]
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed for seed {0}: PONTOON_SEED={0} runs it alone", self.0);
            }
        }
    }
    let only =
        std::env::var("PONTOON_SEED").ok().map(|seed| seed.parse::<u64>().expect("PONTOON_SEED is a number"));
    for seed in only.map_or(seeds, |seed| seed..seed + 1) {
        let _name = Name(seed);
        property(seed);
    }
}

/// A store that keeps the last batch it was given, and counts the records that were asked for.
#[derive(Default)]
pub struct Spy {
    store: MemStore,
    pub last: WriteBatch,
    pub asked: Cell<u64>,
}

impl Spy {
    /// Bytes of the last batch.
    pub fn written(&self) -> usize {
        self.last.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, |value| value.len())).sum()
    }
}

impl Reader for Spy {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.asked.set(self.asked.get() + 1);
        self.store.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.store.scan(from, to, visit)
    }
}

impl Store for Spy {
    type View = MemView;

    fn write(&mut self, index: Index, batch: WriteBatch) -> Result<(), StoreError> {
        self.last = batch.clone();
        self.store.write(index, batch)
    }

    fn view(&self) -> MemView {
        self.store.view()
    }
}
