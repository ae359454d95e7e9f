//! Where a batch's keys and records are made.

use bytes::{Bytes, BytesMut};

/// A piece of memory. A large batch has several, all but the last of which go with it.
const PIECE_BYTES: usize = 64 << 10;

/// Memory in which a batch's keys and records are made one after the other, and the next batch's again: it stays in the processor's
/// cache, where an allocation for each would be found in a place that was freed long ago. To be kept for as long as a batch: a
/// record keeps a whole piece.
#[derive(Debug, Default)]
pub(crate) struct Arena(BytesMut);

impl Arena {
    /// A batch begins: at the start of the piece, if nobody has anything in it any more.
    pub(crate) fn begin(&mut self) {
        let _else_a_new_one = self.0.try_reclaim(PIECE_BYTES);
    }

    /// So many bytes, as `write` appends them.
    pub(crate) fn make(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.0.capacity() < len {
            self.0.reserve(len.max(PIECE_BYTES));
        }
        write(&mut self.0);
        assert_eq!(self.0.len(), len, "what is made is as long as was said");
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn make(arena: &mut Arena, len: usize, byte: u8) -> Bytes {
        arena.make(len, |out| out.put_bytes(byte, len))
    }

    #[test]
    fn what_was_made_stays_while_more_is_made() {
        let mut arena = Arena::default();
        let lens = [0, 1, 300, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2];
        let made: Vec<_> = lens.iter().map(|len| make(&mut arena, *len, *len as u8)).collect();
        for (len, bytes) in lens.iter().zip(made) {
            assert_eq!(bytes, vec![*len as u8; *len]);
        }
    }

    #[test]
    fn a_batch_begins_where_the_last_one_did_if_nobody_has_anything_of_that() {
        let mut arena = Arena::default();
        let mut batch = |records| {
            arena.begin();
            (0..records).map(|_| make(&mut arena, 1000, 1)).collect::<Vec<_>>()
        };
        let first = batch(10);
        let start = first[0].as_ptr();
        drop(first);
        let second = batch(3);
        assert_eq!(second[0].as_ptr(), start);
        let kept = second[1].clone();
        drop(second);
        assert_ne!(batch(3)[0].as_ptr(), start);
        drop(kept);
        assert_eq!(batch(3)[0].as_ptr(), start);
    }
}
