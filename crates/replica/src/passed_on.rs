//! Proposals of other members, on their way into the leader's log.

use raft::eraftpb;

/// They wait together for their turn, and may be forgotten: who passed them on proposes them again.
pub(crate) struct PassedOn {
    entries: Vec<eraftpb::Entry>,
    bytes: u64,
    bytes_max: u64,
}

impl PassedOn {
    pub(crate) fn new(bytes_max: u64) -> PassedOn {
        PassedOn { entries: Vec::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries of one message. Beyond the bound they are forgotten.
    pub(crate) fn push(&mut self, entries: impl IntoIterator<Item = eraftpb::Entry>) {
        for entry in entries {
            let bytes = self.bytes + entry.data.len() as u64;
            if self.entries.is_empty() || bytes <= self.bytes_max {
                self.bytes = bytes;
                self.entries.push(entry);
            }
        }
    }

    /// All of them, in the order in which they came.
    pub(crate) fn take(&mut self) -> Vec<eraftpb::Entry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }
}
