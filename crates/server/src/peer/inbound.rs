//! The tasks that hear other members.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use pontoon_kv::NodeId;
use pontoon_replica::Message;
use pontoon_wire::{
    handshake::Purpose,
    peer::{Body, Decoder, Frame, FrameError},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use super::{Shared, connection, snapshot};
use crate::gateway::Event;

/// Connections of members, and of strangers that have not proved anything yet.
const CONNECTIONS_MAX: usize = 64;

/// Why a member is no longer listened to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("it sent a frame that does not belong on this connection")]
    Misplaced,
    #[error("it closed the connection")]
    Closed,
    #[error("this server stops")]
    Stopped,
}

/// Accepts members until the transport stops.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let serve = async {
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            match listener.accept().await {
                Ok((socket, _)) => {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = hear(&shared, socket) => {}
                            () = shared.stopped() => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(reason = %error, "cannot accept a member's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    tokio::select! {
        () = serve => {}
        () = shared.stopped() => {}
    }
}

async fn hear(shared: &Arc<Shared>, mut socket: TcpStream) {
    let (peer, rest) = match connection::admit(shared, &mut socket).await {
        Ok(admitted) => admitted,
        Err(error) => {
            tracing::debug!(reason = %error, "refused a connection on the members' port");
            return;
        }
    };
    if !shared.members.contains_key(&peer.node) {
        tracing::warn!(peer = peer.node.0, "refused a connection of a server that is no member");
        return;
    }
    let frames = Frames { socket, buffer: rest, decoder: Decoder::new(shared.body_bytes_max) };
    let ended = match peer.purpose {
        Purpose::Messages => receive(shared, peer.node, frames).await,
        Purpose::Snapshot => snapshot::receive(shared, peer.node, frames).await,
    };
    match ended {
        Err(ReceiveError::Closed | ReceiveError::Stopped) | Ok(()) => {}
        Err(error) => tracing::warn!(peer = peer.node.0, reason = %error, "closed a member's connection"),
    }
}

/// Hands a member's messages to the core, all that came at once together.
async fn receive(shared: &Shared, peer: NodeId, mut frames: Frames) -> Result<(), ReceiveError> {
    loop {
        let first = frames.next().await?;
        let mut messages = vec![shared.message_of(peer, first)?];
        while let Some(frame) = frames.next_buffered()? {
            messages.push(shared.message_of(peer, frame)?);
        }
        if !shared.deliver(Event::Messages(messages)).await {
            return Err(ReceiveError::Stopped);
        }
    }
}

impl Shared {
    /// A member speaks for itself, to this member, of a group that is here.
    pub(super) fn message_of(&self, peer: NodeId, frame: Frame) -> Result<Message, ReceiveError> {
        match frame.body {
            Body::Message(message) | Body::SnapshotBegin(message)
                if frame.group == self.group && message.from == peer && message.to == self.identity.node =>
            {
                Ok(message)
            }
            _ => Err(ReceiveError::Misplaced),
        }
    }
}

/// A connection as a sequence of frames.
pub(super) struct Frames {
    pub(super) socket: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Frames {
    pub(super) fn new(socket: TcpStream, buffer: BytesMut, body_bytes_max: usize) -> Frames {
        Frames { socket, buffer, decoder: Decoder::new(body_bytes_max) }
    }

    /// The next frame. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Frame, ReceiveError> {
        loop {
            if let Some(frame) = self.next_buffered()? {
                return Ok(frame);
            }
            self.buffer.reserve(64 << 10);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReceiveError::Closed);
            }
        }
    }

    fn next_buffered(&mut self) -> Result<Option<Frame>, ReceiveError> {
        Ok(self.decoder.decode(&mut self.buffer)?)
    }
}
