//! A plain Redis connection to a server.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::BytesMut;
use pontoon_wire::resp::{ReplyLimits, ReplyParser, Value, encode_request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::proxy::connect;

/// A server answers within its `--request-timeout` of 5 s, whatever the answer is.
const REPLY_WITHIN: Duration = Duration::from_secs(8);

/// A connection without a session.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    buffer: BytesMut,
}

impl Connection {
    pub(super) async fn open(port: u16) -> io::Result<Connection> {
        let stream = connect(port).await?;
        Ok(Connection { stream, parser: ReplyParser::new(ReplyLimits::default()), buffer: BytesMut::new() })
    }

    /// Sends a request.
    pub(super) async fn send(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut request = BytesMut::new();
        encode_request(words, &mut request);
        self.stream.write_all(&request).await
    }

    /// The next reply.
    pub(super) async fn receive(&mut self) -> io::Result<Value> {
        let reply = async {
            loop {
                if let Some(value) = self.parser.parse(&mut self.buffer).map_err(io::Error::other)? {
                    return Ok(value);
                }
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        timeout(REPLY_WITHIN, reply).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    pub(super) async fn ask(&mut self, words: &[impl AsRef<[u8]>]) -> io::Result<Value> {
        self.send(words).await?;
        self.receive().await
    }
}

/// Asks on a connection of its own.
pub(super) async fn ask(port: u16, words: &[impl AsRef<[u8]>]) -> io::Result<Value> {
    Connection::open(port).await?.ask(words).await
}

/// What `INFO raft` says, by name.
pub(super) async fn raft_info(port: u16) -> io::Result<BTreeMap<String, String>> {
    let Value::Bulk(text) = ask(port, &["INFO", "raft"]).await? else {
        return Err(io::Error::other("INFO is answered with text"));
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines.map(|(name, value)| (name.to_string(), value.to_string())).collect())
}
