//! Frames out of bytes.

use bytes::{Buf, Bytes, BytesMut};
use pontoon_kv::GroupId;
use xxhash_rust::xxh3::xxh3_64;

use super::{Body, FRAME_VERSION, Frame, FrameError, HEADER_BYTES, kind, message};

/// Frames up to this length are copied: about what one read gives.
const COPIED_BYTES_MAX: usize = 128 << 10;

/// Takes frames off a buffer, one by one.
///
/// A frame is taken off once it is whole, and keeps nothing of the buffer but its own bytes. The decoder itself holds nothing but its
/// bound: the buffer grows to at most one frame and what the caller read beyond it.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    body_bytes_max: usize,
}

impl Decoder {
    /// A decoder that takes bodies up to this many bytes. Members must agree on what they derive it from.
    pub fn new(body_bytes_max: usize) -> Decoder {
        Decoder { body_bytes_max }
    }

    /// Takes the first frame off `buf`; `None`: more bytes are needed. Call it again until then. After an error close the
    /// connection.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(header) = buf.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::decode(header)?;
        if header.body_bytes as usize > self.body_bytes_max {
            return Err(FrameError::TooLong { bytes: header.body_bytes, bytes_max: self.body_bytes_max });
        }
        let frame_bytes = HEADER_BYTES + header.body_bytes as usize;
        if buf.len() < frame_bytes {
            return Ok(None);
        }
        let body = take_body(buf, frame_bytes);
        if xxh3_64(&body) != header.body_checksum {
            return Err(FrameError::BodyDamaged);
        }
        Ok(Some(Frame { group: header.group, body: decode_body(header.kind, body)? }))
    }

    /// How many bytes of the frame at the front are yet to come, after [`Decoder::decode`] has found that it is not whole; 0: not
    /// known yet.
    pub fn missing(&self, buf: &[u8]) -> usize {
        let header = buf.first_chunk::<HEADER_BYTES>().and_then(|header| Header::decode(header).ok());
        header.map_or(0, |header| (HEADER_BYTES + header.body_bytes as usize).saturating_sub(buf.len()))
    }
}

/// Takes a whole frame off the buffer. Entries live on in the log's window for long, so none may keep more memory than its frame
/// has: a short frame is copied, and with a long one its buffer goes.
fn take_body(buf: &mut BytesMut, frame_bytes: usize) -> Bytes {
    if frame_bytes <= COPIED_BYTES_MAX {
        let body = Bytes::copy_from_slice(&buf[HEADER_BYTES..frame_bytes]);
        buf.advance(frame_bytes);
        return body;
    }
    let mut body = buf.split_to(frame_bytes).freeze();
    body.advance(HEADER_BYTES);
    *buf = BytesMut::from(&buf[..]);
    body
}

struct Header {
    body_bytes: u32,
    kind: u8,
    group: GroupId,
    body_checksum: u64,
}

impl Header {
    fn decode(header: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
        let mut rest = &header[..];
        let body_bytes = rest.get_u32_le();
        let version = rest.get_u8();
        let kind = rest.get_u8();
        let zero = rest.get_u16_le();
        let group = GroupId(rest.get_u64_le());
        let body_checksum = rest.get_u64_le();
        if rest.get_u64_le() != xxh3_64(&header[..24]) {
            return Err(FrameError::HeaderDamaged);
        }
        if version != FRAME_VERSION {
            return Err(FrameError::UnknownVersion(version));
        }
        if zero != 0 {
            return Err(FrameError::Malformed("reserved bytes of the header are not zero"));
        }
        Ok(Header { body_bytes, kind, group, body_checksum })
    }
}

fn decode_body(kind: u8, mut body: Bytes) -> Result<Body, FrameError> {
    match kind {
        kind::MESSAGE => Ok(Body::Message(message::decode(body)?)),
        kind::SNAPSHOT_BEGIN => Ok(Body::SnapshotBegin(message::decode(body)?)),
        kind::SNAPSHOT_BLOCK => {
            if body.len() < 8 {
                return Err(FrameError::Malformed("a snapshot block without a sequence number"));
            }
            Ok(Body::SnapshotBlock { sequence: body.get_u64_le(), bytes: body })
        }
        kind::SNAPSHOT_END => Ok(Body::SnapshotEnd { blocks: only_u64(&body)? }),
        kind::SNAPSHOT_ACK => Ok(Body::SnapshotAck { next: only_u64(&body)? }),
        kind::SNAPSHOT_DONE => match body[..] {
            [0] => Ok(Body::SnapshotDone { ok: false }),
            [1] => Ok(Body::SnapshotDone { ok: true }),
            _ => Err(FrameError::Malformed("the end of a snapshot is neither good nor bad")),
        },
        other => Err(FrameError::UnknownKind(other)),
    }
}

fn only_u64(body: &[u8]) -> Result<u64, FrameError> {
    let bytes = body.try_into().map_err(|_| FrameError::Malformed("a count that is not 8 bytes long"))?;
    Ok(u64::from_le_bytes(bytes))
}
