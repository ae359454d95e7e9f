//! The formats of docs/formats.md, byte for byte: what has been written must be readable for ever.
//! A test that fails here asks for a new version, not for new bytes in the test.

mod common;

use std::fmt::Write;

use common::*;
use pontoon_kv::{Block, Command, GroupId, Proposal, SessionId, SessionKind, SnapshotWriter, state_hash};

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// One entry that opens both kinds of sessions, and one that uses them.
fn group() -> Group {
    let mut group = Group::new();
    let open = |kind| Proposal::Open { call: CALL, kind };
    group.apply(&[open(SessionKind::Client), open(SessionKind::Relay)]);
    let (client, server) = (SessionId(1 << 16), SessionId(1 << 16 | 1));
    group.apply(&[
        once(client, 1, 1, set("k", "v")),
        once(client, 2, 1, append("k", "w")),
        once(client, 4, 1, Command::Batch { commands: vec![get("k"), get("none")] }),
        once(client, 5, 1, set("big", vec![b'x'; 4097])),
        once(client, 6, 1, Command::MGet { keys: vec![bytes("big")] }),
        relay(server, 1, 1, 1, increment("n", -1)),
    ]);
    group
}

#[test]
fn a_log_entry() {
    let session = SessionId(1 << 16);
    let proposals = [
        Proposal::Open { call: CALL, kind: SessionKind::Relay },
        Proposal::KeepAlive { call: CALL, session },
        Proposal::Close { call: CALL, session },
        once(session, 300, 299, set("k", "v")),
        relay(session, 2, 1, 5, Command::Batch { commands: vec![increment("n", -2), del(&["a", "b"])] }),
    ];
    let expected = concat!(
        "01",
        "0500", // version, five proposals
        "01",
        "01",
        "0700000000000000",
        "01", // open: node, nonce, relay
        "02",
        "01",
        "0700000000000000",
        "808004", // keep-alive: node, nonce, session
        "03",
        "01",
        "0700000000000000",
        "808004", // close: node, nonce, session
        "04",
        "808004",
        "ac02",
        "ab02",
        "05",
        "00",
        "016b",
        "0176", // once: session, seq, ack; set: flags, key, value
        "05",
        "808004",
        "02",
        "01",
        "05",
        "0a",
        "02", // relay: session, seq, ack, attempt; batch of two
        "09",
        "016e",
        "03",
        "07",
        "02",
        "0161",
        "0162", // incrby: key, delta; del: two keys
    );
    assert_eq!(hex(Block::encode(&proposals)), expected);
}

#[test]
fn the_records_of_a_store() {
    let group = group();
    let records = |space| -> Vec<(String, String)> {
        let shown =
            |value: &[u8]| if value.len() < 100 { hex(value) } else { format!("{} bytes", value.len()) };
        group.pairs(space).iter().map(|(key, value)| (hex(key), shown(value))).collect()
    };
    let expected = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect::<Vec<_>>()
    };
    // Version, index, term, clock; voters 1, 2, 3; no learners and the like; not left automatically.
    assert_eq!(records(0), expected(&[("00", "010201e8070301020300000000")]));
    let client = concat!(
        "01",
        "00",
        "e807",
        "8002",
        "01", // version, client, active, window, floor
        "00",
        "01",
        "01",
        "0304", // seq 1: ok; seq 2: integer 2
        "02",
        "0502",
        "04027677",
        "02", // seq 4: array of bytes and nil
        "01",
        "01", // seq 5: ok
        "01",
        "00",
        "0000000000200001",
        "8720", // seq 6: value id, length of the reply's form
    );
    let server = "0101e80702"; // version, relay, active, next
    assert_eq!(records(1), expected(&[("010000000000010000", client), ("010000000000010001", server)]));
    let heads = [
        ("02626967", concat!("02", "02", "8120", "0000000000200000")), // chunked, revision 2, length 4097, value id
        ("026b", concat!("01", "02", "02", "7677")), // inline, revision 2, length 2, the value
        ("026e", concat!("01", "02", "02", "2d31")),
    ];
    assert_eq!(records(2), expected(&heads));
    let chunks = [
        ("03000000000020000000000000", "4096 bytes"), // the value
        ("03000000000020000000000001", "78"),
        ("03000000000020000100000000", "4096 bytes"), // the reply
        ("03000000000020000100000001", "78787878787878"),
    ];
    assert_eq!(records(3), expected(&chunks));
}

#[test]
fn a_snapshot() {
    let mut group = Group::new();
    group.apply(&[]);
    let mut writer = SnapshotWriter::new(group.machine.view(), GroupId(1)).unwrap();
    let blocks: Vec<_> = std::iter::from_fn(|| writer.next_block().unwrap()).map(hex).collect();
    // Each: kind, number, length, payload, checksum.
    let applied = "0101e8070301020300000000";
    let header = ["01", "00000000", "16000000", "504f4e544f4f4e53", "01", "01", applied, "64b6576d81e979b3"];
    let pairs = ["02", "01000000", "10000000", "0100", "0d01", applied, "e6a76cb8de108a80"];
    let end = [
        "03",
        "02000000",
        "18000000",
        "0100000000000000",
        "2a18209d60472af5a6467afb9985aba8",
        "6ddbdb599ad148bb",
    ];
    assert_eq!(blocks, [header.concat(), pairs.concat(), end.concat()]);
    assert_eq!(
        hex(state_hash(group.machine.store()).unwrap().to_le_bytes()),
        "2a18209d60472af5a6467afb9985aba8"
    );
}
