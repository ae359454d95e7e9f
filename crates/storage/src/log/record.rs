//! What the log's records look like inside of raft-engine's batches. See `docs/formats.md`.

use bytes::{BufMut, BytesMut};
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Term};
use pontoon_replica::HardState;
use raft::eraftpb;
use raft_engine::MessageExt;

/// The key of a group's hard state: [`hard_state_to_bytes`].
pub(super) const HARD_STATE_KEY: &[u8] = b"h";
/// The key of the position before a group's first entry: [`position_to_bytes`].
pub(super) const POSITION_KEY: &[u8] = b"p";
/// The key of the position of a group's last entry, written with the entries: [`position_to_bytes`]. At a start the engine may
/// bring back entries of a tail that was replaced by a shorter one (it rewrites old entries one by one); they lie beyond.
pub(super) const END_KEY: &[u8] = b"e";
/// The key of the [`Mark`], under [`MARK_GROUP`].
pub(super) const MARK_KEY: &[u8] = b"m";
/// No Raft group has this number; the log keeps its own record there.
pub(super) const MARK_GROUP: GroupId = GroupId(0);

/// Ties raft-engine to raft-rs's entry as the stored form of an [`Entry`].
pub(super) struct StoredEntry;

impl MessageExt for StoredEntry {
    type Entry = eraftpb::Entry;

    fn index(entry: &eraftpb::Entry) -> u64 {
        entry.index
    }
}

/// Bytes of an entry's context: cluster clock and group, little-endian.
const CONTEXT_BYTES: usize = 16;

/// The stored form of a group's entries. Data is shared, not copied.
pub(super) fn entries_to_stored(group: GroupId, entries: &[Entry]) -> Vec<eraftpb::Entry> {
    let mut contexts = BytesMut::with_capacity(entries.len() * CONTEXT_BYTES);
    for entry in entries {
        contexts.put_u64_le(entry.clock.0);
        contexts.put_u64_le(group.0);
    }
    let mut contexts = contexts.freeze();
    let store = |entry: &Entry| eraftpb::Entry {
        term: entry.term.0,
        index: entry.index.0,
        data: entry.data.clone(),
        context: contexts.split_to(CONTEXT_BYTES),
        ..Default::default()
    };
    entries.iter().map(store).collect()
}

/// The entry in its stored form, if it is of this group.
pub(super) fn entry_from_stored(group: GroupId, stored: eraftpb::Entry) -> Option<Entry> {
    let (clock, owner) = two_numbers(&stored.context)?;
    (owner == group.0).then_some(Entry {
        index: Index(stored.index),
        term: Term(stored.term),
        clock: ClusterTime(clock),
        data: stored.data,
    })
}

/// `group, term, vote, commit`, each u64 little-endian.
pub(super) fn hard_state_to_bytes(group: GroupId, state: &HardState) -> Vec<u8> {
    numbers(&[group.0, state.term.0, state.vote.0, state.commit.0])
}

/// The hard state, if it is one and of this group.
pub(super) fn hard_state_from_bytes(group: GroupId, bytes: &[u8]) -> Option<HardState> {
    let (first, second) = bytes.split_at_checked(16)?;
    let (owner, term) = two_numbers(first)?;
    let (vote, commit) = two_numbers(second)?;
    (owner == group.0).then_some(HardState { term: Term(term), vote: NodeId(vote), commit: Index(commit) })
}

/// `group, index, term`, each u64 little-endian.
pub(super) fn position_to_bytes(group: GroupId, (index, term): (Index, Term)) -> Vec<u8> {
    numbers(&[group.0, index.0, term.0])
}

/// The position, if it is one and of this group.
pub(super) fn position_from_bytes(group: GroupId, bytes: &[u8]) -> Option<(Index, Term)> {
    let (owner, rest) = bytes.split_at_checked(8)?;
    let (index, term) = two_numbers(rest)?;
    (owner == group.0.to_le_bytes()).then_some((Index(index), Term(term)))
}

/// What the log knew of itself when a batch was written. Every batch begins with one, so that a start can tell a torn tail
/// (no later batch claims it to be durable) and purged files (none needs them) from damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// The end of what was durable.
    pub(super) durable: Place,
    /// The oldest append file that was needed; 0: not known, because a purge was going on.
    pub(super) first_append: u64,
    /// The same of the rewrite files.
    pub(super) first_rewrite: u64,
}

/// A place in the append files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    /// The file's number.
    pub(super) file: u64,
    /// The offset in it.
    pub(super) offset: u64,
}

impl Mark {
    /// Its length.
    pub(super) const BYTES: usize = 32;

    /// `durable file, durable offset, first append, first rewrite`, each u64 little-endian.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        numbers(&[self.durable.file, self.durable.offset, self.first_append, self.first_rewrite])
    }

    /// The mark, if it is one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Mark> {
        let (durable, first) = bytes.split_at_checked(16)?;
        let (file, offset) = two_numbers(durable)?;
        let (first_append, first_rewrite) = two_numbers(first)?;
        Some(Mark { durable: Place { file, offset }, first_append, first_rewrite })
    }
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn two_numbers(bytes: &[u8]) -> Option<(u64, u64)> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Some((number(0), number(8)))
}

/// How much an entry counts towards the log's size.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    entry.data.len() as u64
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn records_of_another_group_are_not_taken_for_this_ones() {
        let (mine, other) = (GroupId(1), GroupId(2));
        let entry = Entry {
            index: Index(3),
            term: Term(2),
            clock: ClusterTime(7),
            data: Bytes::from_static(b"data"),
        };
        let stored = entries_to_stored(mine, std::slice::from_ref(&entry)).remove(0);
        assert_eq!(entry_from_stored(mine, stored.clone()), Some(entry));
        assert_eq!(entry_from_stored(other, stored), None);

        let state = HardState { term: Term(4), vote: NodeId(2), commit: Index(9) };
        let bytes = hard_state_to_bytes(mine, &state);
        assert_eq!(hard_state_from_bytes(mine, &bytes), Some(state));
        assert_eq!(hard_state_from_bytes(other, &bytes), None);
        assert_eq!(hard_state_from_bytes(mine, &bytes[1..]), None);

        let position = (Index(5), Term(2));
        let bytes = position_to_bytes(mine, position);
        assert_eq!(position_from_bytes(mine, &bytes), Some(position));
        assert_eq!(position_from_bytes(other, &bytes), None);
        assert_eq!(position_from_bytes(mine, &bytes[..8]), None);
    }
}
