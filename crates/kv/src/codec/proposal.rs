//! `Proposal` (version 1): a tag byte, then
//!
//! | tag | proposal | fields |
//! | --- | --- | --- |
//! | 1 | Open | call, kind: byte (0 client, 1 relay) |
//! | 2 | KeepAlive | call, session: varint |
//! | 3 | Close | call, session: varint |
//! | 4 | Once | session: varint, seq: varint, ack: varint, command |
//! | 5 | Relay | session: varint, seq: varint, ack: varint, attempt: varint (32 bits), command |
//!
//! where *call* is node: varint, nonce: u64.

use super::{DecodeError, Decoder, Encoding, put_varint};
use crate::{CallId, Command, NodeId, Proposal, Seq, SessionId, SessionKind};

impl Encoding for Proposal {
    const NAME: &'static str = "proposal";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Proposal::Open { call, kind } => {
                put_call(out, 1, call);
                kind.write(out);
            }
            Proposal::KeepAlive { call, session } => {
                put_call(out, 2, call);
                put_varint(out, session.0);
            }
            Proposal::Close { call, session } => {
                put_call(out, 3, call);
                put_varint(out, session.0);
            }
            Proposal::Once { session, seq, ack, command } => {
                put_request(out, 4, *session, *seq, *ack);
                command.write(out);
            }
            Proposal::Relay { session, seq, ack, attempt, command } => {
                put_request(out, 5, *session, *seq, *ack);
                put_varint(out, u64::from(*attempt));
                command.write(out);
            }
        }
    }

    fn read(from: &mut Decoder) -> Result<Proposal, DecodeError> {
        Ok(match from.byte()? {
            1 => Proposal::Open { call: read_call(from)?, kind: SessionKind::read(from)? },
            2 => Proposal::KeepAlive { call: read_call(from)?, session: SessionId(from.varint()?) },
            3 => Proposal::Close { call: read_call(from)?, session: SessionId(from.varint()?) },
            4 => Proposal::Once {
                session: SessionId(from.varint()?),
                seq: Seq(from.varint()?),
                ack: Seq(from.varint()?),
                command: Command::read(from)?,
            },
            5 => Proposal::Relay {
                session: SessionId(from.varint()?),
                seq: Seq(from.varint()?),
                ack: Seq(from.varint()?),
                attempt: from.varint_u32()?,
                command: Command::read(from)?,
            },
            tag => return Err(DecodeError::Tag { what: Proposal::NAME, tag }),
        })
    }
}

impl Encoding for SessionKind {
    const NAME: &'static str = "session kind";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        out.push(match self {
            SessionKind::Client => 0,
            SessionKind::Relay => 1,
        });
    }

    fn read(from: &mut Decoder) -> Result<SessionKind, DecodeError> {
        match from.byte()? {
            0 => Ok(SessionKind::Client),
            1 => Ok(SessionKind::Relay),
            tag => Err(DecodeError::Tag { what: SessionKind::NAME, tag }),
        }
    }
}

fn put_call(out: &mut Vec<u8>, tag: u8, call: &CallId) {
    out.push(tag);
    put_varint(out, call.node.0);
    out.extend(call.nonce.to_le_bytes());
}

fn read_call(from: &mut Decoder) -> Result<CallId, DecodeError> {
    Ok(CallId { node: NodeId(from.varint()?), nonce: u64::from_le_bytes(from.array()?) })
}

fn put_request(out: &mut Vec<u8>, tag: u8, session: SessionId, seq: Seq, ack: Seq) {
    out.push(tag);
    put_varint(out, session.0);
    put_varint(out, seq.0);
    put_varint(out, ack.0);
}
