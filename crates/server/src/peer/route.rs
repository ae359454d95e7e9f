//! The way to one member, as the core thread sees it.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::{Message, MessageKind};
use pontoon_wire::peer::message_bytes;

use super::{PeerEvent, PeerSink, queue::Queue};

/// Between two reports that a member is unreachable.
const UNREACHABLE_PERIOD: Duration = Duration::from_millis(100);
/// A forwarded proposal with more bytes is cut between its entries: it may be all that waits on this server.
const PROPOSE_BYTES_MAX: usize = 1 << 20;

/// A member's queue, and when it was last reported as unreachable.
pub(super) struct Route {
    pub(super) queue: Queue,
    to: NodeId,
    frame_bytes_max: usize,
    reported: Mutex<Option<Instant>>,
}

impl Route {
    pub(super) fn new(to: NodeId, frame_bytes_max: usize) -> Route {
        Route { queue: Queue::default(), to, frame_bytes_max, reported: Mutex::default() }
    }

    /// Queues messages, or drops them and says so. Never waits.
    pub(super) fn send(&self, group: GroupId, messages: Vec<Message>, sink: &dyn PeerSink) {
        let fitting = messages.into_iter().flat_map(split_proposal).filter(|message| self.fits(message));
        if !self.queue.push(group, fitting) {
            self.unreachable(sink);
        }
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
