//! Valid conversations, changed at random: no parser panics, and packet boundaries never matter. (The deeper search is the
//! fuzzers' job; this keeps them honest on every run.)

mod common;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use common::{Random, with_seed};
use pontoon_kv::{Entry, GroupId, NodeId};
use pontoon_replica::{Message, MessageKind};
use pontoon_wire::{
    fuzz,
    handshake::{Handshake, Identity, Purpose},
    peer::{self, Body, Frame},
    resp::{Protocol, Value, encode, encode_request},
};

/// Changes a valid input for this long, with seeds counted from 0.
fn mutate(valid: &[u8], check: fn(&[u8])) {
    check(valid);
    let end = Instant::now() + Duration::from_secs(2);
    let mut seed = 0;
    while Instant::now() < end {
        with_seed(seed, |random| {
            let mut bytes = valid.to_vec();
            for _ in 0..1 + random.below(4) {
                change(&mut bytes, random);
            }
            check(&bytes);
        });
        seed += 1;
    }
    assert!(seed > 100, "only {seed} inputs in two seconds");
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    /// What parsers stumble over.
    const PIECES: [&[u8]; 12] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"*",
        b"$",
        b"-1",
        b"9223372036854775807",
        b"\"",
        b"*1\r\n",
        b"$0\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
    ];
    let at = random.below(bytes.len() + 1);
    match random.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, random.next() as u8),
        2 => drop(bytes.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        4 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
        5 if at < bytes.len() => {
            let piece = bytes[at..(at + 1 + random.below(30)).min(bytes.len())].to_vec();
            drop(bytes.splice(at..at, piece));
        }
        _ => {}
    }
}

#[test]
fn requests() {
    let mut valid = BytesMut::new();
    encode_request(&["SET", "key", "a value of some length", "NX"], &mut valid);
    encode_request(&["SET", "key", &"x".repeat(300)], &mut valid);
    valid.extend_from_slice(b"ECHO \"a \\x41 b\" 'c d' e\r\n\r\n*0\r\n");
    encode_request(&["PING"], &mut valid);
    mutate(&valid, fuzz::resp_request);
}

#[test]
fn replies() {
    let inner = Value::Array(vec![Value::Integer(-5), Value::Null, Value::Bulk(Bytes::from("some bytes"))]);
    let map =
        Value::Map(vec![(Value::Simple("proto".into()), Value::Double(3.5)), (Value::Boolean(true), inner)]);
    let verbatim = Value::Verbatim { format: *b"txt", text: Bytes::from("text") };
    let all = Value::Push(vec![map, verbatim, Value::BigNumber("123".into()), Value::Set(vec![Value::OK])]);
    let mut valid = BytesMut::new();
    encode(&all, Protocol::Resp3, &mut valid);
    encode(&Value::Error("ERR no".into()), Protocol::Resp2, &mut valid);
    encode(&Value::Null, Protocol::Resp2, &mut valid);
    mutate(&valid, fuzz::resp_reply);
}

#[test]
fn frames() {
    let message = Message {
        kind: MessageKind::Append,
        from: NodeId(1),
        to: NodeId(2),
        term: Default::default(),
        log_term: Default::default(),
        index: Default::default(),
        entries: vec![Entry { data: Bytes::from("data"), ..Entry::default() }],
        commit: Default::default(),
        commit_term: Default::default(),
        snapshot: Some(Default::default()),
        request_snapshot: Default::default(),
        reject: false,
        reject_hint: Default::default(),
        context: Bytes::from("context"),
        priority: 0,
    };
    let mut valid = BytesMut::new();
    for body in [Body::Message(message), Body::SnapshotBlock { sequence: 3, bytes: Bytes::from("block") }] {
        peer::encode(&Frame { group: GroupId(1), body }, &mut valid);
    }
    mutate(&valid, fuzz::peer_frame);
}

#[test]
fn handshakes() {
    // What a rightful member 2 says to the responder (member 1) that the fuzz entry point plays.
    let identity = |node| Identity {
        cluster: "fuzz".to_string(),
        node: NodeId(node),
        secret: b"secret".to_vec(),
        settings: "members 1 2 3\n".to_string(),
    };
    let mut member = Handshake::initiator(identity(2), NodeId(1), Purpose::Snapshot, [9; 32]);
    let mut responder = Handshake::responder(identity(1), [7; 32]);
    let (mut said, mut heard) = (BytesMut::new(), BytesMut::new());
    member.step(&mut BytesMut::new(), &mut said).expect("starts");
    responder.step(&mut said.clone(), &mut heard).expect("answers");
    member.step(&mut heard, &mut said).expect("proves itself");
    mutate(&said, fuzz::handshake);
}
