//! What waits to be written to one member: bounded, and never in the way of the core thread.

use std::{collections::VecDeque, sync::Mutex};

use pontoon_kv::GroupId;
use pontoon_replica::{Message, MessageKind};
use pontoon_wire::peer::message_bytes;
use tokio::sync::Notify;

/// Messages that wait in one lane.
const LANE_MESSAGES_MAX: usize = 65_536;
/// Bytes that wait in the lane of messages with entries. One larger message goes alone.
const BULK_BYTES_MAX: usize = 64 << 20;
/// Bytes that wait in the lane of short messages.
const URGENT_BYTES_MAX: usize = 8 << 20;

/// Two lanes: what carries entries, in its order; and everything else, in its order, which is written first. So heartbeats,
/// votes and acknowledgements wait behind one write of entries at most. (Raft allows any reordering.)
#[derive(Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    filled: Notify,
}

#[derive(Default)]
struct Lanes {
    /// Whether there is a connection. Without one nothing is kept: it would be out of date before it could be sent.
    open: bool,
    urgent: Lane,
    bulk: Lane,
}

#[derive(Default)]
struct Lane {
    messages: VecDeque<(GroupId, Message, usize)>,
    bytes: usize,
}

impl Queue {
    /// Adds messages of a group. Returns whether all found a place. Nobody is woken: [`Queue::wake`].
    pub(super) fn push(&self, group: GroupId, messages: impl Iterator<Item = Message>) -> bool {
        let mut lanes = self.lanes.lock().expect("no panic holds this lock");
        if !lanes.open {
            return messages.count() == 0;
        }
        let mut all = true;
        for message in messages {
            all &= match message.kind {
                MessageKind::Append | MessageKind::Propose => lanes.bulk.push(group, message, BULK_BYTES_MAX),
                _ => lanes.urgent.push(group, message, URGENT_BYTES_MAX),
            };
        }
        all
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let lanes = self.lanes.lock().expect("no panic holds this lock");
        lanes.urgent.messages.is_empty() && lanes.bulk.messages.is_empty()
    }

    /// Ends a wait for [`Queue::filled`], or the next one.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// There is a connection.
    pub(super) fn open(&self) {
        self.lanes.lock().expect("no panic holds this lock").open = true;
    }

    /// There is none any more; what waited is dropped.
    pub(super) fn close(&self) {
        let closed = std::mem::take(&mut *self.lanes.lock().expect("no panic holds this lock"));
        // Outside of the lock: the core thread may be waiting for it.
        drop(closed);
    }

    /// Takes all short messages and about `bulk_bytes` of the others: at least one, if there is any.
    pub(super) fn take(&self, bulk_bytes: usize, into: &mut Vec<(GroupId, Message)>) {
        let mut lanes = self.lanes.lock().expect("no panic holds this lock");
        lanes.urgent.take(usize::MAX, into);
        lanes.bulk.take(bulk_bytes, into);
    }

    /// Waits until somebody was to be woken since the last call.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

impl Lane {
    fn push(&mut self, group: GroupId, message: Message, bytes_max: usize) -> bool {
        let bytes = message_bytes(&message);
        let full = self.messages.len() >= LANE_MESSAGES_MAX || self.bytes + bytes > bytes_max;
        if full && !self.messages.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.messages.push_back((group, message, bytes));
        true
    }

    fn take(&mut self, bytes_max: usize, into: &mut Vec<(GroupId, Message)>) {
        let mut taken = 0;
        while let Some((_, _, bytes)) = self.messages.front() {
            if taken > 0 && bytes.saturating_add(taken) > bytes_max {
                break;
            }
            let (group, message, bytes) = self.messages.pop_front().expect("it has a front");
            self.bytes -= bytes;
            taken += bytes;
            into.push((group, message));
        }
    }
}
