//! Where a batch's keys and records are made.

use bytes::{Bytes, BytesMut};

/// A piece of memory. The pieces of a large batch go with it.
const PIECE_BYTES: usize = 64 << 10;

/// Memory in which keys and records are made one after the other, and which is used again once nobody has them any more: it stays in the
/// processor's cache, where an allocation for each would be found in a place that was freed long ago.
#[derive(Debug, Default)]
pub(crate) struct Arena(BytesMut);

impl Arena {
    /// So many bytes, as `write` appends them.
    pub(crate) fn make(&mut self, len: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.0.capacity() < len {
            self.0.reserve(len.max(PIECE_BYTES));
        }
        write(&mut self.0);
        debug_assert_eq!(self.0.len(), len);
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
    fn memory_is_used_again_when_nobody_has_what_is_in_it() {
        let mut arena = Arena::default();
        let mut starts = Vec::new();
        for _ in 0..4 {
            let batch: Vec<_> = (0..PIECE_BYTES / 1000).map(|_| make(&mut arena, 1000, 1)).collect();
            starts.push(batch[0].as_ptr());
        }
        assert!(starts.iter().all(|start| *start == starts[0]), "{starts:?}");
    }
}
