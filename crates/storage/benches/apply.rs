//! The machine applies an entry of 64 plain `SET`s of 256 bytes to the real store, of 100 000 keys in a temporary folder.

use std::{slice, sync::Arc};

use bytes::Bytes;
use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use mimalloc::MiMalloc;
use pontoon_kv::{
    Block, CallId, ClusterTime, Command, ConfState, Entry, GroupId, Index, Limits, Machine, NodeId, Outcome,
    Proposal, Seq, SessionId, SessionKind, SetCondition, Term,
};
use pontoon_storage::{StateOptions, StateStore};

const REQUESTS: u64 = 64;
const KEYS: u64 = 100_000;

/// That of the server, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

#[divan::bench]
fn apply_plain_set(bencher: Bencher) {
    let folder = tempfile::tempdir().unwrap();
    let deaf = Arc::new(|_notice| {});
    let store = StateStore::open(&folder.path().join("state"), GroupId(1), StateOptions::default(), deaf);
    let mut machine = Machine::open(store.unwrap(), Limits::default(), ConfState::default()).unwrap();
    let call = CallId { node: NodeId(1), nonce: 1 };
    let open = Proposal::Open { call, kind: SessionKind::Relay };
    let Outcome::Opened(session) = machine.apply(&[entry(1, &[open])]).unwrap()[0].1 else {
        panic!("the session is opened");
    };
    let mut index = 1;
    let mut next = || {
        index += 1;
        sets(index, session)
    };
    for _ in 0..KEYS.div_ceil(REQUESTS) {
        machine.apply(&[next()]).unwrap();
    }
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .with_inputs(next)
        .bench_local_refs(|entry| drop(black_box(machine.apply(slice::from_ref(entry)).unwrap())));
}

/// The entry at an index from 2, of the next requests of the session that was opened at 1.
fn sets(index: u64, session: SessionId) -> Entry {
    let first = 1 + (index - 2) * REQUESTS;
    let set = |seq: u64| Proposal::Relay {
        session,
        seq: Seq(seq),
        ack: Seq(first),
        attempt: 1,
        command: Command::Set {
            // Consecutive requests have keys far apart, and all keys come before one comes again.
            key: format!("key:{:012}", seq * 61_803 % KEYS).into(),
            value: Bytes::from_static(&[b'v'; 256]),
            condition: SetCondition::Always,
            return_old: false,
        },
    };
    entry(index, &(first..first + REQUESTS).map(set).collect::<Vec<_>>())
}

fn entry(index: u64, proposals: &[Proposal]) -> Entry {
    Entry { index: Index(index), term: Term(1), clock: ClusterTime(index), data: Block::encode(proposals) }
}
