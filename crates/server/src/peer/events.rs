//! What the members' connections report, and where snapshots come from and go to.

use std::time::Duration;

use bytes::Bytes;
use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::Message;

/// What happened between members.
#[derive(Debug)]
pub enum PeerEvent {
    /// Messages of one member to one group, in the order they were sent.
    Messages {
        /// The group.
        group: GroupId,
        /// The sender, proved; every message is from it and to this member.
        from: NodeId,
        /// At least one.
        messages: Vec<Message>,
    },
    /// Messages to this member were lost: there is no connection, or its queue is full (reported once per 100 ms and member), or
    /// a connection broke.
    Unreachable(NodeId),
    /// A whole snapshot is staged and durable.
    SnapshotReceived {
        /// The group.
        group: GroupId,
        /// The message that announced it; boxed, as it is many times larger than the other events.
        message: Box<Message>,
    },
    /// [`Peers::send_snapshot`](super::Peers::send_snapshot) came to an end.
    SnapshotSent {
        /// The group.
        group: GroupId,
        /// The receiver.
        to: NodeId,
        /// Whether it holds all of it, durably.
        ok: bool,
    },
}

/// Why an event was not taken.
#[derive(Debug)]
pub enum Undelivered {
    /// No room now; here it is back.
    Full(PeerEvent),
    /// Nobody takes events any more.
    Stopped,
}

/// Takes the events. It must return at once: it is called on the threads of the sockets, and for
/// [`PeerEvent::Unreachable`] also within [`Peers::send`](super::Peers::send). When it is full, the connection that has the
/// event is not read on until it is taken.
pub trait PeerSink: Send + Sync + 'static {
    /// Takes an event or gives it back.
    fn deliver(&self, event: PeerEvent) -> Result<(), Undelivered>;
}

/// A snapshot on its way out. Called on a thread that may wait for a disk.
pub trait SnapshotSource {
    /// The next block, below 4 MiB; `None`: that was all. The text of an error goes to the log.
    fn next_block(&mut self) -> Result<Option<Bytes>, String>;
}

/// Where snapshots of other members go. Called on threads that may wait for a disk.
pub trait SnapshotSink: Send + Sync + 'static {
    /// Opens a stage. Per group there is one at a time: the one before has been finished or dropped.
    fn begin(&self, group: GroupId, message: &Message) -> Result<Box<dyn SnapshotStage>, String>;
}

/// A snapshot on its way in. Dropped without [`SnapshotStage::finish`] it is of no use.
pub trait SnapshotStage: Send {
    /// Takes the next block.
    fn block(&mut self, block: Bytes) -> Result<(), String>;

    /// Checks that it is whole and makes it durable.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// How long to wait before a full sink is asked again: long enough to be no load, short against a network's round trip.
const RETRY: Duration = Duration::from_millis(1);

/// Nobody takes events any more: the server is stopping.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("this server is stopping")]
pub(super) struct Stopped;

/// Delivers an event, waiting for room.
pub(super) async fn deliver(sink: &dyn PeerSink, mut event: PeerEvent) -> Result<(), Stopped> {
    loop {
        match sink.deliver(event) {
            Ok(()) => return Ok(()),
            Err(Undelivered::Stopped) => return Err(Stopped),
            Err(Undelivered::Full(back)) => event = back,
        }
        tokio::time::sleep(RETRY).await;
    }
}
