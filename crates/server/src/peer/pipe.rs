//! The writing side of the connection to one member.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
};

use bytes::BytesMut;
use pontoon_kv::GroupId;
use pontoon_replica::Message;
use pontoon_wire::peer::encode_message;
use tokio::net::tcp::OwnedWriteHalf;

use super::queue::Queue;
use crate::buffer;

/// Entries in one write, at most (one larger message goes alone): what a heartbeat may have to wait for.
const WRITE_BYTES: usize = 1 << 20;
/// A write buffer that has grown beyond this, which usual writes do not need, is given back.
const BUFFER_KEPT_BYTES_MAX: usize = 2 * WRITE_BYTES;

/// The socket, and the frames that it has not taken yet.
pub(super) struct Pipe {
    socket: Arc<OwnedWriteHalf>,
    batch: Vec<(GroupId, Message)>,
    out: BytesMut,
}

/// What became of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All of it is in the socket.
    All,
    /// One write is done; there is more to write at once.
    Some,
    /// The socket takes no more for now.
    Full,
}

impl Pipe {
    pub(super) fn new(socket: Arc<OwnedWriteHalf>) -> Pipe {
        Pipe { socket, batch: Vec::new(), out: BytesMut::new() }
    }

    /// Writes what the socket takes at once, by one write.
    pub(super) fn flush(&mut self, queue: &Queue) -> io::Result<Flushed> {
        if self.out.is_empty() {
            queue.take(WRITE_BYTES, &mut self.batch);
            if self.batch.is_empty() {
                return Ok(Flushed::All);
            }
            for (group, message) in self.batch.drain(..) {
                encode_message(group, &message, &mut self.out);
            }
        }
        match self.socket.try_write(&self.out) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => buffer::written(&mut self.out, taken, BUFFER_KEPT_BYTES_MAX),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Flushed::Full),
            Err(error) => return Err(error),
        }
        Ok(if self.out.is_empty() && queue.is_empty() { Flushed::All } else { Flushed::Some })
    }
}
