//! The session record's bytes, described in [`crate::session`].

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};

use super::{Client, Kind, Record, Recorded, Relay, Session};
use crate::{
    ClusterTime, Reply, Seq, SessionKind,
    codec::{DecodeError, Decoder, Encoding, put_varint, read_tagged_reply},
    layout::ValueId,
    record::Chunked,
};

const CHUNKED: u8 = 0;

/// Beyond what [`Limits::entry_reply_bytes_max`](crate::Limits::entry_reply_bytes_max) can be.
const LEN_MAX: u64 = 1 << 40;

impl Encoding for Session {
    const NAME: &'static str = "session record";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Client(client) => {
                SessionKind::Client.write(out);
                put_varint(out, self.active.0);
                put_varint(out, u64::from(client.window));
                put_varint(out, client.floor.0);
                let mut before = client.floor;
                for Record { seq, reply } in &client.records {
                    put_varint(out, seq.0 - before.0);
                    before = *seq;
                    reply.write(out);
                }
            }
            Kind::Relay(relay) => {
                SessionKind::Relay.write(out);
                put_varint(out, self.active.0);
                put_varint(out, relay.next.0);
            }
        }
    }

    fn read(from: &mut Decoder) -> Result<Session, DecodeError> {
        let kind = SessionKind::read(from)?;
        let active = ClusterTime(from.varint()?);
        let kind = match kind {
            SessionKind::Client => Kind::Client(read_client(from)?),
            SessionKind::Relay => Kind::Relay(Relay { next: Seq(from.varint()?) }),
        };
        Ok(Session { active, dirty: false, kind })
    }
}

fn read_client(from: &mut Decoder) -> Result<Client, DecodeError> {
    let window = from.varint_u32()?;
    let floor = Seq(from.varint()?);
    let mut records = VecDeque::new();
    let mut before = floor;
    while from.remaining() > 0 {
        let above = from.varint()?;
        if above == 0 && !records.is_empty() {
            return Err(DecodeError::Invalid("a request is recorded twice"));
        }
        let seq = Seq(before.0.checked_add(above).ok_or(DecodeError::Number)?);
        before = seq;
        if records.capacity() == 0 {
            records.reserve_exact(1);
        }
        records.push_back(Record { seq, reply: Recorded::read(from)? });
    }
    Ok(Client { window, floor, records })
}

impl Recorded {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Recorded::Ok => Reply::Ok.write(out),
            Recorded::Nil => Reply::Nil.write(out),
            Recorded::Integer(n) => Reply::Integer(*n).write(out),
            Recorded::Small(reply) => reply.write(out),
            Recorded::Chunked(chunked) => {
                out.put_u8(CHUNKED);
                out.put_u64(chunked.id.0);
                put_varint(out, chunked.len);
            }
        }
    }

    fn read(from: &mut Decoder) -> Result<Recorded, DecodeError> {
        let tag = from.byte()?;
        if tag == CHUNKED {
            let id = ValueId(u64::from_be_bytes(from.array()?));
            let len = from.varint()?;
            if len > LEN_MAX {
                return Err(DecodeError::Invalid("a recorded reply is longer than any can be"));
            }
            return Ok(Recorded::Chunked(Box::new(Chunked { id, len })));
        }
        Ok(match read_tagged_reply(from, tag)? {
            Reply::Ok => Recorded::Ok,
            Reply::Nil => Recorded::Nil,
            Reply::Integer(n) => Recorded::Integer(n),
            // Its own bytes: a slice would hold the whole record in memory.
            Reply::Bytes(bytes) => Recorded::Small(Box::new(Reply::Bytes(Bytes::copy_from_slice(&bytes)))),
            other => Recorded::Small(Box::new(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decodes_as_a_session_record_is_what_was_encoded() {
        let chunked = Recorded::Chunked(Box::new(Chunked { id: ValueId(7 << 20), len: 5000 }));
        let small = Recorded::Small(Box::new(Reply::Array(vec![Reply::Nil, Reply::Bytes("v".into())])));
        let replies = [Recorded::Ok, Recorded::Nil, Recorded::Integer(-5), small, chunked];
        let records =
            (7..).step_by(3).map(Seq).zip(replies).map(|(seq, reply)| Record { seq, reply }).collect();
        let client = Kind::Client(Client { window: 256, floor: Seq(7), records });
        for kind in [client, Kind::Relay(Relay { next: Seq(300) })] {
            let session = Session { active: ClusterTime(1000), dirty: false, kind };
            let record = session.encode();
            assert_eq!(Session::decode(record.clone()), Ok(session));
            for at in 0..record.len() {
                for byte in 0..=u8::MAX {
                    let mut damaged = record.to_vec();
                    damaged[at] = byte;
                    for cut in [damaged.clone(), damaged[..=at].to_vec()] {
                        if let Ok(session) = Session::decode(cut.clone().into()) {
                            assert_eq!(session.encode(), cut);
                        }
                    }
                }
            }
        }
    }
}
