//! A connection between two members, from the socket to the end of the handshake.

use std::{io, time::Duration};

use bytes::BytesMut;
use pontoon_kv::NodeId;
use pontoon_wire::handshake::{Handshake, HandshakeError, Nonce, Peer, Purpose};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Shared;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that acknowledges nothing for this long is gone: TCP alone would wait for a quarter of an hour.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// Not reached, or it went away.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It says nothing, or not enough.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// It must not be talked to.
    #[error("{0}")]
    Refused(#[from] HandshakeError),
}

/// Opens a connection to a member and proves who is who. Bytes that came behind the handshake are in the buffer.
pub(super) async fn open(shared: &Shared, node: NodeId, purpose: Purpose) -> Result<(TcpStream, BytesMut), ConnectError> {
    let address = &shared.members[&node].address;
    let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    let mut socket = connect.map_err(|_| ConnectError::Silent(CONNECT_TIMEOUT))??;
    tune(&socket)?;
    let handshake = Handshake::initiator(shared.identity.clone(), node, purpose, nonce());
    let (_, rest) = shake_hands(&mut socket, handshake).await?;
    Ok((socket, rest))
}

/// Lets a member prove itself that has connected.
pub(super) async fn admit(shared: &Shared, socket: &mut TcpStream) -> Result<(Peer, BytesMut), ConnectError> {
    tune(socket)?;
    shake_hands(socket, Handshake::responder(shared.identity.clone(), nonce())).await
}

async fn shake_hands(socket: &mut TcpStream, mut handshake: Handshake) -> Result<(Peer, BytesMut), ConnectError> {
    let shake = async {
        let mut input = BytesMut::new();
        let mut output = BytesMut::new();
        loop {
            let progress = handshake.step(&mut input, &mut output);
            socket.write_all_buf(&mut output).await?;
            if let Some(peer) = progress? {
                return Ok((peer, input));
            }
            if socket.read_buf(&mut input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    };
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake).await;
    shaken.unwrap_or(Err(ConnectError::Silent(HANDSHAKE_TIMEOUT)))
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
    let probes = socket2::TcpKeepalive::new().with_time(Duration::from_secs(2)).with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    Ok(())
}

fn nonce() -> Nonce {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
    nonce
}
