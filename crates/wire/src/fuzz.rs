//! One entry point per parser, for fuzzers and for the mutation tests: any bytes may go in.
//!
//! Each of them feeds the bytes twice, whole and cut into packets, and panics if that changes what comes out, or if what came
//! out is not read again from what it encodes to.

use std::{fmt::Debug, slice::Chunks};

use bytes::BytesMut;
use pontoon_kv::NodeId;

use crate::{
    handshake::{Handshake, HandshakeError, Identity, Peer, Purpose},
    peer::{self, HEADER_BYTES},
    resp::{
        Parsed, Protocol, ProtocolError, ReplyLimits, ReplyParser, RequestLimits, RequestParser, Value,
        encode, encode_request,
    },
};

/// Requests under small limits, so that short inputs reach them.
pub fn resp_request(data: &[u8]) {
    let limits = RequestLimits {
        arguments_max: 64,
        bulk_bytes_max: 256,
        request_bytes_max: 512,
        inline_bytes_max: 256,
    };
    both_ways(data, || {
        let mut parser = RequestParser::new(limits);
        move |buf: &mut BytesMut| {
            let parsed = parser.parse(buf)?;
            if let Some(Parsed::Request(arguments)) = &parsed {
                let mut again = BytesMut::new();
                encode_request(arguments, &mut again);
                let reparsed = RequestParser::new(RequestLimits::default()).parse(&mut again);
                assert_eq!(reparsed.as_ref(), Ok(&parsed), "a request is read from what it encodes to");
                assert!(again.is_empty(), "and that is all of it");
            }
            Ok::<_, ProtocolError>(parsed)
        }
    });
}

/// Replies under small limits.
pub fn resp_reply(data: &[u8]) {
    let limits = ReplyLimits {
        bulk_bytes_max: 256,
        reply_bytes_max: 1024,
        elements_max: 64,
        depth_max: 4,
        line_bytes_max: 256,
    };
    both_ways(data, || {
        let mut parser = ReplyParser::new(limits);
        move |buf: &mut BytesMut| {
            let value = parser.parse(buf)?;
            value.iter().for_each(check_encoding);
            // As text: a double may be NaN, which is not equal to itself.
            Ok::<_, ProtocolError>(value.map(|value| format!("{value:?}")))
        }
    });
}

/// A reply is read again from what it encodes to. (The second time: a status loses its line ends when it is encoded.)
fn check_encoding(value: &Value) {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let encoded = |value: &Value| {
            let mut out = BytesMut::new();
            encode(value, protocol, &mut out);
            out
        };
        let first = encoded(value);
        let mut rest = first.clone();
        let again = ReplyParser::new(ReplyLimits::default()).parse(&mut rest);
        let again = again.expect("what we say can be read").expect("and is whole");
        assert!(rest.is_empty(), "and is one reply: {value:?}");
        assert_eq!(encoded(&again), first, "a reply changed on its way: {value:?}, {again:?}");
    }
}

/// Frames as they come, and frames whose checksums hold: no change of a body would get past those. What decodes must encode to
/// the very bytes it came from.
pub fn peer_frame(data: &[u8]) {
    frames(data);
    frames(&sealed(data));
}

/// The bytes with the checksums set right, of as many frames as they hold.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut frames = data.to_vec();
    let mut rest = &mut frames[..];
    while let Some((header, behind)) = rest.split_first_chunk_mut::<HEADER_BYTES>() {
        let length = u32::from_le_bytes(*header.first_chunk().expect("a header is longer")) as usize;
        let (body, behind) = behind.split_at_mut(length.min(behind.len()));
        peer::seal(header, body);
        rest = behind;
    }
    frames
}

fn frames(data: &[u8]) {
    both_ways(data, || {
        let mut decoder = peer::Decoder::new(4096);
        move |buf: &mut BytesMut| {
            let before = buf.clone();
            let frame = decoder.decode(buf)?;
            if let Some(frame) = &frame {
                let mut again = BytesMut::new();
                peer::encode(frame, &mut again);
                assert_eq!(again, before[..again.len()], "a frame has exactly one encoding");
                assert_eq!(before.len(), again.len() + buf.len(), "and the decoder took exactly that");
            }
            Ok::<_, peer::FrameError>(frame)
        }
    });
}

/// A responder that a stranger talks to, and an initiator that reached one.
pub fn handshake(data: &[u8]) {
    let identity = || Identity {
        cluster: "fuzz".to_string(),
        node: NodeId(1),
        secret: b"secret".to_vec(),
        settings: "members 1 2 3\n".to_string(),
    };
    let sides: [fn(Identity) -> Handshake; 2] = [
        |identity| Handshake::responder(identity, [7; 32]),
        |identity| Handshake::initiator(identity, NodeId(2), Purpose::Messages, [8; 32]),
    ];
    for side in sides {
        let whole = talk(side(identity()), data.chunks(data.len().max(1)));
        let cut = talk(side(identity()), packets(data));
        assert_eq!(whole, cut, "how the bytes were cut into packets changed the talk");
    }
}

/// What a side says to these packets, and how it ends.
fn talk(mut side: Handshake, packets: Chunks<'_, u8>) -> (BytesMut, Result<Option<Peer>, HandshakeError>) {
    let (mut heard, mut said) = (BytesMut::new(), BytesMut::new());
    let mut end = side.step(&mut heard, &mut said);
    for packet in packets {
        if !matches!(end, Ok(None)) {
            break;
        }
        heard.extend_from_slice(packet);
        end = side.step(&mut heard, &mut said);
    }
    (said, end)
}

/// Feeds a parser the bytes at once and another one in packets of 1 to 16 bytes; both must say the same.
fn both_ways<T, E, P>(data: &[u8], mut parser: impl FnMut() -> P)
where
    T: PartialEq + Debug,
    E: PartialEq + Debug,
    P: FnMut(&mut BytesMut) -> Result<Option<T>, E>,
{
    let whole = run(std::iter::once(data), parser());
    let cut = run(packets(data), parser());
    assert_eq!(whole, cut, "how the bytes were cut into packets changed what they mean");
}

/// The bytes in packets of 1 to 16.
fn packets(data: &[u8]) -> Chunks<'_, u8> {
    data.chunks(1 + data.first().map_or(0, |&byte| usize::from(byte % 16)))
}

/// All that comes out, up to the first error or the first wish for bytes that do not come.
fn run<'a, T, E>(
    packets: impl Iterator<Item = &'a [u8]>,
    mut parse: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> Vec<Result<T, E>> {
    let mut buf = BytesMut::new();
    let mut parsed = Vec::new();
    for packet in packets {
        buf.extend_from_slice(packet);
        loop {
            match parse(&mut buf) {
                Ok(None) => break,
                Ok(Some(value)) => parsed.push(Ok(value)),
                Err(error) => {
                    parsed.push(Err(error));
                    return parsed;
                }
            }
        }
    }
    parsed
}
