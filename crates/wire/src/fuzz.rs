//! One entry point per parser, for fuzzers and for the mutation test: any bytes may go in.
//!
//! Each of them feeds the bytes twice, whole and cut into packets, and panics if that changes what comes out.

use std::fmt::Debug;

use bytes::BytesMut;
use pontoon_kv::NodeId;

use crate::{
    handshake::{Handshake, Identity, Purpose},
    peer,
    resp::{ReplyLimits, ReplyParser, RequestLimits, RequestParser},
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
        move |buf: &mut BytesMut| parser.parse(buf)
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
        // As text: a double may be NaN, which is not equal to itself.
        move |buf: &mut BytesMut| parser.parse(buf).map(|value| value.map(|value| format!("{value:?}")))
    });
}

/// Frames. What decodes must encode to the very bytes it came from.
pub fn peer_frame(data: &[u8]) {
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
    both_ways(data, || {
        let mut side = Handshake::responder(identity(), [7; 32]);
        move |buf: &mut BytesMut| side.step(buf, &mut BytesMut::new())
    });
    both_ways(data, || {
        let mut side = Handshake::initiator(identity(), NodeId(2), Purpose::Messages, [8; 32]);
        move |buf: &mut BytesMut| side.step(buf, &mut BytesMut::new())
    });
}

/// Feeds a parser the bytes at once and another one in packets of 1 to 16 bytes; both must say the same.
fn both_ways<T, E, P>(data: &[u8], mut parser: impl FnMut() -> P)
where
    T: PartialEq + Debug,
    E: PartialEq + Debug,
    P: FnMut(&mut BytesMut) -> Result<Option<T>, E>,
{
    let whole = run(std::iter::once(data), parser());
    let packet = 1 + data.first().map_or(0, |&byte| usize::from(byte % 16));
    let cut = run(data.chunks(packet), parser());
    assert_eq!(whole, cut, "how the bytes were cut into packets of {packet} changed what they mean");
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
