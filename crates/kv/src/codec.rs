//! The byte forms that replicas agree on, written by hand: what enters the log and what the state store keeps.
//!
//! Building blocks:
//!
//! | form | bytes |
//! | --- | --- |
//! | *byte* | one byte |
//! | *varint* | an unsigned 64-bit number, least significant 7 bits first, the high bit set on all bytes but the last; at most 10 bytes, and never longer than need be |
//! | *signed* | an `i64` as varint of its zigzag form (0, -1, 1, -2, ... become 0, 1, 2, 3, ...) |
//! | *u16*, *u32*, *u64* | fixed width, little-endian |
//! | *bytes* | varint length, then as many bytes |
//! | *list of x* | varint count, then as many x |
//!
//! A type's form starts with a tag byte where it has variants. What stands alone (a log entry's block, a record in the
//! store) starts with a version byte ([`Encoding::encode`]); what stands inside of something else does not
//! ([`Encoding::write`]): the outermost version covers it. A decoder accepts exactly the bytes that the encoder makes, and
//! refuses all others with a [`DecodeError`]: it never panics, and allocates at most in proportion to the bytes it was given.

mod block;
mod command;
mod proposal;
mod state;

pub use block::{Block, BlockBuilder};
use bytes::{BufMut, Bytes};
pub(crate) use command::read_tagged_reply;

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("ends too early")]
    Truncated,
    /// Bytes are left over.
    #[error("{0} bytes too many at the end")]
    Trailing(usize),
    /// A varint is longer than need be, or does not fit.
    #[error("a number is malformed")]
    Number,
    /// The version is not one that this program knows; newer, if the bytes are sound.
    #[error("{what} has format version {found}, this program knows {known}")]
    Version {
        /// Of what.
        what: &'static str,
        /// The version found.
        found: u8,
        /// The version that is known.
        known: u8,
    },
    /// A tag or flag that nothing has.
    #[error("{what} has the unknown tag {tag}")]
    Tag {
        /// Of what.
        what: &'static str,
        /// The tag found.
        tag: u8,
    },
    /// A value that its form forbids.
    #[error("{0}")]
    Invalid(&'static str),
}

/// A type with an agreed byte form.
pub trait Encoding: Sized {
    /// What the type is called in errors.
    const NAME: &'static str;
    /// The version byte where the form stands alone.
    const VERSION: u8;

    /// Appends the form, without version.
    fn write(&self, out: &mut Vec<u8>);

    /// Reads the form, without version.
    fn read(from: &mut Decoder) -> Result<Self, DecodeError>;

    /// The version byte and the form.
    fn encode(&self) -> Bytes {
        let mut out = vec![Self::VERSION];
        self.write(&mut out);
        out.into()
    }

    /// The inverse of [`Encoding::encode`]: all of the bytes, and nothing but.
    fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(data);
        from.version(Self::NAME, Self::VERSION)?;
        let value = Self::read(&mut from)?;
        from.finish()?;
        Ok(value)
    }
}

/// Reads the building blocks from the front of some bytes. Byte strings come out as slices, without copying.
#[derive(Debug, Clone)]
pub struct Decoder {
    data: Bytes,
    at: usize,
}

impl Decoder {
    /// Starts at the front.
    pub fn new(data: Bytes) -> Decoder {
        Decoder { data, at: 0 }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.data.len() - self.at
    }

    /// A version byte; only the known one is accepted.
    pub fn version(&mut self, what: &'static str, known: u8) -> Result<(), DecodeError> {
        let found = self.byte()?;
        if found == known { Ok(()) } else { Err(DecodeError::Version { what, found, known }) }
    }

    /// A byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.data.get(self.at).ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// Fixed-width bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self
            .data
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<N>())
            .ok_or(DecodeError::Truncated)?;
        self.at += N;
        Ok(*bytes)
    }

    /// A varint.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low || (byte == 0 && shift > 0) {
                return Err(DecodeError::Number);
            }
            n |= low << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(DecodeError::Number)
    }

    /// A varint that fits 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Number)
    }

    /// A zigzag varint.
    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { what, tag }),
        }
    }

    /// As many bytes.
    pub fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        self.at += len;
        Ok(self.data.slice(self.at - len..self.at))
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        self.slice(len)
    }

    /// A count and as many elements, each of at least `bytes_min` bytes: a count that the bytes left cannot hold is refused
    /// before anything is allocated for it.
    pub fn list<T>(
        &mut self,
        bytes_min: usize,
        mut element: impl FnMut(&mut Decoder) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = usize::try_from(self.varint()?).map_err(|_| DecodeError::Truncated)?;
        if count > self.remaining() / bytes_min {
            return Err(DecodeError::Truncated);
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

/// Appends a varint.
pub fn put_varint(out: &mut impl BufMut, mut n: u64) {
    while n >= 0x80 {
        out.put_u8(n as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

/// How many bytes [`put_varint`] appends.
pub fn varint_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a zigzag varint.
pub fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, (n << 1 ^ n >> 63) as u64);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut impl BufMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Appends a count and the elements.
pub fn put_list<T>(out: &mut Vec<u8>, list: &[T], mut element: impl FnMut(&mut Vec<u8>, &T)) {
    put_varint(out, list.len() as u64);
    for item in list {
        element(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_width() {
        for bits in 0..=64 {
            for n in [(1u128 << bits) - 1, 1 << bits, (1 << bits) + 1] {
                let Ok(n) = u64::try_from(n) else { continue };
                let mut out = Vec::new();
                put_varint(&mut out, n);
                assert_eq!(out.len(), varint_len(n), "{n}");
                let mut from = Decoder::new(out.into());
                assert_eq!(from.varint(), Ok(n));
                from.finish().unwrap();
            }
        }
    }

    #[test]
    fn signed_numbers_round_trip() {
        for n in [0, -1, 1, 63, -64, 64, -65, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_signed(&mut out, n);
            assert_eq!(Decoder::new(out.into()).signed(), Ok(n));
        }
    }

    #[test]
    fn a_number_has_one_form_only() {
        let refused: [&[u8]; 4] = [
            &[0x80, 0x00],
            &[0x81, 0x80, 0x00],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ];
        for bytes in refused {
            assert_eq!(
                Decoder::new(Bytes::copy_from_slice(bytes)).varint(),
                Err(DecodeError::Number),
                "{bytes:?}"
            );
        }
        assert_eq!(Decoder::new(Bytes::from_static(&[0x80])).varint(), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_it_is_allocated_for() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX >> 1);
        assert_eq!(Decoder::new(out.into()).list(1, |from| from.byte()), Err(DecodeError::Truncated));
    }
}
