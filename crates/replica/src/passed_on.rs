//! Proposals of other members, on their way into the leader's log.

use std::collections::BTreeSet;

use pontoon_kv::NodeId;
use raft::eraftpb;

/// What an entry takes beside its data, about.
const ENTRY_BYTES: u64 = 128;

/// They wait together for their turn. Beyond the bound, and when this member leads no more, they are forgotten: who passed them on
/// proposes them again.
pub(crate) struct PassedOn {
    entries: Vec<eraftpb::Entry>,
    from: BTreeSet<NodeId>,
    bytes: u64,
    bytes_max: u64,
    /// Some have been forgotten since the last were taken; those after them could only show as gaps.
    full: bool,
}

impl PassedOn {
    pub(crate) fn new(bytes_max: u64) -> PassedOn {
        PassedOn { entries: Vec::new(), from: BTreeSet::new(), bytes: 0, bytes_max, full: false }
    }

    /// Entries of one message of this member.
    pub(crate) fn push(&mut self, from: NodeId, entries: impl IntoIterator<Item = eraftpb::Entry>) {
        for entry in entries {
            let bytes = self.bytes + entry.data.len() as u64 + ENTRY_BYTES;
            self.full |= bytes > self.bytes_max && !self.entries.is_empty();
            if self.full {
                return;
            }
            self.bytes = bytes;
            self.entries.push(entry);
            self.from.insert(from);
        }
    }

    /// All of them, in the order in which they came.
    pub(crate) fn entries(&self) -> &[eraftpb::Entry] {
        &self.entries
    }

    /// Whose they are.
    pub(crate) fn from(&self) -> impl Iterator<Item = NodeId> {
        self.from.iter().copied()
    }

    /// They are in the log, or nobody wants them any more.
    pub(crate) fn clear(&mut self) {
        (self.bytes, self.full) = (0, false);
        self.entries.clear();
        self.from.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize) -> eraftpb::Entry {
        eraftpb::Entry { data: vec![0; bytes].into(), ..eraftpb::Entry::default() }
    }

    #[test]
    fn after_one_that_does_not_fit_none_is_taken_until_there_is_room() {
        let mut passed_on = PassedOn::new(1000);
        passed_on.push(NodeId(2), [entry(5000)]);
        assert_eq!(passed_on.entries().len(), 1, "a single one may be larger");
        passed_on.push(NodeId(2), [entry(1)]);
        passed_on.clear();
        passed_on.push(NodeId(2), [entry(500), entry(700), entry(1)]);
        assert_eq!(passed_on.entries().len(), 1);
        passed_on.clear();
        passed_on.push(NodeId(2), std::iter::repeat_n(entry(0), 100));
        assert!(passed_on.entries().len() < 10, "empty ones take room, too");
    }
}
