//! What the benchmarks of this crate have in common: requests in blocks, and a machine to apply them.

#![allow(dead_code, unreachable_pub, reason = "each benchmark uses some of it")]

use bytes::Bytes;
use pontoon_kv::{
    Block, CallId, ClusterTime, Command, ConfState, Entry, Index, Limits, Machine, MemStore, NodeId, Outcome,
    Proposal, Seq, SessionId, SessionKind, SetCondition, Term,
};

/// Requests in an entry.
pub const REQUESTS: usize = 64;
/// Keys of the state.
pub const KEYS: u64 = 1_000;

/// Sets the `number`th key to 256 bytes.
pub fn set(number: u64) -> Command {
    let value = Bytes::from_static(&[b'v'; 256]);
    Command::Set { key: key(number), value, condition: SetCondition::Always, return_old: false }
}

/// Consecutive numbers give keys far apart, and all keys before one comes again.
pub fn key(number: u64) -> Bytes {
    format!("key:{:012}", number * 617 % KEYS).into()
}

/// The requests `first`, ... of a session, as one block.
pub fn block(
    session: (SessionKind, SessionId),
    first: u64,
    command: impl Fn(u64) -> Command,
) -> Vec<Proposal> {
    let (kind, session) = session;
    let request = |seq| match kind {
        SessionKind::Client => {
            Proposal::Once { session, seq: Seq(seq), ack: Seq(first), command: command(seq) }
        }
        SessionKind::Relay => {
            Proposal::Relay { session, seq: Seq(seq), ack: Seq(first), attempt: 1, command: command(seq) }
        }
    };
    (first..first + REQUESTS as u64).map(request).collect()
}

/// An entry of these proposals.
pub fn entry(index: u64, proposals: &[Proposal]) -> Entry {
    Entry { index: Index(index), term: Term(1), clock: ClusterTime(index), data: Block::encode(proposals) }
}

/// A machine with a session of this kind that has applied one entry.
pub fn machine(kind: SessionKind) -> (Machine<MemStore>, (SessionKind, SessionId)) {
    let mut machine = Machine::open(MemStore::new(), Limits::default(), ConfState::default()).unwrap();
    let call = CallId { node: NodeId(1), nonce: 1 };
    let outcomes = machine.apply(&[entry(1, &[Proposal::Open { call, kind }])]).unwrap();
    let Outcome::Opened(session) = outcomes[0].1 else { panic!("the session is opened") };
    (machine, (kind, session))
}
