//! The fuzz targets of this crate, on valid bytes changed at random.

mod common;

use ::bytes::Bytes;
use common::*;
use pontoon_kv::{
    Block, Command, Encoding, GroupId, Proposal, Reply, SessionId, SessionKind, SetCondition, SnapshotWriter,
    fuzz, layout::USER_KEY_PREFIX_BYTES,
};
use pontoon_mutate::Target;

/// Sessions of both kinds with all kinds of recorded replies, values in a record and in chunks.
fn group() -> Group {
    let mut group = Group::new();
    let (client, server) = (group.open(), group.open_kind(SessionKind::Relay));
    let commands = [
        set("k", "v"),
        append("k", "w"),
        Command::Batch { commands: vec![get("k"), get("none"), increment("k", 1)] },
        set("big", vec![b'x'; 4097]),
        get("big"),
    ];
    for (seq, command) in (1..).zip(commands) {
        group.once(client, seq, 1, command);
    }
    group.relay(server, 1, 1, 1, increment("n", -1));
    group
}

#[test]
fn blocks() {
    let session = SessionId(1 << 16);
    let set = Command::Set {
        key: bytes("key"),
        value: bytes("value"),
        condition: SetCondition::IfAbsent,
        return_old: true,
    };
    let commands = vec![
        set,
        Command::MSet { pairs: vec![(bytes("a"), bytes("1")), (bytes("b"), bytes("2"))] },
        increment("n", -300),
        del(&["a", "b"]),
    ];
    let proposals = [
        Proposal::Open { call: CALL, kind: SessionKind::Client },
        keep_alive(session),
        Proposal::Close { call: CALL, session },
        once(session, 300, 299, append("key", "token")),
        relay(session, 2, 1, 5, Command::Batch { commands }),
    ];
    let examples = [Block::encode(&proposals).to_vec(), Block::encode(&proposals[3..4]).to_vec()];
    Target { name: "block", check: fuzz::block, held_bytes_max: 16 << 10 }.run(&examples);
}

#[test]
fn store_records() {
    let mut group = group();
    group.execute(set(&"k".repeat(USER_KEY_PREFIX_BYTES + 3), "of a long key"));
    let records = [0, 1, 2].into_iter().flat_map(|space| group.pairs(space));
    let reply = Reply::Array(vec![Reply::Nil, Reply::Array(vec![Reply::Integer(-5), value("v")])]);
    let examples: Vec<_> = records.map(|(_, record)| record).chain([reply.encode()]).map(Vec::from).collect();
    Target { name: "store_record", check: fuzz::store_record, held_bytes_max: 256 << 10 }.run(&examples);
}

#[test]
fn snapshots() {
    let mut small = Group::new();
    let session = small.open();
    small.once(session, 1, 1, set("key", "value"));
    let examples = [small, group()].map(|group| {
        let mut writer = SnapshotWriter::new(group.machine.view(), GroupId(1)).unwrap();
        let blocks: Vec<Bytes> = std::iter::from_fn(|| writer.next_block().unwrap()).collect();
        fuzz::unframed(&blocks)
    });
    Target { name: "snapshot", check: fuzz::snapshot, held_bytes_max: 1 << 20 }.run(&examples);
}

#[test]
fn logs() {
    let examples = [1, 2, 3].map(|seed| Random(seed).bytes(400).to_vec());
    Target { name: "machine", check: fuzz::machine, held_bytes_max: 8 << 20 }.run(&examples);
}
