//! The members' side of a server: messages of the core to other members and back, and snapshots beside them.
//!
//! ```text
//!  core ─► send ─► one queue per member ─► outbound task ══ TCP, handshake ══► inbound task ─► inbox of the other core
//!                                          snapshot task ══ a connection of its own ══► stage on the disk
//! ```
//!
//! A connection carries messages in one direction, from who opened it. Nothing is parsed before the handshake has proved who
//! is there. A message that cannot be sent is dropped (Raft sends what matters again) and the core is told.

mod connection;
mod inbound;
mod outbound;
mod queue;
mod snapshot;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::{Input, Message};
use pontoon_wire::handshake::Identity;
use tokio::{net::TcpListener, runtime::Handle, sync::watch};

use self::queue::{Pushed, Queue};
use crate::{Settings, gateway::Event};

/// Where the blocks of an outgoing snapshot come from. Called on a thread that may block.
pub trait SnapshotSource: Send {
    /// The next block; none: that was the last.
    fn next_block(&mut self) -> Result<Option<Bytes>, String>;
}

/// Where incoming snapshots go. Called on threads that may block.
pub trait SnapshotSink: Send + Sync {
    /// A transfer begins; an older one that has not finished is void.
    fn begin(&self, message: &Message) -> Result<Box<dyn SnapshotStage>, String>;
}

/// An incoming snapshot that is being staged. Dropped unfinished, it leaves nothing behind.
pub trait SnapshotStage: Send {
    /// The next block.
    fn block(&mut self, block: Bytes) -> Result<(), String>;
    /// All blocks are there: on success the snapshot is whole, sound and durable.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// The address for members cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for members on {address}: {source}; choose another address with --peer-listen, and in --cluster on all members")]
pub struct BindError {
    address: String,
    source: std::io::Error,
}

/// The transport to all other members.
pub struct Peers {
    shared: Arc<Shared>,
    handle: Handle,
    stop: watch::Sender<bool>,
}

/// What all tasks share.
struct Shared {
    group: GroupId,
    identity: Identity,
    members: BTreeMap<NodeId, Member>,
    /// The longest body that a member may send.
    body_bytes_max: usize,
    inbox: Sender<Event>,
    sink: Arc<dyn SnapshotSink>,
    stopped: watch::Receiver<bool>,
}

struct Member {
    address: String,
    queue: Queue,
}

impl Peers {
    /// Listens, and starts to connect to every other member.
    pub fn start(
        settings: &Settings,
        group: GroupId,
        handle: &Handle,
        inbox: Sender<Event>,
        sink: Arc<dyn SnapshotSink>,
    ) -> Result<Peers, BindError> {
        let address = settings.peer_listen.clone();
        let listener = handle.block_on(TcpListener::bind(&address)).map_err(|source| BindError { address, source })?;
        let (stop, stopped) = watch::channel(false);
        let others = settings.cluster.members.iter().filter(|(node, _)| **node != settings.node);
        let member = |address: &String| Member { address: address.clone(), queue: Queue::default() };
        let shared = Arc::new(Shared {
            group,
            identity: Identity {
                cluster: settings.cluster.id.clone(),
                node: settings.node,
                secret: settings.cluster.secret.clone().into_bytes(),
                settings: settings.cluster.canonical(),
            },
            members: others.map(|(node, address)| (*node, member(address))).collect(),
            body_bytes_max: 2 * settings.cluster.limits.command_bytes_max() as usize + (4 << 20),
            inbox,
            sink,
            stopped,
        });
        handle.spawn(inbound::accept(shared.clone(), listener));
        for node in shared.members.keys() {
            handle.spawn(outbound::run(shared.clone(), *node));
        }
        Ok(Peers { shared, handle: handle.clone(), stop })
    }

    /// Queues messages for their members. Never waits; a member's messages beyond its queue's bound, or while it cannot be
    /// reached, are dropped and reported as [`Input::Unreachable`].
    pub fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to;
            let Some(member) = self.shared.members.get(&to) else { continue };
            if member.queue.push(message) == Pushed::Report {
                self.shared.report_unreachable(to);
            }
        }
        for member in self.shared.members.values() {
            member.queue.wake();
        }
    }

    /// Streams a snapshot to a member, `message` ahead; [`Input::SnapshotSent`] says how it ended.
    pub fn send_snapshot(&self, to: NodeId, message: Message, source: Box<dyn SnapshotSource>) {
        self.handle.spawn(snapshot::send(self.shared.clone(), to, message, source));
    }

    /// Ends all tasks; what is queued and not written yet is lost.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

impl Shared {
    fn report_unreachable(&self, node: NodeId) {
        // A full inbox has better things to say.
        let _ = self.inbox.try_send(Event::Input(Input::Unreachable(node)));
    }

    /// Waits while the core's inbox is full: so long nothing more is read from that member. False: the core has stopped.
    async fn deliver(&self, mut event: Event) -> bool {
        loop {
            match self.inbox.try_send(event) {
                Ok(()) => return true,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => event = back,
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Resolves when the transport is told to stop.
    async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // An error says that the sender is gone, which is a stop as well.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }
}
