//! Frames between members: an append under load, and a heartbeat.

use bytes::{Bytes, BytesMut};
use divan::{AllocProfiler, Bencher, black_box, counter::BytesCount};
use mimalloc::MiMalloc;
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Term};
use pontoon_replica::{Message, MessageKind};
use pontoon_wire::peer::{Decoder, encode_message, message_bytes};

const GROUP: GroupId = GroupId(1);

/// That of the server, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

#[divan::bench]
fn encode_append(bencher: Bencher) {
    encode(bencher, &append());
}

#[divan::bench]
fn decode_append(bencher: Bencher) {
    decode(bencher, &append());
}

#[divan::bench]
fn encode_heartbeat(bencher: Bencher) {
    encode(bencher, &heartbeat());
}

#[divan::bench]
fn decode_heartbeat(bencher: Bencher) {
    decode(bencher, &heartbeat());
}

fn encode(bencher: Bencher, message: &Message) {
    let mut out = BytesMut::new();
    bencher.counter(BytesCount::new(message_bytes(message))).bench_local(|| {
        out.clear();
        encode_message(GROUP, black_box(message), &mut out);
        black_box(&out);
    });
}

fn decode(bencher: Bencher, message: &Message) {
    let mut frame = BytesMut::new();
    encode_message(GROUP, message, &mut frame);
    let mut decoder = Decoder::new(frame.len());
    bencher
        .counter(BytesCount::new(frame.len()))
        .with_inputs(|| BytesMut::from(&frame[..]))
        .bench_local_refs(|buf| {
            black_box(decoder.decode(buf).unwrap().unwrap());
        });
}

/// 64 entries of 300 bytes.
fn append() -> Message {
    let entry = |index| Entry {
        index: Index(index),
        term: Term(3),
        clock: ClusterTime(60_000),
        data: Bytes::from_static(&[b'e'; 300]),
    };
    Message {
        kind: MessageKind::Append,
        log_term: Term(3),
        index: Index(1_000),
        entries: (1_001..=1_064).map(entry).collect(),
        ..heartbeat()
    }
}

fn heartbeat() -> Message {
    Message {
        kind: MessageKind::Heartbeat,
        from: NodeId(1),
        to: NodeId(2),
        term: Term(3),
        log_term: Term(0),
        index: Index(0),
        entries: Vec::new(),
        commit: Index(1_000),
        commit_term: Term(0),
        snapshot: None,
        request_snapshot: Index(0),
        reject: false,
        reject_hint: Index(0),
        context: Bytes::from_static(&[7; 16]),
        priority: 0,
    }
}
