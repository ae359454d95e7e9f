//! Commands, alone and in the blocks that enter the log, into bytes and back.

mod common;

use bytes::Bytes;
use common::{REQUESTS, block, set};
use divan::{
    AllocProfiler, Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use mimalloc::MiMalloc;
use pontoon_kv::{Block, Command, Encoding, SessionId, SessionKind, codec::Decoder};

/// That of the server, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

#[divan::bench]
fn encode_command(bencher: Bencher) {
    let command = set(1);
    let mut out = Vec::new();
    command.write(&mut out);
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        black_box(&command).write(&mut out);
        black_box(&out);
    });
}

#[divan::bench]
fn decode_command(bencher: Bencher) {
    let mut out = Vec::new();
    set(1).write(&mut out);
    let bytes = Bytes::from(out);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        drop(black_box(Command::read(&mut Decoder::new(bytes.clone())).unwrap()));
    });
}

#[divan::bench]
fn encode_block(bencher: Bencher) {
    let proposals = block((SessionKind::Relay, SessionId(1 << 16)), 1, set);
    let bytes = Block::encode(&proposals).len();
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .counter(BytesCount::new(bytes))
        .bench(|| Block::encode(black_box(&proposals)));
}

#[divan::bench]
fn decode_block(bencher: Bencher) {
    let bytes = Block::encode(&block((SessionKind::Relay, SessionId(1 << 16)), 1, set));
    bencher
        .counter(ItemsCount::new(REQUESTS))
        .counter(BytesCount::new(bytes.len()))
        .bench(|| drop(black_box(Block::decode(bytes.clone()).unwrap())));
}
