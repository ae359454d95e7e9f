//! Output buffers, which are filled and emptied over and over.

use bytes::{Buf, BytesMut};

/// Takes off what the socket has taken. A buffer that is empty then is given back if it is larger than `kept_bytes_max`.
pub(crate) fn written(buffer: &mut BytesMut, bytes: usize, kept_bytes_max: usize) {
    buffer.advance(bytes);
    // Its capacity says nothing here: it does not count what was advanced over.
    if buffer.is_empty() && buffer.try_reclaim(kept_bytes_max + 1) {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEPT_BYTES_MAX: usize = 1000;

    fn filled(bytes: usize) -> BytesMut {
        let mut buffer = BytesMut::with_capacity(bytes);
        buffer.resize(bytes, 0);
        buffer
    }

    #[test]
    fn a_large_buffer_is_given_back_once_it_is_empty() {
        let mut buffer = filled(5000);
        written(&mut buffer, 4999, KEPT_BYTES_MAX);
        assert_eq!(buffer.len(), 1);
        written(&mut buffer, 1, KEPT_BYTES_MAX);
        assert!(!buffer.try_reclaim(1), "all of its memory is gone");
    }

    #[test]
    fn a_small_buffer_is_kept() {
        let mut buffer = filled(KEPT_BYTES_MAX);
        written(&mut buffer, KEPT_BYTES_MAX, KEPT_BYTES_MAX);
        assert!(buffer.try_reclaim(KEPT_BYTES_MAX));
    }
}
