//! How proposals become entries.

use pontoon_kv::{Block, BlockBuilder, Proposal};
use raft::eraftpb;

/// Proposals on their way into entries, each entry a block of bounded size.
pub(crate) struct Blocks {
    block_bytes_max: usize,
    bytes_left: usize,
    block: BlockBuilder,
    entries: Vec<eraftpb::Entry>,
}

impl Blocks {
    pub(crate) fn new(block_bytes_max: usize, bytes_max: usize) -> Blocks {
        Blocks { block_bytes_max, bytes_left: bytes_max, block: BlockBuilder::new(), entries: Vec::new() }
    }

    /// False: there is no room left. (A single proposal may be larger than all the room there is.)
    pub(crate) fn push(&mut self, proposal: &Proposal) -> bool {
        if self.bytes_left == 0 {
            return false;
        }
        if self.block.bytes() >= self.block_bytes_max || self.block.len() == Block::PROPOSALS_MAX {
            self.seal();
        }
        let before = self.block.bytes();
        self.block.push(proposal);
        self.bytes_left = self.bytes_left.saturating_sub(self.block.bytes() - before);
        true
    }

    fn seal(&mut self) {
        let block = std::mem::replace(&mut self.block, BlockBuilder::new());
        if !block.is_empty() {
            self.entries.push(eraftpb::Entry { data: block.finish(), ..eraftpb::Entry::default() });
        }
    }

    pub(crate) fn finish(mut self) -> Vec<eraftpb::Entry> {
        self.seal();
        self.entries
    }
}
