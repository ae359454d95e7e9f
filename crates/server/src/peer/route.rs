//! The way to one member, as the core thread sees it.

use std::{
    io,
    sync::{Arc, Mutex, TryLockError},
    time::{Duration, Instant},
};

use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::{Message, MessageKind};
use pontoon_wire::peer::message_bytes;
use tokio::net::tcp::OwnedWriteHalf;

use super::{
    PeerEvent, PeerSink,
    pipe::{Flushed, Pipe},
    queue::Queue,
};

/// Between two reports that a member is unreachable.
const UNREACHABLE_PERIOD: Duration = Duration::from_millis(100);
/// A forwarded proposal with more bytes is cut between its entries: it may be all that waits on this server.
const PROPOSE_BYTES_MAX: usize = 1 << 20;

/// A member's queue, the connection that it goes to, and when the member was last reported as unreachable.
pub(super) struct Route {
    queue: Queue,
    /// Held while writing, which never waits.
    pipe: Mutex<Option<Pipe>>,
    to: NodeId,
    frame_bytes_max: usize,
    reported: Mutex<Option<Instant>>,
}

impl Route {
    pub(super) fn new(to: NodeId, frame_bytes_max: usize) -> Route {
        Route {
            queue: Queue::default(),
            pipe: Mutex::default(),
            to,
            frame_bytes_max,
            reported: Mutex::default(),
        }
    }

    /// Writes messages if the socket takes them at once, else queues them, or drops them and says so. Never waits.
    ///
    /// To write here rather than in the task saves a lone request a change of threads on each of its ways between members.
    pub(super) fn send(&self, group: GroupId, messages: Vec<Message>, sink: &dyn PeerSink) {
        let fitting = messages.into_iter().flat_map(split_proposal).filter(|message| self.fits(message));
        if !self.queue.push(group, fitting) {
            self.unreachable(sink);
        }
        let flushed = match self.pipe.try_lock() {
            Ok(mut pipe) => pipe.as_mut().map_or(Ok(Flushed::All), |pipe| pipe.flush(&self.queue)),
            // The task is writing, and may have looked at the queue already.
            Err(TryLockError::WouldBlock) => Ok(Flushed::Some),
            Err(TryLockError::Poisoned(_)) => panic!("no panic holds this lock"),
        };
        // What is left, an error too, is for the task.
        if !matches!(flushed, Ok(Flushed::All)) {
            self.queue.wake();
        }
    }

    /// There is a connection: messages go there from now on.
    pub(super) fn open(&self, socket: Arc<OwnedWriteHalf>) {
        *self.pipe.lock().expect("no panic holds this lock") = Some(Pipe::new(socket));
        self.queue.open();
    }

    /// There is none any more; what waited is dropped.
    pub(super) fn close(&self) {
        let closed = self.pipe.lock().expect("no panic holds this lock").take();
        drop(closed);
        self.queue.close();
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&self) -> io::Result<Flushed> {
        loop {
            let mut pipe = self.pipe.lock().expect("no panic holds this lock");
            match pipe
                .as_mut()
                .expect("the task writes only while there is a connection")
                .flush(&self.queue)?
            {
                // The lock is let go in between: the core thread may have something urgent.
                Flushed::Some => {}
                flushed => return Ok(flushed),
            }
        }
    }

    /// Waits until there may be something to write.
    pub(super) async fn filled(&self) {
        self.queue.filled().await;
    }

    /// Reports the loss of a connection, and with it of messages that were on their way.
    pub(super) fn lost(&self, sink: &dyn PeerSink) {
        *self.reported.lock().expect("no panic holds this lock") = None;
        self.unreachable(sink);
    }

    /// Reports the member as unreachable, unless it has just been.
    fn unreachable(&self, sink: &dyn PeerSink) {
        let now = Instant::now();
        let mut reported = self.reported.lock().expect("no panic holds this lock");
        if reported.is_some_and(|at| now.duration_since(at) < UNREACHABLE_PERIOD) {
            return;
        }
        // A full sink misses one of many reports.
        if sink.deliver(PeerEvent::Unreachable(self.to)).is_ok() {
            *reported = Some(now);
        }
    }

    /// The receiver would close the connection over a frame that is too long, again and again.
    fn fits(&self, message: &Message) -> bool {
        let (bytes, bytes_max) = (message_bytes(message), self.frame_bytes_max);
        if bytes > bytes_max {
            tracing::error!(peer = self.to.0, kind = ?message.kind, bytes, bytes_max, "message too long; not sent");
        }
        bytes <= bytes_max
    }
}

/// Cuts a proposal of many entries into several. They need not go together: each is committed or proposed again by itself.
fn split_proposal(mut message: Message) -> Vec<Message> {
    if message.kind != MessageKind::Propose || message_bytes(&message) <= PROPOSE_BYTES_MAX {
        return vec![message];
    }
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for entry in std::mem::take(&mut message.entries) {
        if bytes + entry.data.len() > PROPOSE_BYTES_MAX && !part.is_empty() {
            parts.push(Message { entries: std::mem::take(&mut part), ..message.clone() });
            bytes = 0;
        }
        bytes += entry.data.len();
        part.push(entry);
    }
    parts.push(Message { entries: part, ..message });
    parts
}
