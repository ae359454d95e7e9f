//! What a disk holds, as its bytes. They are made only where a fault strikes them: everything else is kept decoded.
//!
//! The real stores (`storage`) have a checksum on every batch of the log and on every block of the state. The frames of `wire`
//! stand for both here: they carry entries and blocks under checksums too. So a torn write and a flipped bit strike bytes, and
//! it is a decoder that must notice.

use bytes::{Bytes, BytesMut};
use pontoon_kv::{Entry, Index, NodeId, Term};
use pontoon_replica::{HardState, Message, MessageKind, Persist};
use pontoon_wire::peer::{Body, Decoder, Frame, encode};

use super::{GROUP, server::FRAME_BYTES_MAX};
use crate::rng::Rng;

/// A batch of the log: what is written at once is one record, whole or not there.
pub(super) fn of_batch(batch: &[Persist]) -> BytesMut {
    let hard_state = batch.iter().rev().find_map(|persist| persist.hard_state).unwrap_or_default();
    of_entries(hard_state, batch.iter().flat_map(|persist| &persist.entries).cloned().collect())
}

/// Some entries of the log, and a hard state.
pub(super) fn of_entries(hard_state: HardState, entries: Vec<Entry>) -> BytesMut {
    of(Body::Message(Message {
        kind: MessageKind::Append,
        from: hard_state.vote,
        to: NodeId(0),
        term: hard_state.term,
        log_term: Term(0),
        index: Index(0),
        entries,
        commit: hard_state.commit,
        commit_term: Term(0),
        snapshot: None,
        request_snapshot: Index(0),
        reject: false,
        reject_hint: Index(0),
        context: Bytes::new(),
        priority: 0,
    }))
}

/// A value of the state.
pub(super) fn of_value(value: Bytes) -> BytesMut {
    of(Body::SnapshotBlock { sequence: 0, bytes: value })
}

fn of(body: Body) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(&Frame { group: GROUP, body }, &mut bytes);
    bytes
}

/// The entries of a record; none: it is damaged, or not whole.
pub(super) fn entries(bytes: BytesMut) -> Option<Vec<Entry>> {
    match contents(bytes)? {
        Body::Message(message) => Some(message.entries),
        _ => None,
    }
}

/// The value of a record; none: it is damaged.
pub(super) fn value(bytes: BytesMut) -> Option<Bytes> {
    match contents(bytes)? {
        Body::SnapshotBlock { bytes, .. } => Some(bytes),
        _ => None,
    }
}

fn contents(mut bytes: BytesMut) -> Option<Body> {
    let frame = Decoder::new(FRAME_BYTES_MAX).decode(&mut bytes);
    frame.ok().flatten().map(|frame| frame.body)
}

/// Only a part of it was written: up to some byte, or also after a hole (the system writes pages in any order).
pub(super) fn tear(bytes: &mut BytesMut, rng: &mut Rng) {
    let at = rng.below(bytes.len() as u64) as usize;
    if rng.chance(0.5) {
        return bytes.truncate(at);
    }
    let end = at + 1 + rng.below((bytes.len() - at) as u64) as usize;
    // Space that was allocated ahead holds zeros.
    bytes[at..end].fill(0);
}

/// One of its bits is not what was written.
pub(super) fn flip(bytes: &mut BytesMut, bit: u64) {
    let at = (bit / 8) as usize % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
}

#[cfg(test)]
mod tests {
    use pontoon_kv::ClusterTime;

    use super::*;

    fn some_entries() -> Vec<Entry> {
        let entry = |index| Entry {
            index: Index(index),
            term: Term(3),
            clock: ClusterTime(index * 25),
            data: Bytes::from(vec![index as u8; 40]),
        };
        (7..10).map(entry).collect()
    }

    #[test]
    fn what_was_written_is_read_again() {
        let batch = Persist { entries: some_entries(), ..Persist::default() };
        assert_eq!(entries(of_batch(&[batch])), Some(some_entries()));
        let bytes = Bytes::from_static(b"value");
        assert_eq!(value(of_value(bytes.clone())), Some(bytes));
    }

    #[test]
    fn every_flipped_bit_and_every_tear_is_noticed() {
        let whole = of_entries(HardState::default(), some_entries());
        for bit in 0..whole.len() as u64 * 8 {
            let mut damaged = whole.clone();
            flip(&mut damaged, bit);
            assert_eq!(entries(damaged), None, "bit {bit}");
        }
        let mut rng = Rng::new(1);
        for _ in 0..1_000 {
            let mut torn = whole.clone();
            tear(&mut torn, &mut rng);
            assert!(torn == whole || entries(torn).is_none());
        }
    }
}
