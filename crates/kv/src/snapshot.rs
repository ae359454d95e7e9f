//! A snapshot: the store's sorted contents, cut into blocks, whatever carries them.
//!
//! Every block is
//!
//! - kind: byte (1 header, 2 pairs, 3 end);
//! - number: u32, from 0;
//! - length of the payload: u32;
//! - payload;
//! - checksum: u64, xxh3 of all that comes before in the block;
//!
//! with these payloads:
//!
//! - header, one, first: the 8 bytes `PONTOONS`, version: byte (1), group: varint, then the [`Applied`] record's fields;
//! - pairs: pairs of (key: bytes, value: bytes) to the payload's end, keys ascending across all blocks. A block ends with the pair
//!   with which it reaches [`BLOCK_BYTES`];
//! - end, one, last: number of pairs: u64, and their [`state_hash`](crate::state_hash()): u128.
//!
//! All fixed-width numbers are little-endian. Everything that is in the store is in the snapshot: the applied record,
//! sessions, data. So the header, which is made from that record, cannot name another state than the pairs are.

use bytes::{BufMut, Bytes};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    Applied, DecodeError, Encoding, GroupId, Reader, StoreError,
    codec::{Decoder, put_bytes, put_varint},
    layout::APPLIED_KEY,
    state_hash::StateHash,
};

/// A block's pairs come to about this many bytes: it is complete once it has them. (A store's largest pair is a key of 64 KiB
/// with a short value.)
pub const BLOCK_BYTES: usize = 256 << 10;

const MAGIC: [u8; 8] = *b"PONTOONS";
const HEADER: u8 = 1;
const PAIRS: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const FRAME_BYTES: usize = 1 + 4 + 4;
const CHECKSUM_BYTES: usize = 8;

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The group.
    pub group: GroupId,
    /// The last entry that it covers, that entry's term, the clock and membership after it.
    pub applied: Applied,
}

/// Makes a snapshot's blocks from a view, one when asked: it never holds more than one.
#[derive(Debug)]
pub struct SnapshotWriter<R> {
    view: R,
    header: Header,
    /// The next block's number.
    number: u32,
    /// Pairs before it are written. Ends with a zero byte after the last one's key: the least key beyond.
    from: Vec<u8>,
    hash: StateHash,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Pairs,
    End,
    Done,
}

/// Takes a snapshot's blocks in order.
#[derive(Debug)]
pub struct SnapshotReader {
    group: GroupId,
    number: u32,
    header: Option<Header>,
    /// The last key.
    last: Bytes,
    hash: StateHash,
    stage: Stage,
}

/// What a block held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Header(Header),
    /// Pairs of the state, ascending.
    Pairs(Vec<(Bytes, Bytes)>),
    /// The last: the snapshot is complete and sound.
    End,
}

/// Why a snapshot was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A block is not what was written.
    #[error("block {block} of the snapshot is damaged: {how}")]
    Damaged {
        /// Its expected number.
        block: u32,
        /// What is wrong.
        how: &'static str,
    },
    /// A sound block's contents cannot be read.
    #[error("block {block} of the snapshot cannot be read: {error}")]
    Unreadable {
        /// Its number.
        block: u32,
        /// Why.
        error: DecodeError,
    },
    /// A block, or a pair, is missing, repeated or out of order.
    #[error("the snapshot is out of order at block {block}: {how}")]
    Disorder {
        /// The expected number.
        block: u32,
        /// What is wrong.
        how: &'static str,
    },
    /// It is of another group.
    #[error("the snapshot is of group {found}, not {expected}")]
    Group {
        /// The group it should be of.
        expected: GroupId,
        /// The group it is of.
        found: GroupId,
    },
    /// Header and contents disagree.
    #[error("the snapshot's contents are not what it says: {0}")]
    Mislabelled(&'static str),
    /// The end block has not come.
    #[error("the snapshot is incomplete: it ends after {blocks} blocks")]
    Truncated {
        /// Blocks seen.
        blocks: u32,
    },
}

impl<R: Reader> SnapshotWriter<R> {
    /// A snapshot of this view. An empty state has none: that is an error.
    pub fn new(view: R, group: GroupId) -> Result<SnapshotWriter<R>, StoreError> {
        let applied =
            Applied::load(&view)?.ok_or_else(|| StoreError("an empty state has no snapshot".to_string()))?;
        let header = Header { group, applied };
        Ok(SnapshotWriter {
            view,
            header,
            number: 0,
            from: Vec::new(),
            hash: StateHash::new(),
            stage: Stage::Header,
        })
    }

    /// What it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next block; none after the end block.
    pub fn next_block(&mut self) -> Result<Option<Bytes>, StoreError> {
        let block = match self.stage {
            Stage::Header => {
                self.stage = Stage::Pairs;
                let mut block = self.begin(HEADER);
                self.header.write(&mut block);
                block
            }
            Stage::Pairs => {
                let mut block = self.begin(PAIRS);
                self.fill(&mut block)?;
                if block.len() > FRAME_BYTES { block } else { self.end() }
            }
            Stage::End => self.end(),
            Stage::Done => return Ok(None),
        };
        self.number += 1;
        Ok(Some(seal(block)))
    }

    fn begin(&self, kind: u8) -> Vec<u8> {
        let mut block = Vec::with_capacity(if kind == PAIRS { BLOCK_BYTES + (8 << 10) } else { 256 });
        block.put_u8(kind);
        block.put_u32_le(self.number);
        block.put_u32_le(0);
        block
    }

    /// Appends pairs until the block is full or none are left.
    fn fill(&mut self, block: &mut Vec<u8>) -> Result<(), StoreError> {
        let (from, hash) = (&mut self.from, &mut self.hash);
        let start = std::mem::take(from);
        let mut full = false;
        self.view.scan(&start, &[], &mut |key, value| {
            put_bytes(block, &key);
            put_bytes(block, &value);
            hash.pair(&key, &value);
            full = block.len() >= FRAME_BYTES + BLOCK_BYTES;
            if full {
                from.extend_from_slice(&key);
                from.push(0);
            }
            !full
        })?;
        if !full {
            self.stage = Stage::End;
        }
        Ok(())
    }

    fn end(&mut self) -> Vec<u8> {
        self.stage = Stage::Done;
        let mut block = self.begin(END);
        block.put_u64_le(self.hash.pairs);
        block.put_u128_le(self.hash.digest());
        block
    }
}

impl SnapshotReader {
    /// Awaits the header of a snapshot of this group.
    pub fn new(group: GroupId) -> SnapshotReader {
        SnapshotReader {
            group,
            number: 0,
            header: None,
            last: Bytes::new(),
            hash: StateHash::new(),
            stage: Stage::Header,
        }
    }

    /// Takes the next block. After an error the snapshot is to be thrown away.
    pub fn push(&mut self, block: Bytes) -> Result<Part, SnapshotError> {
        let (kind, payload) = self.open(block)?;
        let part = match (kind, self.stage) {
            (HEADER, Stage::Header) => self.on_header(payload)?,
            (PAIRS, Stage::Pairs) => self.on_pairs(payload)?,
            (END, Stage::Pairs) => self.on_end(payload)?,
            (HEADER | PAIRS | END, _) => return Err(self.disorder("a block of this kind has no place here")),
            _ => return Err(self.damaged("its kind is unknown")),
        };
        self.number += 1;
        Ok(part)
    }

    /// What the complete snapshot is of.
    pub fn finish(self) -> Result<Header, SnapshotError> {
        match (self.stage, self.header) {
            (Stage::Done, Some(header)) => Ok(header),
            _ => Err(SnapshotError::Truncated { blocks: self.number }),
        }
    }

    /// Checks a block's frame.
    fn open(&self, block: Bytes) -> Result<(u8, Bytes), SnapshotError> {
        let Some(len) = block.len().checked_sub(FRAME_BYTES + CHECKSUM_BYTES) else {
            return Err(self.damaged("it is too short"));
        };
        let checked = &block[..FRAME_BYTES + len];
        if block[checked.len()..] != xxh3_64(checked).to_le_bytes() {
            return Err(self.damaged("its checksum does not match"));
        }
        if checked[5..FRAME_BYTES] != (len as u32).to_le_bytes() {
            return Err(self.damaged("its length does not match"));
        }
        if checked[1..5] != self.number.to_le_bytes() {
            return Err(self.disorder("another block is due"));
        }
        Ok((block[0], block.slice(FRAME_BYTES..FRAME_BYTES + len)))
    }

    fn on_header(&mut self, payload: Bytes) -> Result<Part, SnapshotError> {
        let mut from = Decoder::new(payload);
        let header = Header::read(&mut from).and_then(|header| from.finish().map(|()| header));
        let header = header.map_err(|error| self.unreadable(error))?;
        if header.group != self.group {
            return Err(SnapshotError::Group { expected: self.group, found: header.group });
        }
        self.header = Some(header.clone());
        self.stage = Stage::Pairs;
        Ok(Part::Header(header))
    }

    fn on_pairs(&mut self, payload: Bytes) -> Result<Part, SnapshotError> {
        let mut from = Decoder::new(payload);
        let mut pairs = Vec::new();
        while from.remaining() > 0 {
            let pair = from.bytes().and_then(|key| Ok((key, from.bytes()?)));
            let (key, value) = pair.map_err(|error| self.unreadable(error))?;
            if self.hash.pairs == 0 {
                self.check_label(&key, &value)?;
            } else if key <= self.last {
                return Err(self.disorder("its keys do not ascend"));
            }
            self.hash.pair(&key, &value);
            self.last.clone_from(&key);
            pairs.push((key, value));
        }
        // Not a slice: it would hold the whole block until the next one.
        self.last = Bytes::copy_from_slice(&self.last);
        Ok(Part::Pairs(pairs))
    }

    fn on_end(&mut self, payload: Bytes) -> Result<Part, SnapshotError> {
        let mut expected = Vec::with_capacity(24);
        expected.put_u64_le(self.hash.pairs);
        expected.put_u128_le(self.hash.digest());
        if self.hash.pairs == 0 {
            return Err(SnapshotError::Mislabelled("it is empty"));
        }
        if payload != expected {
            return Err(SnapshotError::Mislabelled("the count or the hash of its pairs is another"));
        }
        self.stage = Stage::Done;
        Ok(Part::End)
    }

    /// The first pair of every state is its applied record.
    fn check_label(&self, key: &[u8], value: &Bytes) -> Result<(), SnapshotError> {
        if key != APPLIED_KEY {
            return Err(SnapshotError::Mislabelled("it has no applied record"));
        }
        let applied = Applied::decode(value.clone()).map_err(|error| self.unreadable(error))?;
        match &self.header {
            Some(header) if header.applied == applied => Ok(()),
            _ => Err(SnapshotError::Mislabelled("its header and its applied record differ")),
        }
    }

    fn damaged(&self, how: &'static str) -> SnapshotError {
        SnapshotError::Damaged { block: self.number, how }
    }

    fn disorder(&self, how: &'static str) -> SnapshotError {
        SnapshotError::Disorder { block: self.number, how }
    }

    fn unreadable(&self, error: DecodeError) -> SnapshotError {
        SnapshotError::Unreadable { block: self.number, error }
    }
}

impl Header {
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.push(Header::VERSION);
        put_varint(out, self.group.0);
        self.applied.write(out);
    }

    fn read(from: &mut Decoder) -> Result<Header, DecodeError> {
        if from.array()? != MAGIC {
            return Err(DecodeError::Invalid("it is no snapshot"));
        }
        from.version("snapshot", Header::VERSION)?;
        Ok(Header { group: GroupId(from.varint()?), applied: Applied::read(from)? })
    }
}

/// Fills in the length and appends the checksum.
pub(crate) fn seal(mut block: Vec<u8>) -> Bytes {
    let len = (block.len() - FRAME_BYTES) as u32;
    block[5..FRAME_BYTES].copy_from_slice(&len.to_le_bytes());
    let checksum = xxh3_64(&block);
    block.put_u64_le(checksum);
    block.into()
}
