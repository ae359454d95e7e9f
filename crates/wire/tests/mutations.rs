//! The fuzz targets of this crate, on valid conversations changed at random.

use bytes::{Bytes, BytesMut};
use pontoon_kv::{ConfState, Entry, GroupId, NodeId};
use pontoon_mutate::Target;
use pontoon_replica::{Message, MessageKind, SnapshotMeta};
use pontoon_wire::{
    fuzz,
    handshake::{Handshake, Identity, Purpose},
    peer::{self, Body, Frame},
    resp::{Protocol, Value, encode, encode_request},
};

#[test]
fn requests() {
    let mut valid = BytesMut::new();
    encode_request(&["SET", "key", "a value of some length", "NX"], &mut valid);
    encode_request(&["SET", "key", &"x".repeat(300)], &mut valid);
    valid.extend_from_slice(b"ECHO \"a \\x41 b\" 'c d' e\r\n\r\n*0\r\n");
    encode_request(&["PING"], &mut valid);
    run("resp_request", fuzz::resp_request, [valid]);
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
    run("resp_reply", fuzz::resp_reply, [valid]);
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
        snapshot: Some(SnapshotMeta {
            conf_state: ConfState { voters: vec![NodeId(1), NodeId(2)], ..ConfState::default() },
            ..SnapshotMeta::default()
        }),
        request_snapshot: Default::default(),
        reject: false,
        reject_hint: Default::default(),
        context: Bytes::from("context"),
        priority: 0,
    };
    let mut valid = BytesMut::new();
    let bodies = [
        Body::SnapshotBegin(message.clone()),
        Body::Message(message),
        Body::SnapshotBlock { sequence: 3, bytes: Bytes::from("block") },
        Body::SnapshotEnd { blocks: 4 },
        Body::SnapshotAck { next: 4 },
        Body::SnapshotDone { ok: true },
    ];
    for body in bodies {
        peer::encode(&Frame { group: GroupId(1), body }, &mut valid);
    }
    run("peer_frame", fuzz::peer_frame, [valid]);
}

#[test]
fn handshakes() {
    // What rightful members 2 say to the two sides (both member 1) that the fuzz entry point plays.
    let identity = |node| Identity {
        cluster: "fuzz".to_string(),
        node: NodeId(node),
        secret: b"secret".to_vec(),
        settings: "members 1 2 3\n".to_string(),
    };
    let talk = |mut initiator: Handshake, mut responder: Handshake| {
        let (mut said, mut answered) = (BytesMut::new(), BytesMut::new());
        initiator.step(&mut BytesMut::new(), &mut said).expect("starts");
        responder.step(&mut said.clone(), &mut answered).expect("answers");
        let hello_bytes = said.len();
        initiator.step(&mut answered.clone(), &mut said).expect("proves itself");
        responder.step(&mut BytesMut::from(&said[hello_bytes..]), &mut answered).expect("proves itself");
        (said, answered)
    };
    let (said, _) = talk(
        Handshake::initiator(identity(2), NodeId(1), Purpose::Snapshot, [9; 32]),
        Handshake::responder(identity(1), [7; 32]),
    );
    let (_, answered) = talk(
        Handshake::initiator(identity(1), NodeId(2), Purpose::Messages, [8; 32]),
        Handshake::responder(identity(2), [9; 32]),
    );
    run("handshake", fuzz::handshake, [said, answered]);
}

fn run<const N: usize>(name: &'static str, check: fn(&[u8]), examples: [BytesMut; N]) {
    Target { name, check, held_bytes_max: 64 << 10 }.run(&examples.map(Vec::from));
}
