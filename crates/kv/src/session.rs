//! Exactly once: what a session remembers, and how it decides whether a copy of a request is new.
//!
//! A session is opened by a log entry and never by being used; its id is `log index << 16 | position in the block`. A request that
//! names no open session is refused and not executed. Each request that names one, and each keep-alive, makes it *active*
//! at the entry's cluster time; once that is [`session_ttl_ms`](crate::Limits::session_ttl_ms) ago, the next entry removes it before
//! anything else. At [`sessions_max`](crate::Limits::sessions_max) another client's open is refused; an open session is never evicted.
//!
//! **A client's session** takes requests in any order within a window. It keeps `floor` (from 1), and the reply of every executed
//! request from there on. Of a request (seq, ack), in this order:
//!
//! 1. seq < floor: `Stale`;
//! 2. seq is recorded: the recorded reply, again;
//! 3. seq >= max(floor, ack) + window: `OutsideWindow`;
//! 4. else it is executed, and its reply recorded.
//!
//! Whatever came of it, the floor then rises to ack (which the client declares, whichever copy says so) and records below go.
//!
//! **A server's session** (relay) takes requests strictly in order and keeps no replies. It keeps `next` (from 1). Of a request:
//!
//! 1. ack > next: next = ack, the requests skipped never execute;
//! 2. seq < next: `Stale`;
//! 3. seq > next: `Gap`;
//! 4. else it is executed, and next = seq + 1.
//!
//! A request of one kind in a session of the other is refused as if there were no such session.
//!
//! Session record (store key: [`crate::layout`]):
//!
//! - version: byte (1); kind: byte (0 client, 1 relay); active: varint.
//! - relay: next: varint.
//! - client: window: varint (32 bits), floor: varint, then the records by ascending seq up to the record's end: how far seq is above
//!   the floor (the first) or the one before: varint; then a reply, or, if its form is longer than [`REPLY_INLINE_BYTES_MAX`],
//!   byte 0, value id: u64 big-endian and length: varint. The bytes of such a reply, with version byte, are in chunks as those of a value are.

mod record;
mod table;

use std::collections::VecDeque;

pub(crate) use table::{Sessions, Use};

use crate::{
    ClusterTime, Reader, Refusal, Reply, Seq, StoreError, codec::Encoding, layout::damaged, overlay::Overlay,
    record::Chunked,
};

/// A recorded reply of a longer form is kept in chunks of its own: it is written once, not whenever the session's record is.
pub const REPLY_INLINE_BYTES_MAX: usize = 64;

/// One session. In memory it takes [`SESSION_BYTES`] and, per recorded reply, [`RECORD_BYTES`] and what a reply that is neither nil
/// nor a number takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    /// Last used.
    active: ClusterTime,
    /// Whether it differs from its stored record.
    dirty: bool,
    kind: Kind,
}

const SESSION_BYTES: usize = size_of::<Session>();
const RECORD_BYTES: usize = size_of::<Record>();
const _: () = assert!(SESSION_BYTES <= 72 && RECORD_BYTES <= 24, "100 000 idle sessions are to fit 20 MB");

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Client(Client),
    Relay(Relay),
}

/// A client's session. Invariant: `records` ascend by seq and none is below `floor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    window: u32,
    floor: Seq,
    records: VecDeque<Record>,
}

/// A server's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relay {
    next: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    seq: Seq,
    reply: Recorded,
}

/// A recorded reply; the usual ones without an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Recorded {
    Ok,
    Nil,
    Integer(i64),
    Small(Box<Reply>),
    Chunked(Box<Chunked>),
}

/// What a session says to a copy of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'a> {
    Execute,
    Recorded(&'a Recorded),
    Refused(Refusal),
}

impl Client {
    fn new(window: u32) -> Client {
        Client { window, floor: Seq(1), records: VecDeque::new() }
    }

    fn judge(&self, seq: Seq, ack: Seq) -> Verdict<'_> {
        if seq < self.floor {
            return Verdict::Refused(Refusal::Stale);
        }
        if let Ok(at) = self.position(seq) {
            return Verdict::Recorded(&self.records[at].reply);
        }
        if seq.0 >= self.floor.max(ack).0.saturating_add(u64::from(self.window)) {
            return Verdict::Refused(Refusal::OutsideWindow);
        }
        Verdict::Execute
    }

    fn record(&mut self, seq: Seq, reply: Recorded) {
        let at = self.position(seq).expect_err("a recorded request is not executed again");
        if self.records.capacity() == 0 {
            // Most sessions never have a second one; the default would be room for four.
            self.records.reserve_exact(1);
        }
        self.records.insert(at, Record { seq, reply });
    }

    /// Raises the floor; returns whether it rose.
    fn acknowledge<R: Reader>(&mut self, ack: Seq, state: &mut Overlay<'_, R>) -> bool {
        if ack <= self.floor {
            return false;
        }
        #[cfg(feature = "mutants")]
        if crate::mutants::planted(crate::mutants::Mutant::RecordsKept) {
            return false;
        }
        self.floor = ack;
        while self.records.front().is_some_and(|record| record.seq < ack) {
            if let Some(Record { reply: Recorded::Chunked(chunked), .. }) = self.records.pop_front() {
                state.discard_chunks(&chunked);
            }
        }
        true
    }

    /// Gives back the memory that a busier time left.
    fn shrink(&mut self) {
        self.records.shrink_to_fit();
    }

    /// Almost always the new request comes after all recorded ones.
    fn position(&self, seq: Seq) -> Result<usize, usize> {
        match self.records.back() {
            Some(last) if seq <= last.seq => self.records.binary_search_by_key(&seq, |record| record.seq),
            _ => Err(self.records.len()),
        }
    }
}

impl Relay {
    fn new() -> Relay {
        Relay { next: Seq(1) }
    }

    /// Raises `next` to `ack`, then decides; an execution counts as done. Returns whether `next` rose, too.
    fn judge(&mut self, seq: Seq, ack: Seq, attempt: u32) -> (Result<(), Refusal>, bool) {
        let rose = ack > self.next;
        self.next = self.next.max(ack);
        // The very last number is never executed: nothing could come next.
        if seq < self.next || seq.0 == u64::MAX {
            (Err(Refusal::Stale), rose)
        } else if seq > self.next {
            (Err(Refusal::Gap { attempt }), rose)
        } else {
            self.next = Seq(seq.0 + 1);
            (Ok(()), true)
        }
    }
}

impl Recorded {
    /// Keeps a reply: in the session's record if it is small, else in chunks.
    fn keep<R: Reader>(reply: &Reply, state: &mut Overlay<'_, R>) -> Recorded {
        match reply {
            Reply::Ok => return Recorded::Ok,
            Reply::Nil => return Recorded::Nil,
            Reply::Integer(n) => return Recorded::Integer(*n),
            _ => (),
        }
        let form = reply.encode();
        if form.len() > 1 + REPLY_INLINE_BYTES_MAX {
            return Recorded::Chunked(Box::new(state.store_chunks(&form)));
        }
        // From its own bytes: a slice of the old value, or of the log entry, would hold all of that in memory.
        let small = Reply::decode(form).expect("what was just encoded can be decoded");
        Recorded::Small(Box::new(small))
    }

    /// The reply as it was.
    fn reply(&self, reader: &impl Reader) -> Result<Reply, StoreError> {
        match self {
            Recorded::Ok => Ok(Reply::Ok),
            Recorded::Nil => Ok(Reply::Nil),
            Recorded::Integer(n) => Ok(Reply::Integer(*n)),
            Recorded::Small(reply) => Ok((**reply).clone()),
            Recorded::Chunked(chunked) => {
                let form = chunked.read(reader, 0..chunked.len)?;
                Reply::decode(form).map_err(|error| damaged("a recorded reply", error))
            }
        }
    }
}
