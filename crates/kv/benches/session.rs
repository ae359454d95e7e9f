//! The check of 64 requests against their session, by applying an entry of them. (What is not the check is the decoding of the
//! block, and for new requests the reading of a missing key.)

mod common;

use std::slice;

use common::{REQUESTS, block, entry, key, machine};
use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use mimalloc::MiMalloc;
use pontoon_kv::{Command, Outcome, Refusal, Reply, SessionKind};

/// To `STRLEN` of a missing key.
const ABSENT: Outcome = Outcome::Reply(Reply::Integer(0));

/// That of the server, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

/// Never seen: executed, and the reply recorded.
#[divan::bench]
fn client_new(bencher: Bencher) {
    check(bencher, SessionKind::Client, |at| at, &ABSENT);
}

/// Answered from the session's record.
#[divan::bench]
fn client_duplicate(bencher: Bencher) {
    check(bencher, SessionKind::Client, |_| 0, &ABSENT);
}

/// Next in order: executed.
#[divan::bench]
fn relay_new(bencher: Bencher) {
    check(bencher, SessionKind::Relay, |at| at, &ABSENT);
}

/// Refused as stale.
#[divan::bench]
fn relay_duplicate(bencher: Bencher) {
    check(bencher, SessionKind::Relay, |_| 0, &Outcome::Refused(Refusal::Stale));
}

/// Applies entry after entry; `block_of` says which 64 requests the `at`th one holds, `expected` what comes of each.
fn check(bencher: Bencher, kind: SessionKind, block_of: impl Fn(u64) -> u64, expected: &Outcome) {
    let (mut machine, session) = machine(kind);
    let entry_of = |at: u64| {
        let first = 1 + block_of(at) * REQUESTS as u64;
        entry(at + 2, &block(session, first, |seq| Command::StrLen { key: key(seq) }))
    };
    machine.apply(&[entry_of(0)]).unwrap();
    let outcomes = machine.apply(&[entry_of(1)]).unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| outcome == expected), "{outcomes:?}");
    let mut at = 1;
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .with_inputs(|| {
            at += 1;
            entry_of(at)
        })
        .bench_local_refs(|entry| drop(black_box(machine.apply(slice::from_ref(entry)).unwrap())));
}
