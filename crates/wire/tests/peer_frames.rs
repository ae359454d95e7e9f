//! Frames between members: there and back, damaged, hostile.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Random, with_seeds};
use pontoon_kv::{ClusterTime, ConfState, Entry, GroupId, Index, NodeId, Term};
use pontoon_replica::{Message, MessageKind, SnapshotMeta};
use pontoon_wire::peer::{
    Body, Decoder, FRAME_VERSION, Frame, FrameError, HEADER_BYTES, encode, encode_message, message_bytes,
};
use xxhash_rust::xxh3::xxh3_64;

const KINDS: [MessageKind; 14] = [
    MessageKind::Propose,
    MessageKind::Append,
    MessageKind::AppendResponse,
    MessageKind::Heartbeat,
    MessageKind::HeartbeatResponse,
    MessageKind::RequestVote,
    MessageKind::RequestVoteResponse,
    MessageKind::RequestPreVote,
    MessageKind::RequestPreVoteResponse,
    MessageKind::Snapshot,
    MessageKind::TransferLeader,
    MessageKind::TimeoutNow,
    MessageKind::ReadIndex,
    MessageKind::ReadIndexResponse,
];

fn message(random: &mut Random) -> Message {
    let data = |random: &mut Random| {
        let length = random.below(50);
        Bytes::from(random.bytes(length))
    };
    let nodes =
        |random: &mut Random| (0..random.below(4)).map(|_| NodeId(random.number())).collect::<Vec<_>>();
    Message {
        kind: KINDS[random.below(KINDS.len())],
        from: NodeId(random.number()),
        to: NodeId(random.number()),
        term: Term(random.number()),
        log_term: Term(random.number()),
        index: Index(random.number()),
        entries: (0..random.below(5))
            .map(|_| Entry {
                index: Index(random.number()),
                term: Term(random.number()),
                clock: ClusterTime(random.number()),
                data: data(random),
            })
            .collect(),
        commit: Index(random.number()),
        commit_term: Term(random.number()),
        snapshot: random.chance(3).then(|| SnapshotMeta {
            index: Index(random.number()),
            term: Term(random.number()),
            clock: ClusterTime(random.number()),
            conf_state: ConfState {
                voters: nodes(random),
                learners: nodes(random),
                voters_outgoing: nodes(random),
                learners_next: nodes(random),
                auto_leave: random.chance(2),
            },
        }),
        request_snapshot: Index(random.number()),
        reject: random.chance(2),
        reject_hint: Index(random.number()),
        context: data(random),
        priority: random.number().cast_signed(),
    }
}

fn frame(random: &mut Random) -> Frame {
    let body = match random.below(6) {
        0 => Body::Message(message(random)),
        1 => Body::SnapshotBegin(message(random)),
        2 => {
            let length = random.below(100);
            Body::SnapshotBlock { sequence: random.number(), bytes: Bytes::from(random.bytes(length)) }
        }
        3 => Body::SnapshotEnd { blocks: random.number() },
        4 => Body::SnapshotAck { next: random.number() },
        _ => Body::SnapshotDone { ok: random.chance(2) },
    };
    Frame { group: GroupId(random.number()), body }
}

fn bytes_of(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    encode(frame, &mut out);
    out
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    Decoder::new(1 << 20).decode(&mut BytesMut::from(bytes))
}

/// A frame with right checksums around any body.
fn sealed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[0..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes[4] = FRAME_VERSION;
    bytes[5] = kind;
    bytes[16..24].copy_from_slice(&xxh3_64(body).to_le_bytes());
    reseal(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

fn reseal(header: &mut [u8]) {
    let checksum = xxh3_64(&header[..24]);
    header[24..32].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn every_frame_survives_the_way_there_and_back_cut_anywhere() {
    with_seeds(0..500, |random| {
        let sent: Vec<Frame> = (0..1 + random.below(4)).map(|_| frame(random)).collect();
        let mut bytes = BytesMut::new();
        sent.iter().for_each(|frame| encode(frame, &mut bytes));
        let (mut decoder, mut buf, mut received) = (Decoder::new(1 << 20), BytesMut::new(), Vec::new());
        while !bytes.is_empty() {
            let packet = 1 + random.below(bytes.len().min(200));
            buf.unsplit(bytes.split_to(packet));
            while let Some(frame) = decoder.decode(&mut buf).expect("well-formed") {
                received.push(frame);
            }
        }
        assert_eq!(received, sent);
    });
}

#[test]
fn a_messages_length_is_known_before_it_is_encoded() {
    with_seeds(0..100, |random| {
        let (message, mut out) = (message(random), BytesMut::new());
        encode_message(GroupId(1), &message, &mut out);
        assert_eq!(out.len(), message_bytes(&message));
    });
}

#[test]
fn any_flipped_bit_is_detected() {
    with_seeds(0..30, |random| {
        let bytes = bytes_of(&frame(random));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let expected =
                if bit / 8 < HEADER_BYTES { FrameError::HeaderDamaged } else { FrameError::BodyDamaged };
            assert_eq!(decode(&damaged), Err(expected), "bit {bit}");
        }
    });
}

#[test]
fn a_damaged_length_is_found_before_its_bytes_are_waited_for() {
    let mut header =
        bytes_of(&Frame { group: GroupId(1), body: Body::SnapshotAck { next: 5 } }).split_to(HEADER_BYTES);
    assert_eq!(decode(&header), Ok(None));
    header[2] = 1;
    assert_eq!(decode(&header), Err(FrameError::HeaderDamaged));
}

#[test]
fn entries_of_a_long_frame_are_not_copied() {
    let mut sent = message(&mut Random::new(1));
    sent.entries = vec![Entry { data: Bytes::from(vec![7; 200_000]), ..Entry::default() }];
    let mut buf = bytes_of(&Frame { group: GroupId(1), body: Body::Message(sent) });
    let memory = buf.as_ptr() as usize..buf.as_ptr() as usize + buf.len();
    let Ok(Some(Frame { body: Body::Message(received), .. })) = Decoder::new(1 << 20).decode(&mut buf) else {
        panic!("whole")
    };
    assert!(memory.contains(&(received.entries[0].data.as_ptr() as usize)));
}

#[test]
fn a_frame_over_the_bound_is_refused_by_its_header_alone() {
    let bytes = bytes_of(&Frame {
        group: GroupId(1),
        body: Body::SnapshotBlock { sequence: 0, bytes: Bytes::from(vec![0; 92]) },
    });
    let decode = |bytes_max| Decoder::new(bytes_max).decode(&mut BytesMut::from(&bytes[..HEADER_BYTES]));
    assert_eq!(decode(100), Ok(None));
    assert_eq!(decode(99), Err(FrameError::TooLong { bytes: 100, bytes_max: 99 }));
}

#[test]
fn other_versions_and_unknown_kinds_are_named() {
    assert_eq!(decode(&sealed(77, b"")), Err(FrameError::UnknownKind(77)));
    let mut newer = sealed(1, b"");
    newer[4] = 2;
    reseal(&mut newer);
    assert_eq!(decode(&newer), Err(FrameError::UnknownVersion(2)));
    let mut reserved = sealed(1, b"");
    reserved[6] = 1;
    reseal(&mut reserved);
    assert!(matches!(decode(&reserved), Err(FrameError::Malformed(_))));
}

#[test]
fn a_body_that_is_cut_or_goes_on_is_refused_wherever_that_is() {
    with_seeds(0..60, |random| {
        let body = bytes_of(&Frame { group: GroupId(1), body: Body::Message(message(random)) })
            .split_off(HEADER_BYTES);
        for length in 0..body.len() {
            assert!(matches!(decode(&sealed(1, &body[..length])), Err(FrameError::Malformed(_))), "{length}");
        }
        let longer = [&body[..], &[0]].concat();
        assert!(matches!(decode(&sealed(1, &longer)), Err(FrameError::Malformed(_))));
    });
}

#[test]
fn counts_beyond_the_body_are_refused_without_allocating_for_them() {
    let mut empty = message(&mut Random::new(3));
    (empty.entries, empty.context, empty.snapshot) = (Vec::new(), Bytes::new(), None);
    let mut body = bytes_of(&Frame { group: GroupId(1), body: Body::Message(empty) }).split_off(HEADER_BYTES);
    let count = body.len() - 4;
    body[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    // 2^32 entries would be 200 GB.
    assert!(matches!(decode(&sealed(1, &body)), Err(FrameError::Malformed(_))));
}

#[test]
fn a_member_at_fault_with_right_checksums_never_makes_the_decoder_panic() {
    with_seeds(0..3000, |random| {
        let mut body = bytes_of(&frame(random)).split_off(HEADER_BYTES);
        for _ in 0..random.below(4) {
            if !body.is_empty() {
                let at = random.below(body.len());
                body[at] = random.next() as u8;
            }
        }
        let kind = random.below(8) as u8;
        pontoon_wire::fuzz::peer_frame(&sealed(kind, &body));
    });
}

#[test]
fn a_kept_entry_keeps_nothing_but_its_frame() {
    for data_bytes in [100, 1 << 20] {
        let data = Bytes::from(vec![7; data_bytes]);
        let entry = Entry { index: Index(1), term: Term(1), clock: ClusterTime(1), data };
        let sent = Message {
            entries: vec![entry],
            snapshot: None,
            context: Bytes::new(),
            ..message(&mut Random::new(1))
        };
        let mut buf = BytesMut::new();
        encode_message(GroupId(1), &sent, &mut buf);
        buf.extend_from_slice(&[0; 10]);
        let frame = Decoder::new(2 << 20).decode(&mut buf).expect("well-formed").expect("whole");
        let Body::Message(received) = frame.body else { panic!("a message was sent") };
        assert_eq!(received, sent);
        assert!(received.entries[0].data.is_unique(), "{data_bytes} bytes share memory with the buffer");
        assert_eq!(buf[..], [0; 10], "what follows the frame");
    }
}

#[test]
fn how_much_of_a_frame_is_missing_is_known_once_its_header_is_here() {
    let bytes = bytes_of(&Frame { group: GroupId(1), body: Body::SnapshotAck { next: 7 } });
    let decoder = Decoder::new(1 << 20);
    for here in 0..=bytes.len() {
        let missing = if here < HEADER_BYTES { 0 } else { bytes.len() - here };
        assert_eq!(decoder.missing(&bytes[..here]), missing, "{here} bytes are here");
    }
}
