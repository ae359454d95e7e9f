//! A key's head record and its value's chunks.
//!
//! Head record:
//!
//! - form: byte. 1: the value follows; 2: the value is in chunks. Plus 128 if the key is a long one. (A later format gets other numbers.)
//! - revision: varint, the index of the log entry that last changed the key.
//! - only of a long key: its tail, bytes ([`crate::layout`]).
//! - the value's length: varint.
//! - form 1, for values of at most [`CHUNK_BYTES`]: the value. Form 2: value id, u64 big-endian.
//!
//! Chunk `n` of a value of length `l` holds its bytes from `4096 n` to below `min(4096 (n + 1), l)`, as they are. So any part of
//! a value is read or written by touching the head and the chunks that it overlaps, and an append touches the last chunk only.
//!
//! A chunk that is missing or not of that size is damage: a [`StoreError`], never a value.

use std::ops::Range;

use bytes::{BufMut, Bytes};

use crate::{
    Index, Reader, StoreError,
    arena::Arena,
    codec::{DecodeError, Decoder, put_bytes, put_varint, varint_len},
    layout::{CHUNK_BYTES, ValueId, chunk_key, damaged, head_key, key_tail},
    store::try_scan,
};

const FORM_INLINE: u8 = 1;
const FORM_CHUNKED: u8 = 2;
const FORM_LONG_KEY: u8 = 0x80;

/// A key's head record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The log entry that last changed the key.
    pub(crate) revision: Index,
    /// The value.
    pub(crate) value: Stored,
}

/// Where a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// In the head record.
    Inline(Bytes),
    /// In chunks.
    Chunked(Chunked),
}

/// A value in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunked {
    pub(crate) id: ValueId,
    /// In bytes.
    pub(crate) len: u64,
}

impl Head {
    /// The head record of a user key.
    pub(crate) fn load(reader: &impl Reader, user_key: &[u8]) -> Result<Option<Head>, StoreError> {
        Head::load_at(reader, &head_key(user_key), user_key)
    }

    /// The same, for who has the store key at hand.
    pub(crate) fn load_at(
        reader: &impl Reader,
        store_key: &[u8],
        user_key: &[u8],
    ) -> Result<Option<Head>, StoreError> {
        let Some(record) = reader.get(store_key)? else { return Ok(None) };
        let (head, tail) = Head::decode(record).map_err(|error| damaged("a head record", error))?;
        if tail != key_tail(user_key) {
            return Err(damaged("a head record", "it is of another key"));
        }
        Ok(Some(head))
    }

    /// The record's bytes.
    pub(crate) fn encode(&self, user_key: &[u8], arena: &mut Arena) -> Bytes {
        let tail = key_tail(user_key);
        let long = if tail.is_empty() { 0 } else { FORM_LONG_KEY };
        let tail_bytes = if tail.is_empty() { 0 } else { varint_len(tail.len() as u64) + tail.len() };
        let value_bytes = match &self.value {
            Stored::Inline(bytes) => bytes.len(),
            Stored::Chunked(_) => 8,
        };
        let len = self.value.len();
        let record_bytes = 1 + varint_len(self.revision.0) + tail_bytes + varint_len(len) + value_bytes;
        arena.make(record_bytes, |out| {
            out.put_u8(
                long | if matches!(self.value, Stored::Inline(_)) { FORM_INLINE } else { FORM_CHUNKED },
            );
            put_varint(out, self.revision.0);
            if !tail.is_empty() {
                put_bytes(out, tail);
            }
            put_varint(out, len);
            match &self.value {
                Stored::Inline(bytes) => out.put_slice(bytes),
                Stored::Chunked(Chunked { id, .. }) => out.put_u64(id.0),
            }
        })
    }

    /// The record and the key's tail.
    pub(crate) fn decode(record: Bytes) -> Result<(Head, Bytes), DecodeError> {
        let mut from = Decoder::new(record);
        let form = from.byte()?;
        let revision = Index(from.varint()?);
        let tail = if form & FORM_LONG_KEY == 0 { Bytes::new() } else { from.bytes()? };
        if form & FORM_LONG_KEY != 0 && tail.is_empty() {
            return Err(DecodeError::Invalid("a long key has no tail"));
        }
        let len = from.varint()?;
        let value = match form & !FORM_LONG_KEY {
            FORM_INLINE if len <= CHUNK_BYTES as u64 => Stored::Inline(from.slice(len as usize)?),
            FORM_CHUNKED if len > CHUNK_BYTES as u64 && len <= u64::from(u32::MAX) => {
                Stored::Chunked(Chunked { id: ValueId(u64::from_be_bytes(from.array()?)), len })
            }
            FORM_INLINE | FORM_CHUNKED => {
                return Err(DecodeError::Invalid("the value's length does not fit its form"));
            }
            _ => return Err(DecodeError::Tag { what: "head record", tag: form }),
        };
        from.finish()?;
        Ok((Head { revision, value }, tail))
    }
}

impl Stored {
    /// The value's length, in bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Stored::Inline(bytes) => bytes.len() as u64,
            Stored::Chunked(chunked) => chunked.len,
        }
    }

    /// The value.
    pub(crate) fn read(&self, reader: &impl Reader) -> Result<Bytes, StoreError> {
        match self {
            Stored::Inline(bytes) => Ok(bytes.clone()),
            Stored::Chunked(chunked) => chunked.read(reader, 0..chunked.len),
        }
    }
}

impl Chunked {
    /// How many chunks there are.
    pub(crate) fn count(&self) -> u32 {
        // No length is above 2^40 (values: 2^32, recorded replies: session::record), so the count fits.
        self.len.div_ceil(CHUNK_BYTES as u64) as u32
    }

    /// A part of the value.
    pub(crate) fn read(&self, reader: &impl Reader, part: Range<u64>) -> Result<Bytes, StoreError> {
        assert!(part.start <= part.end && part.end <= self.len, "the part {part:?} lies outside of {self:?}");
        if part.is_empty() {
            return Ok(Bytes::new());
        }
        let first = (part.start / CHUNK_BYTES as u64) as u32;
        let last = ((part.end - 1) / CHUNK_BYTES as u64) as u32;
        let base = u64::from(first) * CHUNK_BYTES as u64;
        let within = (part.start - base) as usize..(part.end - base) as usize;
        if first == last {
            return Ok(self.chunk(reader, first)?.slice(within));
        }
        Ok(self.chunks(reader, first, last)?.slice(within))
    }

    /// One chunk.
    pub(crate) fn chunk(&self, reader: &impl Reader, number: u32) -> Result<Bytes, StoreError> {
        let key = chunk_key(self.id, number);
        let chunk = reader.get(&key)?.ok_or_else(|| self.missing(number))?;
        self.check(number, &chunk)?;
        Ok(chunk)
    }

    /// Chunks `first` to `last` in one piece, by one scan.
    fn chunks(&self, reader: &impl Reader, first: u32, last: u32) -> Result<Bytes, StoreError> {
        let mut next = first;
        let mut out = Vec::new();
        let (from, to) = (chunk_key(self.id, first), chunk_key(self.id, last + 1));
        try_scan(reader, &from, &to, |key, chunk| {
            if key != chunk_key(self.id, next) {
                return Err(self.missing(next));
            }
            self.check(next, &chunk)?;
            if next == first {
                // Only now, so that a damaged length alone reserves nothing.
                out.reserve_exact((last - first + 1) as usize * CHUNK_BYTES);
            }
            out.extend_from_slice(&chunk);
            next += 1;
            Ok(())
        })?;
        if next <= last {
            return Err(self.missing(next));
        }
        Ok(out.into())
    }

    /// Whether a chunk has the size that it must have.
    pub(crate) fn check(&self, number: u32, chunk: &[u8]) -> Result<(), StoreError> {
        let start = u64::from(number) * CHUNK_BYTES as u64;
        let expected = (self.len - start).min(CHUNK_BYTES as u64);
        if chunk.len() as u64 == expected {
            return Ok(());
        }
        let how = format!("chunk {number} has {} bytes instead of {expected}", chunk.len());
        Err(damaged(format_args!("value {:#x}", self.id.0), how))
    }

    fn missing(&self, number: u32) -> StoreError {
        damaged(format_args!("value {:#x}", self.id.0), format_args!("chunk {number} is missing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemStore, layout::USER_KEY_PREFIX_BYTES};

    #[test]
    fn what_decodes_as_a_head_record_is_what_was_encoded() {
        let long = vec![b'k'; USER_KEY_PREFIX_BYTES + 3];
        let inline = Stored::Inline(Bytes::from_static(b"value"));
        let chunked = Stored::Chunked(Chunked { id: ValueId(7 << 20), len: 5000 });
        for (user_key, value) in [(&b"k"[..], &inline), (b"k", &chunked), (&long, &inline), (&long, &chunked)]
        {
            let head = Head { revision: Index(300), value: value.clone() };
            let record = head.encode(user_key, &mut Arena::default());
            assert_eq!(Head::decode(record.clone()), Ok((head, Bytes::copy_from_slice(key_tail(user_key)))));
            for at in 0..record.len() {
                assert!(Head::decode(record.slice(..at)).is_err(), "cut to {at} bytes");
                for byte in 0..=u8::MAX {
                    let mut damaged = record.to_vec();
                    damaged[at] = byte;
                    if let Ok((head, tail)) = Head::decode(damaged.clone().into())
                        && tail == key_tail(user_key)
                    {
                        assert_eq!(head.encode(user_key, &mut Arena::default()), damaged);
                    }
                }
            }
        }
    }

    #[test]
    fn a_short_keys_record_has_one_form_only() {
        assert!(Head::decode(Bytes::from_static(&[FORM_INLINE, 2, 0])).is_ok());
        assert!(Head::decode(Bytes::from_static(&[FORM_INLINE | FORM_LONG_KEY, 2, 0, 0])).is_err());
    }

    #[test]
    fn a_head_record_of_another_long_key_is_not_served() {
        let [mine, other] =
            ["mine", "other"].map(|tail| [&vec![b'k'; USER_KEY_PREFIX_BYTES], tail.as_bytes()].concat());
        let head = Head { revision: Index(1), value: Stored::Inline(Bytes::from_static(b"value")) };
        let record = head.encode(&other, &mut Arena::default());
        let store = MemStore::from_pairs([(head_key(&mine), record)]).unwrap();
        assert!(Head::load(&store, &mine).is_err());
        assert_eq!(Head::load(&store, &other).unwrap(), None);
    }
}
