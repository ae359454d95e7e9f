//! Who may talk to a member, and what becomes of everybody else.

mod peer_support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use peer_support::*;
use pontoon_kv::NodeId;
use pontoon_replica::MessageKind;
use pontoon_server::{Settings, peer::Peers};
use pontoon_wire::{
    handshake::{Handshake, Identity, Purpose},
    peer::{Body, Frame, encode, encode_message},
};

/// Two members, the second one's settings changed; the log of this process must come to hold `named`, and nothing arrives.
fn refused(change: impl FnOnce(&mut Settings), named: &str) {
    keep_log();
    let mut settings = members(2);
    change(&mut settings[1]);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    await_that(named, || log().contains(named));
    let (there, back) = (
        message(MessageKind::Heartbeat, one.node, NodeId(2), 1),
        message(MessageKind::Heartbeat, two.node, NodeId(1), 1),
    );
    one.peers.send(GROUP, vec![there]);
    two.peers.send(GROUP, vec![back]);
    assert_eq!((one.messages(), two.messages()), (vec![], vec![]));
    one.stop();
    two.stop();
}

#[test]
fn a_member_with_another_secret_is_refused_by_name() {
    refused(
        |settings| settings.cluster.secret = "a guess".to_string(),
        "member 2 does not know the cluster's secret",
    );
}

#[test]
fn a_member_with_other_settings_is_refused_and_the_setting_named() {
    let named = "here \"value-bytes-max 16777216\", there \"value-bytes-max 12345\"";
    // Quotes are escaped in a field of a log line.
    refused(|settings| settings.cluster.limits.value_bytes_max = 12345, &named.replace('"', "\\\""));
}

#[test]
fn a_member_of_another_cluster_is_refused() {
    refused(|settings| settings.cluster.id = "another".to_string(), "belongs to cluster");
}

#[test]
fn a_node_that_is_no_member_is_refused_by_name() {
    refused(|settings| settings.node = NodeId(9), "node 9 is not a member of this cluster");
}

#[test]
fn a_taken_port_is_one_clear_sentence() {
    let settings = members(2);
    let one = Member::start(&settings[0]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sinks = (one.inbox.clone(), one.snapshots.clone());
    let error = Peers::start(&settings[0], runtime.handle(), sinks.0, sinks.1).err().expect("it is taken");
    let text = error.to_string();
    assert!(text.contains(&settings[0].peer_listen) && text.contains("peer-listen"), "{text}");
    one.stop();
}

#[test]
fn garbage_and_silence_end_their_connections_only() {
    keep_log();
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100_000], b"PONT\xff\xff\xff\xff\xff"] {
        let mut stream = connect(&settings[1]);
        // The member may close it before all is written.
        let _ = stream.write_all(garbage);
        assert!(is_closed(&mut stream));
    }
    let mut silent = connect(&settings[1]);
    let begun = Instant::now();
    assert!(is_closed(&mut silent));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    one.reaches(&two);
    assert!(log().contains("does not speak Pontoon's peer protocol"), "{}", log());
    one.stop();
    two.stop();
}

#[test]
fn strangers_cannot_take_more_than_the_limit_of_connections() {
    let settings = members(2);
    let two = Member::start(&settings[1]);
    let mut strangers: Vec<TcpStream> = (0..300).map(|_| connect(&settings[1])).collect();
    assert!(is_closed(strangers.last_mut().unwrap()), "the last one is over the limit");
    drop(strangers);
    let one = Member::start(&settings[0]);
    one.reaches(&two);
    one.stop();
    two.stop();
}

#[test]
fn a_proved_member_that_breaks_the_protocol_loses_that_connection_only() {
    keep_log();
    let settings = members(3);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    let (me, to) = (NodeId(3), NodeId(2));
    let framed = |message| {
        let mut out = BytesMut::new();
        encode_message(GROUP, &message, &mut out);
        out
    };
    let mut block = BytesMut::new();
    let body = Body::SnapshotBlock { sequence: 0, bytes: Bytes::from_static(b"block") };
    encode(&Frame { group: GROUP, body }, &mut block);
    let mut damaged = framed(message(MessageKind::Heartbeat, me, to, 1));
    *damaged.last_mut().unwrap() ^= 1;
    let cases = [
        (Purpose::Messages, framed(message(MessageKind::Heartbeat, NodeId(1), to, 1))),
        (Purpose::Messages, framed(message(MessageKind::Heartbeat, me, NodeId(1), 1))),
        (Purpose::Messages, framed(snapshot_message(me, to, 3, 10))),
        (Purpose::Messages, damaged),
        (Purpose::Messages, block.clone()),
        (Purpose::Messages, BytesMut::from(&[0xff; 64][..])),
        (Purpose::Snapshot, framed(message(MessageKind::Heartbeat, me, to, 1))),
        (Purpose::Snapshot, block),
    ];
    for (purpose, bytes) in cases {
        let mut stream = prove(&settings[2], &settings[1], purpose);
        stream.write_all(&bytes).unwrap();
        assert!(is_closed(&mut stream), "{purpose:?} {bytes:?}");
    }
    assert!(two.messages().is_empty());
    // The same hands with a proper message.
    let mut stream = prove(&settings[2], &settings[1], Purpose::Messages);
    let proper = message(MessageKind::Heartbeat, me, to, 1);
    stream.write_all(&framed(proper.clone())).unwrap();
    let events = two.events_until("the proper message", |events| !received(events).is_empty());
    assert_eq!(received(&events), [proper]);
    one.reaches(&two);
    one.stop();
    two.stop();
}

fn connect(settings: &Settings) -> TcpStream {
    let stream = TcpStream::connect(&settings.peer_listen).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the other side closes the connection; what it still says is skipped.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A connection on which `from` has proved itself to `to`.
fn prove(from: &Settings, to: &Settings, purpose: Purpose) -> TcpStream {
    let identity = Identity {
        cluster: from.cluster.id.clone(),
        node: from.node,
        secret: from.cluster.secret.clone().into_bytes(),
        settings: from.cluster.canonical(),
    };
    let mut handshake = Handshake::initiator(identity, to.node, purpose, [5; 32]);
    let mut stream = connect(to);
    let (mut read, mut said) = (BytesMut::new(), BytesMut::new());
    loop {
        let done = handshake.step(&mut read, &mut said).unwrap();
        stream.write_all(&said.split()).unwrap();
        if done.is_some() {
            return stream;
        }
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "refused");
        read.extend_from_slice(&bytes[..count]);
    }
}
