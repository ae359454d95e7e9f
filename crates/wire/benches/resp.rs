//! Requests off a buffer and replies into one, a batch at a time as a server's connection does.

use bytes::{Bytes, BytesMut};
use divan::{
    AllocProfiler, Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};
use mimalloc::MiMalloc;
use pontoon_wire::resp::{Protocol, RequestLimits, RequestParser, Value, encode, encode_request};

/// Requests in a batch.
const PIPELINED: usize = 64;
const VALUE: &[u8] = &[b'v'; 256];

/// That of the server, counted.
#[global_allocator]
static ALLOCATOR: AllocProfiler<MiMalloc> = AllocProfiler::new(MiMalloc);

fn main() {
    divan::main();
}

#[divan::bench]
fn parse_get(bencher: Bencher) {
    parse(bencher, &[b"GET", b"key:000000012345"]);
}

#[divan::bench]
fn parse_set(bencher: Bencher) {
    parse(bencher, &[b"SET", b"key:000000012345", VALUE]);
}

#[divan::bench]
fn encode_ok(bencher: Bencher) {
    encode_replies(bencher, &Value::OK);
}

#[divan::bench]
fn encode_bulk(bencher: Bencher) {
    encode_replies(bencher, &Value::Bulk(Bytes::from_static(VALUE)));
}

fn parse(bencher: Bencher, request: &[&[u8]]) {
    let mut stream = BytesMut::new();
    for _ in 0..PIPELINED {
        encode_request(request, &mut stream);
    }
    let mut parser = RequestParser::new(RequestLimits::default());
    bencher
        .counter(ItemsCount::new(PIPELINED))
        .counter(BytesCount::new(stream.len()))
        .with_inputs(|| BytesMut::from(&stream[..]))
        .bench_local_refs(|buf| {
            for _ in 0..PIPELINED {
                black_box(parser.parse(buf).unwrap().unwrap());
            }
        });
}

fn encode_replies(bencher: Bencher, reply: &Value) {
    let mut out = BytesMut::new();
    encode(reply, Protocol::Resp2, &mut out);
    let batch_bytes = PIPELINED * out.len();
    bencher.counter(ItemsCount::new(PIPELINED)).counter(BytesCount::new(batch_bytes)).bench_local(|| {
        out.clear();
        for _ in 0..PIPELINED {
            encode(black_box(reply), Protocol::Resp2, &mut out);
        }
        black_box(&out);
    });
}
