//! Two members prove themselves to one another; everybody else is refused, with a reason.

use bytes::BytesMut;
use pontoon_kv::NodeId;
use pontoon_wire::handshake::{Handshake, HandshakeError, Identity, PART_BYTES_MAX, Peer, Purpose, overhear};

fn identity(node: u64) -> Identity {
    Identity {
        cluster: "harbour".to_string(),
        node: NodeId(node),
        secret: b"a secret".to_vec(),
        settings: "members 1=a:1,2=b:2\nvalue-bytes-max 16777216\nsessions-max 100000\n".to_string(),
    }
}

fn initiator(identity: Identity) -> Handshake {
    Handshake::initiator(identity, NodeId(2), Purpose::Messages, [1; 32])
}

fn responder(identity: Identity) -> Handshake {
    Handshake::responder(identity, [2; 32])
}

type End = Result<Option<Peer>, HandshakeError>;

/// Lets both sides talk until neither has anything to say; `change` may alter what is on its way (true: from the initiator).
fn talk(
    mut left: Handshake,
    mut right: Handshake,
    mut change: impl FnMut(bool, &mut BytesMut),
) -> (End, End) {
    let (mut to_left, mut to_right) = (BytesMut::new(), BytesMut::new());
    let (mut left_end, mut right_end) = (Ok(None), Ok(None));
    loop {
        let mut said = BytesMut::new();
        if matches!(left_end, Ok(None)) {
            left_end = left.step(&mut to_left, &mut said);
        }
        change(true, &mut said);
        to_right.unsplit(said);
        let mut answered = BytesMut::new();
        if matches!(right_end, Ok(None)) {
            right_end = right.step(&mut to_right, &mut answered);
        }
        change(false, &mut answered);
        if answered.is_empty() {
            return (left_end, right_end);
        }
        to_left.unsplit(answered);
    }
}

fn plainly(left: Identity, right: Identity) -> (End, End) {
    talk(initiator(left), responder(right), |_, _| {})
}

#[test]
fn members_with_the_same_secret_and_settings_find_each_other() {
    let (left, right) = plainly(identity(1), identity(2));
    assert_eq!(left, Ok(Some(Peer { node: NodeId(2), purpose: Purpose::Messages })));
    assert_eq!(right, Ok(Some(Peer { node: NodeId(1), purpose: Purpose::Messages })));
}

#[test]
fn the_purpose_reaches_the_responder() {
    let snapshot = Handshake::initiator(identity(1), NodeId(2), Purpose::Snapshot, [1; 32]);
    let (_, right) = talk(snapshot, responder(identity(2)), |_, _| {});
    assert_eq!(right, Ok(Some(Peer { node: NodeId(1), purpose: Purpose::Snapshot })));
}

#[test]
fn bytes_may_come_one_by_one_and_what_follows_is_left_alone() {
    let (mut left, mut right) = (initiator(identity(1)), responder(identity(2)));
    let (mut to_left, mut to_right) = (BytesMut::new(), BytesMut::new());
    assert_eq!(left.step(&mut to_left, &mut to_right), Ok(None));
    let feed = |side: &mut Handshake, bytes: BytesMut, out: &mut BytesMut| {
        let (mut input, mut end) = (BytesMut::new(), Ok(None));
        for &byte in &bytes[..] {
            assert_eq!(end, Ok(None));
            input.extend_from_slice(&[byte]);
            end = side.step(&mut input, out);
        }
        assert!(input.is_empty());
        end
    };
    let hello = std::mem::take(&mut to_right);
    assert_eq!(feed(&mut right, hello, &mut to_left), Ok(None));
    let hello = std::mem::take(&mut to_left);
    assert_eq!(feed(&mut left, hello, &mut to_right), Ok(None));
    let proof = std::mem::take(&mut to_right);
    assert!(matches!(feed(&mut right, proof, &mut to_left), Ok(Some(_))));
    to_left.extend_from_slice(b"a frame");
    assert!(matches!(left.step(&mut to_left, &mut to_right), Ok(Some(_))));
    assert_eq!(to_left, &b"a frame"[..]);
}

#[test]
fn who_does_not_know_the_secret_is_refused_and_gets_no_proof() {
    let stranger = Identity { secret: b"a guess".to_vec(), ..identity(1) };
    let mut answers = Vec::new();
    let (left, right) = talk(initiator(stranger), responder(identity(2)), |from_left, bytes| {
        if !from_left && !bytes.is_empty() {
            answers.push(bytes[4]);
        }
    });
    assert_eq!(right, Err(HandshakeError::WrongSecret(NodeId(1))));
    assert!(matches!(left, Err(HandshakeError::Refused(why)) if why.contains("secret")));
    assert_eq!(answers, [1, 3], "a hello and a refusal, no proof");
}

#[test]
fn the_secret_never_travels() {
    let _ = talk(initiator(identity(1)), responder(identity(2)), |_, bytes| {
        assert!(!bytes.windows(8).any(|window| window == b"a secret"));
    });
}

#[test]
fn an_initiator_does_not_trust_a_responder_without_the_secret() {
    // The responder knows another secret and lets everybody in: it answers with a proof under its own.
    let rogue = Identity { secret: b"a guess".to_vec(), ..identity(2) };
    let accomplice = Identity { secret: b"a guess".to_vec(), ..identity(1) };
    let (mut left, mut right, mut shadow) = (initiator(identity(1)), responder(rogue), initiator(accomplice));
    let (mut to_left, mut to_right, mut nothing) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    assert_eq!(left.step(&mut to_left, &mut nothing), Ok(None));
    assert_eq!(shadow.step(&mut BytesMut::new(), &mut to_right), Ok(None));
    assert_eq!(right.step(&mut to_right, &mut to_left), Ok(None));
    assert_eq!(shadow.step(&mut to_left.clone(), &mut to_right), Ok(None));
    assert!(matches!(right.step(&mut to_right, &mut to_left), Ok(Some(_))));
    assert_eq!(left.step(&mut to_left, &mut nothing), Err(HandshakeError::WrongSecret(NodeId(2))));
}

#[test]
fn a_recorded_conversation_cannot_be_replayed() {
    let mut recorded = BytesMut::new();
    let (left, _) = talk(initiator(identity(1)), responder(identity(2)), |from_left, bytes| {
        if from_left {
            recorded.extend_from_slice(bytes);
        }
    });
    assert!(left.is_ok());
    let mut out = BytesMut::new();
    let mut again = Handshake::responder(identity(2), [3; 32]);
    assert_eq!(again.step(&mut recorded.clone(), &mut out), Err(HandshakeError::WrongSecret(NodeId(1))));
    let mut same_nonce = responder(identity(2));
    assert!(
        matches!(same_nonce.step(&mut recorded, &mut out), Ok(Some(_))),
        "the nonce is what makes the difference"
    );
}

#[test]
fn what_a_side_says_cannot_be_reflected_to_it() {
    let mut side = initiator(identity(1));
    let (mut said, mut out) = (BytesMut::new(), BytesMut::new());
    assert_eq!(side.step(&mut BytesMut::new(), &mut said), Ok(None));
    assert!(side.step(&mut said, &mut out).is_err());
}

#[test]
fn nothing_can_be_changed_on_the_way() {
    let mut lengths = [0, 0];
    let _ = talk(initiator(identity(1)), responder(identity(2)), |from_left, bytes| {
        lengths[usize::from(from_left)] += bytes.len();
    });
    for from_left in [false, true] {
        for at in 0..lengths[usize::from(from_left)] {
            for bit in [0, 5, 7] {
                let mut seen = 0;
                let (left, right) = talk(initiator(identity(1)), responder(identity(2)), |is_left, bytes| {
                    if is_left == from_left {
                        if let Some(byte) = bytes.get_mut(at.wrapping_sub(seen)) {
                            *byte ^= 1 << bit;
                        }
                        seen += bytes.len();
                    }
                });
                // The responder may be content if its last words were changed; the initiator then is not.
                let both = matches!((&left, &right), (Ok(Some(_)), Ok(Some(_))));
                assert!(!both, "byte {at} bit {bit} from {from_left}: {left:?} {right:?}");
            }
        }
    }
}

#[test]
fn different_settings_are_reported_by_both_sides_line_by_line() {
    let other = Identity { settings: identity(2).settings.replace("16777216", "1024"), ..identity(2) };
    let (left, right) = plainly(identity(1), other);
    assert_eq!(
        left.unwrap_err().to_string(),
        "member 2 has other settings: here \"value-bytes-max 16777216\", there \"value-bytes-max 1024\"; \
         make the cluster settings equal on all members"
    );
    assert!(matches!(right, Err(HandshakeError::Settings { peer: NodeId(1), .. })));
    let shorter = Identity { settings: "members 1=a:1,2=b:2\n".to_string(), ..identity(2) };
    let (left, _) = plainly(identity(1), shorter);
    assert!(left.unwrap_err().to_string().contains("there nothing"));
}

#[test]
fn mixed_up_clusters_and_addresses_are_told_apart() {
    let (left, right) = plainly(identity(1), Identity { cluster: "lagoon".to_string(), ..identity(2) });
    assert!(matches!(right, Err(HandshakeError::Cluster { .. })));
    assert!(
        matches!(left, Err(HandshakeError::Refused(why)) if why.contains("harbour") && why.contains("lagoon"))
    );
    let (_, right) = plainly(identity(1), identity(3));
    assert_eq!(right, Err(HandshakeError::WrongMember { wanted: NodeId(2), found: NodeId(3) }));
    let (_, right) = plainly(identity(1), identity(1));
    assert_eq!(right, Err(HandshakeError::SameMember(NodeId(1))));
}

#[test]
fn another_version_is_named_whatever_follows_it() {
    let mut hello = BytesMut::from(&b"PONT\x01\x02\x00\x00\x00\x07\x00"[..]);
    let mut out = BytesMut::new();
    assert_eq!(responder(identity(2)).step(&mut hello, &mut out), Err(HandshakeError::Version { theirs: 7 }));
    assert!(out.windows(7).any(|window| window == b"version"), "the other side is told");
}

#[test]
fn who_speaks_another_protocol_is_found_out_at_once() {
    for bytes in
        [&b"G"[..], b"*1\r\n$4\r\nPING\r\n", b"PO ", b"PONT\x01\xff\xff\xff\xff", b"PONT\x09\x00\x00\x00\x00"]
    {
        let mut out = BytesMut::new();
        let end = responder(identity(2)).step(&mut BytesMut::from(bytes), &mut out);
        assert!(matches!(end, Err(HandshakeError::Garbled(_))), "{}", bytes.escape_ascii());
        assert!(out.is_empty());
    }
}

#[test]
fn settings_too_long_for_a_handshake_are_reported_to_their_owner() {
    let long = Identity { settings: "x".repeat(PART_BYTES_MAX), ..identity(1) };
    let (left, _) = plainly(long, identity(2));
    assert!(matches!(left, Err(HandshakeError::SettingsTooLong(_))));
}

#[test]
fn a_refusal_is_one_printable_line() {
    let mut refusal = BytesMut::from(&b"PONT\x03\x0a\x00\x00\x00no\r\n\x1b[31m!"[..]);
    let end = initiator(identity(1)).step(&mut refusal, &mut BytesMut::new());
    assert_eq!(end, Err(HandshakeError::Refused("no   [31m!".to_string())));
}

#[test]
fn whoever_stands_between_hears_who_speaks_and_where_the_frames_begin() {
    let mut said = BytesMut::new();
    let ends = talk(initiator(identity(1)), responder(identity(2)), |from_initiator, bytes| {
        if from_initiator {
            said.extend_from_slice(bytes);
        }
    });
    assert!(matches!(ends, (Ok(Some(_)), Ok(Some(_)))));
    let handshake_bytes = said.len();
    said.extend_from_slice(b"frames");
    let hello = overhear(&said).unwrap().expect("a hello is there");
    assert_eq!(hello.claimed, Some(Peer { node: NodeId(1), purpose: Purpose::Messages }));
    assert_eq!(overhear(&said[..hello.bytes - 1]), Ok(None));
    let proof = overhear(&said[hello.bytes..]).unwrap().expect("a proof is there");
    assert_eq!(proof.claimed, None);
    assert_eq!(hello.bytes + proof.bytes, handshake_bytes);
    assert!(overhear(b"GET / HTTP").is_err());
}
