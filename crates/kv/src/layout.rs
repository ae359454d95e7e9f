//! The key space of a group's store, by first byte:
//!
//! | store key | value |
//! | --- | --- |
//! | `00` | the [`Applied`] record |
//! | `01`, session id (8 bytes, big-endian) | the session's record ([`crate::session`]) |
//! | `02`, user key | the key's head record (module `record`) |
//! | `03`, value id (8 bytes, big-endian), chunk number (4 bytes, big-endian) | a chunk of a value or of a recorded reply |
//!
//! A store key has at most [`STORE_KEY_BYTES_MAX`] bytes, for that is what the log-structured merge tree can take; a user key
//! may be longer than what then remains. Of a user key beyond [`USER_KEY_PREFIX_BYTES`] the store key has that prefix and the
//! SHA-256 of the rest, the *tail*, and the head record holds the tail. (No shorter key can collide with it: they are not as
//! long. No other long key will: that is what SHA-256 is for; it would be noticed.)
//!
//! A value id is `log index << 20 | counter within the entry`, of the entry that first wrote chunks under it: unique without
//! a stored counter, and the same on every replica.

use bytes::{BufMut, Bytes};
use sha2::{Digest, Sha256};

use crate::{Applied, Index, Reader, SessionId, StoreError, codec::Encoding};

/// The key of the [`Applied`] record. It sorts before all others.
pub const APPLIED_KEY: &[u8] = &[0x00];

/// What a store must take as a key, in bytes.
pub const STORE_KEY_BYTES_MAX: usize = u16::MAX as usize;

/// A chunk's size, in bytes; the last one of a value may be shorter. Also the longest value that stays in its head record.
pub const CHUNK_BYTES: usize = 4096;

/// Where a long user key is cut.
pub const USER_KEY_PREFIX_BYTES: usize = STORE_KEY_BYTES_MAX - 1 - TAIL_DIGEST_BYTES;

pub(crate) const SESSION: u8 = 0x01;
pub(crate) const HEAD: u8 = 0x02;
pub(crate) const CHUNK: u8 = 0x03;

const TAIL_DIGEST_BYTES: usize = 32;
const VALUE_COUNTER_BITS: u32 = 20;

/// Names a chunked value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValueId(pub(crate) u64);

impl ValueId {
    /// The `counter`th that this entry makes.
    pub(crate) fn new(index: Index, counter: u32) -> ValueId {
        assert!(counter < 1 << VALUE_COUNTER_BITS, "entry {index} makes more than 2^20 chunked values");
        assert!(index.0 < 1 << (64 - VALUE_COUNTER_BITS), "log index {index} does not fit a value id");
        ValueId(index.0 << VALUE_COUNTER_BITS | u64::from(counter))
    }

    /// The entry that made it.
    pub(crate) fn index(self) -> Index {
        Index(self.0 >> VALUE_COUNTER_BITS)
    }
}

impl Applied {
    /// The record of a state; `None` if the state is empty.
    pub fn load(reader: &impl Reader) -> Result<Option<Applied>, StoreError> {
        let Some(record) = reader.get(APPLIED_KEY)? else { return Ok(None) };
        Applied::decode(record).map(Some).map_err(|error| damaged("the applied record", error))
    }
}

/// The key of a session's record.
pub(crate) fn session_key(session: SessionId) -> Bytes {
    let mut key = Vec::with_capacity(9);
    key.put_u8(SESSION);
    key.put_u64(session.0);
    key.into()
}

/// The key of a user key's head record.
pub(crate) fn head_key(user_key: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(head_key_len(user_key));
    put_head_key(&mut key, user_key);
    key.into()
}

/// Its length.
pub(crate) fn head_key_len(user_key: &[u8]) -> usize {
    let (prefix, tail) = split(user_key);
    1 + prefix.len() + if tail.is_empty() { 0 } else { TAIL_DIGEST_BYTES }
}

/// Appends it.
pub(crate) fn put_head_key(out: &mut impl BufMut, user_key: &[u8]) {
    let (prefix, tail) = split(user_key);
    out.put_u8(HEAD);
    out.put_slice(prefix);
    if !tail.is_empty() {
        out.put_slice(&Sha256::digest(tail));
    }
}

/// What of a user key is in its head record; empty for all but very long ones.
pub(crate) fn key_tail(user_key: &[u8]) -> &[u8] {
    split(user_key).1
}

/// The key of a chunk.
pub(crate) fn chunk_key(value: ValueId, number: u32) -> Bytes {
    let mut key = Vec::with_capacity(13);
    key.put_u8(CHUNK);
    key.put_u64(value.0);
    key.put_u32(number);
    key.into()
}

/// Whether there is any chunk.
pub(crate) fn holds_chunks(reader: &impl Reader) -> Result<bool, StoreError> {
    let mut found = false;
    reader.scan(&[CHUNK], &[CHUNK + 1], &mut |_, _| {
        found = true;
        false
    })?;
    Ok(found)
}

/// A record of the store that is not as it must be.
pub(crate) fn damaged(what: impl std::fmt::Display, how: impl std::fmt::Display) -> StoreError {
    StoreError(format!("{what} is damaged: {how}"))
}

fn split(user_key: &[u8]) -> (&[u8], &[u8]) {
    user_key.split_at(user_key.len().min(USER_KEY_PREFIX_BYTES))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_store_key_fits_the_tree_and_is_its_own() {
        let mut keys = BTreeSet::new();
        for len in (USER_KEY_PREFIX_BYTES - 2)..=(64 << 10) {
            let mut user_key = vec![b'k'; len];
            for last in [b'a', b'b'] {
                user_key[len - 1] = last;
                let key = head_key(&user_key);
                assert!(key.len() <= STORE_KEY_BYTES_MAX, "{} bytes for a key of {len}", key.len());
                assert!(keys.insert(key), "key of {len} bytes collides");
            }
        }
    }

    #[test]
    fn the_order_of_user_keys_is_the_order_of_their_heads() {
        let keys: [&[u8]; 5] = [b"", b"\0", b"a", b"a\0", b"b"];
        assert!(keys.map(head_key).is_sorted());
    }
}
