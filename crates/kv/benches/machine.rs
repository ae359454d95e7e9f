//! The machine applies an entry of 64 requests to a state in memory of 1000 keys: what an apply costs beside the store.

mod common;

use std::slice;

use bytes::Bytes;
use common::{KEYS, REQUESTS, block, entry, key, machine, set};
use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use mimalloc::MiMalloc;
use pontoon_kv::{Command, SessionKind};

/// So many values are appended to, each of several chunks.
const APPENDED: u64 = 64;

/// That of the server, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

/// What plain Redis clients do.
#[divan::bench]
fn apply_plain_set(bencher: Bencher) {
    apply(bencher, SessionKind::Relay, KEYS, set, set);
}

#[divan::bench]
fn apply_session_set(bencher: Bencher) {
    apply(bencher, SessionKind::Client, KEYS, set, set);
}

#[divan::bench]
fn apply_plain_append(bencher: Bencher) {
    let append = |number, value| Command::Append { key: key(number % APPENDED), value };
    let long = |number| append(number, Bytes::from_static(&[b'v'; 64 << 10]));
    let short = |number| append(number, Bytes::from_static(&[b'a'; 64]));
    apply(bencher, SessionKind::Relay, APPENDED, long, short);
}

/// Fills the state with so many of the `before`, then measures entries of `command`.
fn apply(
    bencher: Bencher,
    kind: SessionKind,
    fill: u64,
    before: impl Fn(u64) -> Command,
    command: impl Fn(u64) -> Command,
) {
    let (mut machine, session) = machine(kind);
    let requests = REQUESTS as u64;
    let filled = fill.div_ceil(requests);
    let entry_of = |at: u64, command: &dyn Fn(u64) -> Command| {
        entry(at + 2, &block(session, 1 + at * requests, command))
    };
    for at in 0..filled {
        machine.apply(&[entry_of(at, &before)]).unwrap();
    }
    let mut at = filled;
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .with_inputs(|| {
            at += 1;
            entry_of(at - 1, &command)
        })
        .bench_local_refs(|entry| drop(black_box(machine.apply(slice::from_ref(entry)).unwrap())));
}
