//! A listening socket of ours in front of a server's.

use std::{io, net::Ipv4Addr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
};

/// Accepts connections and has each of them carried. Dropping it ends all of them.
#[derive(Debug)]
pub(super) struct Proxy {
    /// Where it listens, `host:port`.
    pub(super) address: String,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens at a port that the system chooses. How a connection ends is the business of its two ends.
    pub(super) async fn start<F>(carry: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<Proxy>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(carry(stream));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Proxy { address, task })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection to the server at this port of this machine.
pub(super) async fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Carries bytes until they end.
pub(super) async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// Reads more onto `buffer`; an end is an error.
pub(super) async fn read(from: &mut OwnedReadHalf, buffer: &mut bytes::BytesMut) -> io::Result<()> {
    match from.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
