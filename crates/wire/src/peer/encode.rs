//! Frames into bytes.

use bytes::{BufMut, BytesMut};
use pontoon_kv::GroupId;
use pontoon_replica::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::{Body, FRAME_VERSION, Frame, HEADER_BYTES, kind, message};

/// Appends the frame of a message to `out`.
///
/// # Panics
/// If the body does not fit 4 GiB. (What a message may carry is bounded far below by the sender's `append_bytes_max`.)
pub fn encode_message(group: GroupId, message: &Message, out: &mut BytesMut) {
    frame(group, kind::MESSAGE, message::bytes(message), out, |out| message::encode(message, out));
}

/// The length of [`encode_message`]'s frame, in bytes.
pub fn message_bytes(message: &Message) -> usize {
    HEADER_BYTES + message::bytes(message)
}

/// Appends a frame to `out`.
///
/// # Panics
/// As [`encode_message`].
pub fn encode(Frame { group, body }: &Frame, out: &mut BytesMut) {
    let group = *group;
    match body {
        Body::Message(message) => encode_message(group, message, out),
        Body::SnapshotBegin(message) => {
            frame(group, kind::SNAPSHOT_BEGIN, message::bytes(message), out, |out| {
                message::encode(message, out)
            });
        }
        Body::SnapshotBlock { sequence, bytes } => {
            frame(group, kind::SNAPSHOT_BLOCK, 8 + bytes.len(), out, |out| {
                out.put_u64_le(*sequence);
                out.put_slice(bytes);
            })
        }
        Body::SnapshotEnd { blocks } => {
            frame(group, kind::SNAPSHOT_END, 8, out, |out| out.put_u64_le(*blocks));
        }
        Body::SnapshotAck { next } => frame(group, kind::SNAPSHOT_ACK, 8, out, |out| out.put_u64_le(*next)),
        Body::SnapshotDone { ok } => {
            frame(group, kind::SNAPSHOT_DONE, 1, out, |out| out.put_u8(u8::from(*ok)))
        }
    }
}

/// Writes the body behind a header that is filled in afterwards.
fn frame(group: GroupId, kind: u8, body_bytes: usize, out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let length =
        u32::try_from(body_bytes).expect("a frame's body is below 4 GiB: append_bytes_max bounds it");
    out.reserve(HEADER_BYTES + body_bytes);
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES);
    body(out);
    let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
    assert_eq!(body.len(), body_bytes, "a body has the length that was computed for it");
    header[0..4].copy_from_slice(&length.to_le_bytes());
    header[4] = FRAME_VERSION;
    header[5] = kind;
    header[8..16].copy_from_slice(&group.0.to_le_bytes());
    seal(header, body);
}

/// Fills in the checksums of a header.
pub(crate) fn seal(header: &mut [u8], body: &[u8]) {
    header[16..24].copy_from_slice(&xxh3_64(body).to_le_bytes());
    let checksum = xxh3_64(&header[..24]);
    header[24..32].copy_from_slice(&checksum.to_le_bytes());
}
