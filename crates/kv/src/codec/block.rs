//! The payload of a log entry: a version byte (1), the number of proposals as u16 (1..=65535), and the proposals.

use bytes::Bytes;

use super::{DecodeError, Decoder, Encoding};
use crate::Proposal;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 3;

/// The shortest proposal: `Once` of the shortest command.
const PROPOSAL_BYTES_MIN: usize = 6;

/// The payload of one log entry: 1 to [`Block::PROPOSALS_MAX`] proposals, executed in order.
#[derive(Debug)]
pub enum Block {}

impl Block {
    /// Proposals that fit a block; a proposal's position in it is part of a session's id.
    pub const PROPOSALS_MAX: usize = u16::MAX as usize;

    /// Encodes 1 to [`Block::PROPOSALS_MAX`] proposals.
    pub fn encode(proposals: &[Proposal]) -> Bytes {
        let mut builder = BlockBuilder::new();
        for proposal in proposals {
            builder.push(proposal);
        }
        builder.finish()
    }

    /// The proposals, their keys and values being slices of `data`.
    pub fn decode(data: Bytes) -> Result<Vec<Proposal>, DecodeError> {
        let mut from = Decoder::new(data);
        from.version("log entry", VERSION)?;
        let count = usize::from(u16::from_le_bytes(from.array()?));
        if count == 0 {
            return Err(DecodeError::Invalid("a log entry without proposals"));
        }
        if count > from.remaining() / PROPOSAL_BYTES_MIN {
            return Err(DecodeError::Truncated);
        }
        let mut proposals = Vec::with_capacity(count);
        for _ in 0..count {
            proposals.push(Proposal::read(&mut from)?);
        }
        from.finish()?;
        Ok(proposals)
    }
}

/// Builds a block proposal by proposal.
#[derive(Debug, Clone)]
pub struct BlockBuilder {
    out: Vec<u8>,
    len: u16,
}

impl BlockBuilder {
    /// An empty one.
    pub fn new() -> BlockBuilder {
        let mut out = Vec::with_capacity(256);
        out.extend([VERSION, 0, 0]);
        BlockBuilder { out, len: 0 }
    }

    /// Appends a proposal. Panics on the one beyond [`Block::PROPOSALS_MAX`].
    pub fn push(&mut self, proposal: &Proposal) {
        assert!(
            self.len() < Block::PROPOSALS_MAX,
            "a block holds at most {} proposals",
            Block::PROPOSALS_MAX
        );
        proposal.write(&mut self.out);
        self.len += 1;
    }

    /// How many proposals it holds.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The size of the block so far, in bytes.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    /// The block. Panics if it is empty.
    pub fn finish(mut self) -> Bytes {
        assert!(self.len > 0, "a block holds at least one proposal");
        self.out[1..HEADER_BYTES].copy_from_slice(&self.len.to_le_bytes());
        self.out.into()
    }
}

impl Default for BlockBuilder {
    fn default() -> BlockBuilder {
        BlockBuilder::new()
    }
}
