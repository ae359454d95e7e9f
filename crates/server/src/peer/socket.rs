//! One connection: its options, its handshake, its frames.

use std::{io, time::Duration};

use bytes::BytesMut;
use pontoon_kv::NodeId;
use pontoon_wire::{
    handshake::{Handshake, HandshakeError, Peer, Purpose},
    peer::{Decoder, Frame, FrameError},
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::context::{Context, nonce};

/// How long connecting may take: members are near, and there is another attempt soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a handshake may take. It bounds how long a stranger holds one of the connections.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing for so long is gone, whatever its network says.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// Reads are this large at most, unless a frame is larger.
const READ_BYTES: usize = 128 << 10;
/// With less room left there is made some.
const ROOM_BYTES_MIN: usize = 8 << 10;
/// Reads during a handshake: its parts are short.
const HANDSHAKE_READ_BYTES: usize = 4 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other member closed the connection")]
    Closed,
    #[error("{what} took longer than {} s", .after.as_secs())]
    TimedOut { what: &'static str, after: Duration },
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("it broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("{0}")]
    Stopped(#[from] super::events::Stopped),
    #[error("snapshot: {0}")]
    Snapshot(String),
}

/// Waits for a future for so long.
pub(super) async fn within<T>(
    after: Duration,
    what: &'static str,
    future: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(after, future).await.unwrap_or(Err(LinkError::TimedOut { what, after }))
}

/// A connection whose other end is proved, and what has been read of it beyond the handshake.
pub(super) struct Link {
    pub(super) peer: Peer,
    stream: TcpStream,
    read: BytesMut,
}

impl Link {
    /// Connects to a member of the context.
    pub(super) async fn open(context: &Context, to: NodeId, purpose: Purpose) -> Result<Link, LinkError> {
        let address = &context.members.get(&to).expect("only members are connected to").address;
        let stream =
            within(CONNECT_TIMEOUT, "connecting", async { Ok(TcpStream::connect(address).await?) }).await?;
        set_options(&stream)?;
        let handshake = Handshake::initiator(context.identity.clone(), to, purpose, nonce());
        within(HANDSHAKE_TIMEOUT, "the handshake", shake_hands(stream, handshake)).await
    }

    /// Answers a connection.
    pub(super) async fn accept(context: &Context, stream: TcpStream) -> Result<Link, LinkError> {
        set_options(&stream)?;
        let handshake = Handshake::responder(context.identity.clone(), nonce());
        within(HANDSHAKE_TIMEOUT, "the handshake", shake_hands(stream, handshake)).await
    }

    /// Both directions, the incoming one cut into frames.
    pub(super) fn into_frames(self, decoder: Decoder) -> (Frames, OwnedWriteHalf) {
        let (stream, write) = self.stream.into_split();
        (Frames { stream, read: self.read, decoder }, write)
    }
}

/// Frames as they come in.
pub(super) struct Frames {
    stream: OwnedReadHalf,
    read: BytesMut,
    decoder: Decoder,
}

impl Frames {
    /// The next frame that has been read already.
    pub(super) fn ready(&mut self) -> Result<Option<Frame>, FrameError> {
        self.decoder.decode(&mut self.read)
    }

    /// Reads what has come, waiting until something does. May be dropped while it waits; nothing is lost.
    pub(super) async fn read(&mut self) -> Result<(), LinkError> {
        let missing = self.decoder.missing(&self.read);
        if self.read.capacity() - self.read.len() < missing.max(ROOM_BYTES_MIN) {
            self.read.reserve(missing.max(READ_BYTES));
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(LinkError::Closed),
            _ => Ok(()),
        }
    }

    /// The next frame. May be dropped while it waits; nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.ready()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    // For a side that only reads; a side that writes notices by what is not acknowledged.
    let keepalive =
        TcpKeepalive::new().with_time(SILENCE_MAX / 2).with_interval(SILENCE_MAX / 4).with_retries(2);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(())
}

/// Limits how long the peer may acknowledge nothing, or take nothing. (A snapshot's receiver may be busy with its disk for
/// longer; both sides of a transfer watch its progress themselves.)
fn limit_silence(stream: &TcpStream, purpose: Purpose) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if purpose == Purpose::Messages {
        SockRef::from(stream).set_tcp_user_timeout(Some(SILENCE_MAX))?;
    }
    Ok(())
}

async fn shake_hands(mut stream: TcpStream, mut handshake: Handshake) -> Result<Link, LinkError> {
    let (mut read, mut said) = (BytesMut::new(), BytesMut::new());
    loop {
        let result = handshake.step(&mut read, &mut said);
        if !said.is_empty() {
            let sent = stream.write_all_buf(&mut said).await;
            // Why the other side is refused matters more than whether it was still there to be told.
            if result.is_ok() {
                sent?;
            }
        }
        if let Some(peer) = result? {
            limit_silence(&stream, peer.purpose)?;
            return Ok(Link { peer, stream, read });
        }
        read.reserve(HANDSHAKE_READ_BYTES);
        if stream.read_buf(&mut read).await? == 0 {
            return Err(LinkError::Closed);
        }
    }
}
