//! The body of a message frame, version 1.
//!
//! ```text
//! u8 kind   u8 flags (1: reject, 2: a snapshot follows)
//! u64 from, to, term, log_term, index, commit, commit_term, request_snapshot, reject_hint   i64 priority
//! u32 length, context
//! u32 count, entries: each  u64 index, term, clock   u32 length, data
//! if flagged, the snapshot: u64 index, term, clock   u8 auto_leave
//!                           4 x (u32 count, u64 each): voters, learners, voters_outgoing, learners_next
//! ```
//!
//! All numbers are little-endian. Each message has exactly one encoding: unknown flags and trailing bytes are refused.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pontoon_kv::{ClusterTime, ConfState, Entry, Index, NodeId, Term};
use pontoon_replica::{Message, MessageKind, SnapshotMeta};

use super::FrameError;

const REJECT: u8 = 1;
const SNAPSHOT: u8 = 2;

/// Kind, flags, ten numbers, and the two counts.
const FIXED_BYTES: usize = 2 + 10 * 8 + 4 + 4;
const ENTRY_FIXED_BYTES: usize = 3 * 8 + 4;
const SNAPSHOT_FIXED_BYTES: usize = 3 * 8 + 1 + 4 * 4;

/// The length of the encoding.
pub(super) fn bytes(message: &Message) -> usize {
    let entries: usize = message.entries.iter().map(|entry| ENTRY_FIXED_BYTES + entry.data.len()).sum();
    let snapshot = message.snapshot.as_ref().map_or(0, |snapshot| {
        let nodes: usize = members(&snapshot.conf_state).iter().map(|nodes| nodes.len()).sum();
        SNAPSHOT_FIXED_BYTES + 8 * nodes
    });
    FIXED_BYTES + message.context.len() + entries + snapshot
}

pub(super) fn encode(message: &Message, out: &mut BytesMut) {
    let reject = if message.reject { REJECT } else { 0 };
    let snapshot = if message.snapshot.is_some() { SNAPSHOT } else { 0 };
    out.put_u8(message.kind as u8);
    out.put_u8(reject | snapshot);
    out.put_u64_le(message.from.0);
    out.put_u64_le(message.to.0);
    out.put_u64_le(message.term.0);
    out.put_u64_le(message.log_term.0);
    out.put_u64_le(message.index.0);
    out.put_u64_le(message.commit.0);
    out.put_u64_le(message.commit_term.0);
    out.put_u64_le(message.request_snapshot.0);
    out.put_u64_le(message.reject_hint.0);
    out.put_i64_le(message.priority);
    put_count(message.context.len(), out);
    out.put_slice(&message.context);
    put_count(message.entries.len(), out);
    for entry in &message.entries {
        out.put_u64_le(entry.index.0);
        out.put_u64_le(entry.term.0);
        out.put_u64_le(entry.clock.0);
        put_count(entry.data.len(), out);
        out.put_slice(&entry.data);
    }
    if let Some(snapshot) = &message.snapshot {
        out.put_u64_le(snapshot.index.0);
        out.put_u64_le(snapshot.term.0);
        out.put_u64_le(snapshot.clock.0);
        out.put_u8(u8::from(snapshot.conf_state.auto_leave));
        for nodes in members(&snapshot.conf_state) {
            put_count(nodes.len(), out);
            nodes.iter().for_each(|node| out.put_u64_le(node.0));
        }
    }
}

/// Reads a body. Total: any bytes give a message or an error; what it allocates is bounded by twice the bytes' length.
pub(super) fn decode(body: Bytes) -> Result<Message, FrameError> {
    let mut reader = Reader(body);
    let kind = message_kind(reader.u8()?)?;
    let flags = reader.u8()?;
    if flags & !(REJECT | SNAPSHOT) != 0 {
        return Err(FrameError::Malformed("unknown flags of a message"));
    }
    // Fields of a struct literal are evaluated in the order they are written, which is that of the bytes.
    let message = Message {
        kind,
        reject: flags & REJECT != 0,
        from: NodeId(reader.u64()?),
        to: NodeId(reader.u64()?),
        term: Term(reader.u64()?),
        log_term: Term(reader.u64()?),
        index: Index(reader.u64()?),
        commit: Index(reader.u64()?),
        commit_term: Term(reader.u64()?),
        request_snapshot: Index(reader.u64()?),
        reject_hint: Index(reader.u64()?),
        priority: reader.u64()?.cast_signed(),
        context: reader.bytes()?,
        entries: entries(&mut reader)?,
        snapshot: if flags & SNAPSHOT != 0 { Some(snapshot(&mut reader)?) } else { None },
    };
    if !reader.0.is_empty() {
        return Err(FrameError::Malformed("bytes after a message's end"));
    }
    Ok(message)
}

fn entries(reader: &mut Reader) -> Result<Vec<Entry>, FrameError> {
    let count = reader.count(ENTRY_FIXED_BYTES)?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(Entry {
            index: Index(reader.u64()?),
            term: Term(reader.u64()?),
            clock: ClusterTime(reader.u64()?),
            data: reader.bytes()?,
        });
    }
    Ok(entries)
}

fn snapshot(reader: &mut Reader) -> Result<SnapshotMeta, FrameError> {
    let (index, term, clock) = (Index(reader.u64()?), Term(reader.u64()?), ClusterTime(reader.u64()?));
    let auto_leave = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(FrameError::Malformed("auto_leave is neither 0 nor 1")),
    };
    let conf_state = ConfState {
        auto_leave,
        voters: nodes(reader)?,
        learners: nodes(reader)?,
        voters_outgoing: nodes(reader)?,
        learners_next: nodes(reader)?,
    };
    Ok(SnapshotMeta { index, term, clock, conf_state })
}

fn nodes(reader: &mut Reader) -> Result<Vec<NodeId>, FrameError> {
    let count = reader.count(8)?;
    (0..count).map(|_| reader.u64().map(NodeId)).collect()
}

/// The lists of a membership in the order of the bytes.
fn members(conf_state: &ConfState) -> [&[NodeId]; 4] {
    [&conf_state.voters, &conf_state.learners, &conf_state.voters_outgoing, &conf_state.learners_next]
}

fn put_count(count: usize, out: &mut BytesMut) {
    out.put_u32_le(u32::try_from(count).expect("a part of a frame is below 4 GiB, as the frame is"));
}

fn message_kind(byte: u8) -> Result<MessageKind, FrameError> {
    const KINDS: [MessageKind; 14] = [
        MessageKind::Propose,
        MessageKind::Append,
        MessageKind::AppendResponse,
        MessageKind::Heartbeat,
        MessageKind::HeartbeatResponse,
        MessageKind::RequestVote,
        MessageKind::RequestVoteResponse,
        MessageKind::RequestPreVote,
        MessageKind::RequestPreVoteResponse,
        MessageKind::Snapshot,
        MessageKind::TransferLeader,
        MessageKind::TimeoutNow,
        MessageKind::ReadIndex,
        MessageKind::ReadIndexResponse,
    ];
    KINDS.into_iter().find(|&kind| kind as u8 == byte).ok_or(FrameError::Malformed("unknown kind of message"))
}

/// Takes numbers and strings off the front.
struct Reader(Bytes);

impl Reader {
    fn u8(&mut self) -> Result<u8, FrameError> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        self.0.try_get_u32_le().map_err(|_| SHORT)
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.0.try_get_u64_le().map_err(|_| SHORT)
    }

    /// A length and as many bytes, without copying them.
    fn bytes(&mut self) -> Result<Bytes, FrameError> {
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(SHORT);
        }
        Ok(self.0.split_to(length))
    }

    /// A count of things that take at least so many bytes each: no more than there can be.
    fn count(&mut self, each_bytes_min: usize) -> Result<usize, FrameError> {
        let count = self.u32()? as usize;
        if count > self.0.len() / each_bytes_min {
            return Err(SHORT);
        }
        Ok(count)
    }
}

const SHORT: FrameError = FrameError::Malformed("a message ends before its last field");
