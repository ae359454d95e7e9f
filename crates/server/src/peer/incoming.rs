//! Accepts the connections of other members.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use pontoon_kv::NodeId;
use pontoon_replica::MessageKind;
use pontoon_wire::{
    handshake::{Peer, Purpose},
    peer::{Body, Frame},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    task::JoinSet,
};

use super::{
    PeerEvent,
    context::Context,
    events::deliver,
    snapshot_in,
    socket::{Frames, Link, LinkError},
};

/// Connections at once, those included that have proved nothing yet. Members need two each.
const CONNECTIONS_MAX: usize = 256;
/// After a failed accept (too many open files): a moment, so that some can be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The task that listens; its connections end with it.
pub(super) struct Incoming {
    context: Arc<Context>,
    listener: TcpListener,
    /// Of each member the latest connection with messages: a new one ends the one before, which may be dead without knowing.
    latest: Arc<Mutex<BTreeMap<NodeId, Arc<Notify>>>>,
}

impl Incoming {
    pub(super) fn new(context: Arc<Context>, listener: TcpListener) -> Incoming {
        Incoming { context, listener, latest: Arc::default() }
    }

    pub(super) async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            match accepted {
                Ok((stream, address)) => match slots.clone().try_acquire_owned() {
                    Ok(slot) => {
                        let connection = Connection {
                            context: self.context.clone(),
                            latest: self.latest.clone(),
                            from: address.ip().to_string(),
                        };
                        connections.spawn(async move {
                            connection.run(stream).await;
                            drop(slot);
                        });
                    }
                    Err(_) => self.complain(&format!("more than {CONNECTIONS_MAX} connections of members")),
                },
                Err(error) => {
                    self.complain(&format!("cannot accept connections of members: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn complain(&self, reason: &str) {
        if self.context.quiet.allows(reason) {
            tracing::warn!(reason, "connection refused at the peer port");
        }
    }
}

/// One accepted connection.
struct Connection {
    context: Arc<Context>,
    latest: Arc<Mutex<BTreeMap<NodeId, Arc<Notify>>>>,
    from: String,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let link = match Link::accept(&self.context, stream).await {
            Ok(link) => link,
            Err(error) => return self.refuse(&error.to_string()),
        };
        let Peer { node, purpose } = link.peer;
        let Some(member) = self.context.members.get(&node) else {
            return self.refuse(&format!(
                "node {node} is not a member of this cluster: name it in the cluster setting of all members"
            ));
        };
        match purpose {
            Purpose::Messages => {
                member.heard.notify_one();
                let ended = self.messages(node, link).await;
                match ended {
                    // How connections usually end; the outgoing side reports that the member is away.
                    LinkError::Closed | LinkError::Io(_) | LinkError::Stopped(_) => {}
                    error => {
                        let reason = error.to_string();
                        if self.context.quiet.allows(&format!("{node} {reason}")) {
                            tracing::warn!(peer = node.0, reason, "connection of a member closed");
                        }
                    }
                }
            }
            Purpose::Snapshot => snapshot_in::receive(&self.context, node, link).await,
        }
    }

    fn refuse(&self, reason: &str) {
        if self.context.quiet.allows(&format!("{} {reason}", self.from)) {
            tracing::warn!(address = self.from, reason, "connection refused at the peer port");
        }
    }

    /// Reads messages until the connection ends.
    async fn messages(&self, from: NodeId, link: Link) -> LinkError {
        let replaced = Arc::new(Notify::new());
        let before = self.latest.lock().expect("no panic holds this lock").insert(from, replaced.clone());
        if let Some(before) = before {
            before.notify_one();
        }
        let (mut frames, _write) = link.into_frames(self.context.decoder());
        tokio::select! {
            result = self.read(from, &mut frames) => match result {
                Ok(never) => match never {},
                Err(error) => error,
            },
            () = replaced.notified() => LinkError::Closed,
        }
    }

    async fn read(&self, from: NodeId, frames: &mut Frames) -> Result<std::convert::Infallible, LinkError> {
        loop {
            let mut group = None;
            let mut messages = Vec::new();
            while let Some(frame) = frames.ready()? {
                let Frame { group: of, body: Body::Message(message) } = frame else {
                    return Err(LinkError::Protocol("a frame of a snapshot among messages"));
                };
                if (message.from, message.to) != (from, self.context.identity.node) {
                    return Err(LinkError::Protocol("a message of or for somebody else"));
                }
                if message.kind == MessageKind::Snapshot {
                    return Err(LinkError::Protocol("a snapshot without its contents"));
                }
                if group.is_some_and(|group| group != of) {
                    self.deliver(group, from, std::mem::take(&mut messages)).await?;
                }
                group = Some(of);
                messages.push(message);
            }
            self.deliver(group, from, messages).await?;
            frames.read().await?;
        }
    }

    async fn deliver(
        &self,
        group: Option<pontoon_kv::GroupId>,
        from: NodeId,
        messages: Vec<pontoon_replica::Message>,
    ) -> Result<(), LinkError> {
        if let Some(group) = group {
            deliver(&*self.context.sink, PeerEvent::Messages { group, from, messages }).await?;
        }
        Ok(())
    }
}
