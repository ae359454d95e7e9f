//! What goes over a connection.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pontoon_wire::resp;

/// One request in its form on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// A read, as it is.
    Plain(Arc<[Bytes]>),
    /// A copy of a write.
    Once {
        /// The session.
        sid: u64,
        /// The request's number in it.
        seq: u64,
        /// The lowest number without an answer.
        ack: u64,
        /// What to execute.
        command: Arc<[Bytes]>,
    },
    /// `SESSION OPEN`
    OpenSession,
    /// `SESSION KEEPALIVE sid`
    KeepAlive {
        /// The session.
        sid: u64,
    },
    /// `SESSION CLOSE sid`
    CloseSession {
        /// The session.
        sid: u64,
    },
}

impl Sending {
    /// Appends its bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Sending::Plain(command) => resp::encode_request(command, out),
            Sending::Once { sid, seq, ack, command } => {
                let (sid, seq, ack) = (sid.to_string(), seq.to_string(), ack.to_string());
                let mut words: Vec<&[u8]> = Vec::with_capacity(4 + command.len());
                words.extend([&b"ONCE"[..], sid.as_bytes(), seq.as_bytes(), ack.as_bytes()]);
                words.extend(command.iter().map(|word| &word[..]));
                resp::encode_request(&words, out);
            }
            Sending::OpenSession => resp::encode_request(&["SESSION", "OPEN"], out),
            Sending::KeepAlive { sid } => {
                resp::encode_request(&["SESSION", "KEEPALIVE", &sid.to_string()], out)
            }
            Sending::CloseSession { sid } => {
                resp::encode_request(&["SESSION", "CLOSE", &sid.to_string()], out)
            }
        }
    }
}
