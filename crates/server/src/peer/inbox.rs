//! From the members' connections into the inbox of a group's core thread.

use std::sync::Arc;

use crossbeam_channel::TrySendError;
use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::Input;

use super::{PeerEvent, PeerSink, Undelivered};
use crate::{inbox::Event, network::Desk};

/// The inbox of the one group of this server. Events of other groups are dropped: no member of this cluster has any.
pub struct GroupInbox {
    group: GroupId,
    desk: Arc<Desk>,
}

impl GroupInbox {
    /// Passes the events of `group` on by way of `desk`, that of the thread that the members' connections are on.
    pub fn new(group: GroupId, desk: Arc<Desk>) -> GroupInbox {
        GroupInbox { group, desk }
    }
}

impl PeerSink for GroupInbox {
    fn deliver(&self, event: PeerEvent) -> Result<(), Undelivered> {
        let group = match event {
            PeerEvent::Messages { group, .. }
            | PeerEvent::SnapshotReceived { group, .. }
            | PeerEvent::SnapshotSent { group, .. } => group,
            PeerEvent::Unreachable(_) => self.group,
        };
        if group != self.group {
            return Ok(());
        }
        let (event, from) = match event {
            PeerEvent::Messages { messages, from, .. } => (Event::Messages(messages), Some(from)),
            PeerEvent::Unreachable(node) => (Input::Unreachable(node).into(), None),
            PeerEvent::SnapshotReceived { message, .. } => (Input::SnapshotReceived(*message).into(), None),
            PeerEvent::SnapshotSent { to, ok, .. } => (Input::SnapshotSent { to, ok }.into(), None),
        };
        self.desk.try_leave(event).map_err(|error| match error {
            TrySendError::Full(event) => Undelivered::Full(back(group, from, event)),
            TrySendError::Disconnected(_) => Undelivered::Stopped,
        })
    }
}

/// The event that found no room, as it was.
fn back(group: GroupId, from: Option<NodeId>, event: Event) -> PeerEvent {
    match (event, from) {
        (Event::Messages(messages), Some(from)) => PeerEvent::Messages { group, from, messages },
        (Event::Input(input), _) => match *input {
            Input::Unreachable(node) => PeerEvent::Unreachable(node),
            Input::SnapshotReceived(message) => {
                PeerEvent::SnapshotReceived { group, message: Box::new(message) }
            }
            Input::SnapshotSent { to, ok } => PeerEvent::SnapshotSent { group, to, ok },
            input => unreachable!("{input:?} is none of those that were made from a peer's event"),
        },
        (event, _) => unreachable!("{event:?} is none of those that were made from a peer's event"),
    }
}
