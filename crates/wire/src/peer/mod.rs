//! What members send to one another once their [handshake](crate::handshake) is done: frames.
//!
//! ```text
//! a frame, all numbers little-endian:
//!
//!   0  u32  bytes of the body                      ┐
//!   4  u8   version of the frame and its body: 1   │
//!   5  u8   kind                                   │ covered by
//!   6  u16  zero                                   │ the header's
//!   8  u64  group                                  │ checksum
//!  16  u64  xxh3-64 of the body                    ┘
//!  24  u64  xxh3-64 of the 24 bytes before
//!  32       body
//! ```
//!
//! The header has a checksum of its own, so that a damaged length is found at once and not after waiting for bytes that
//! never come. A connection that carried a damaged frame is closed: where the next one starts is unknown.
//!
//! One connection carries the messages of all groups. A snapshot travels on a connection of its own, so that it never delays
//! a heartbeat:
//!
//! ```text
//!   sender                                    receiver
//!   SnapshotBegin(message)      ───────────►
//!                               ◄───────────  SnapshotAck(next)    0, or where an earlier transfer of it ended
//!   SnapshotBlock(next), ...    ───────────►
//!                               ◄───────────  SnapshotAck(next)    now and then: the sender keeps a window
//!   SnapshotEnd(blocks)         ───────────►
//!                               ◄───────────  SnapshotDone(ok)     all of it is durable, or of no use
//! ```

mod decoder;
mod encode;
mod message;

use bytes::Bytes;
use pontoon_kv::GroupId;
use pontoon_replica::Message;

pub use decoder::Decoder;
pub(crate) use encode::seal;
pub use encode::{encode, encode_message, message_bytes};

/// The version of frames and bodies that this crate writes and reads.
pub const FRAME_VERSION: u8 = 1;

/// Bytes of a frame before its body.
pub const HEADER_BYTES: usize = 32;

/// What one member sends to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The group it belongs to.
    pub group: GroupId,
    /// What it says.
    pub body: Body,
}

/// The kinds of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A message of the group. Its entries' data share one piece of memory, which holds this frame alone.
    Message(Message),
    /// Opens the transfer of a snapshot; the message is what the receiver's replica is told when it has all.
    SnapshotBegin(Message),
    /// A piece of the snapshot.
    SnapshotBlock {
        /// Counts from 0 without gaps.
        sequence: u64,
        /// Its contents.
        bytes: Bytes,
    },
    /// There are no more blocks.
    SnapshotEnd {
        /// How many there were, those of an earlier connection included.
        blocks: u64,
    },
    /// The receiver has all blocks below this one: send from here on.
    SnapshotAck {
        /// The first block that it wants.
        next: u64,
    },
    /// The transfer is over.
    SnapshotDone {
        /// Whether the receiver holds all of it, durably. If not, the sender starts anew, if need be.
        ok: bool,
    },
}

/// Why a frame cannot be read. All of them end the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header's checksum is wrong.
    #[error(
        "damaged frame header: bytes were changed or lost on the way; the connection is closed and opened anew"
    )]
    HeaderDamaged,
    /// The body's checksum is wrong.
    #[error("damaged frame body: bytes were changed on the way; the connection is closed and opened anew")]
    BodyDamaged,
    /// Written by another version of this program.
    #[error("frame version {0} is not known here: run the same version of pontoon on all members")]
    UnknownVersion(u8),
    /// A kind that this version does not know.
    #[error("frame kind {0} is not known here: run the same version of pontoon on all members")]
    UnknownKind(u8),
    /// More than the receiver is willing to hold.
    #[error(
        "a frame of {bytes} bytes exceeds the limit of {bytes_max} (it follows from value-bytes-max, which must agree)"
    )]
    TooLong {
        /// The declared length of the body.
        bytes: u32,
        /// The limit.
        bytes_max: usize,
    },
    /// The checksums are right and the contents are not what the schema says: the sender is at fault.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
}

/// The `kind` byte of a frame's header.
mod kind {
    pub(super) const MESSAGE: u8 = 1;
    pub(super) const SNAPSHOT_BEGIN: u8 = 2;
    pub(super) const SNAPSHOT_BLOCK: u8 = 3;
    pub(super) const SNAPSHOT_END: u8 = 4;
    pub(super) const SNAPSHOT_ACK: u8 = 5;
    pub(super) const SNAPSHOT_DONE: u8 = 6;
}
