//! The state as it will be: a store and, on top, what the entries being applied change.

use std::ops::Bound;

use bytes::Bytes;

use crate::{
    Index, Reader, StoreError, WriteBatch,
    arena::Arena,
    layout::{CHUNK_BYTES, ValueId, chunk_key, head_key_len, key_tail, put_head_key},
    record::{Chunked, Head, Stored},
};

/// A store under a batch; reading sees the batch first.
pub(crate) struct Overlay<'a, R> {
    store: &'a R,
    /// What `store` holds.
    base: Index,
    /// The entry being applied.
    index: Index,
    /// Chunked values that it has made.
    values: u32,
    /// Whether `store` or `batch` may hold chunks.
    chunks: bool,
    arena: &'a mut Arena,
    batch: WriteBatch,
}

impl<'a, R: Reader> Overlay<'a, R> {
    /// An empty batch on a store that holds the entries up to `base`, and perhaps chunks.
    pub(crate) fn new(store: &'a R, base: Index, chunks: bool, arena: &'a mut Arena) -> Overlay<'a, R> {
        arena.begin();
        Overlay { store, base, index: base, values: 0, chunks, arena, batch: WriteBatch::new() }
    }

    /// The key of a user key's head record, for who may write it.
    pub(crate) fn head_key(&mut self, user_key: &[u8]) -> Bytes {
        self.arena.make(head_key_len(user_key), |out| put_head_key(out, user_key))
    }

    /// False: there surely is no chunk.
    pub(crate) fn may_hold_chunks(&self) -> bool {
        self.chunks
    }

    /// What a write that replaces a user key's value must know of the present record: nothing where no value has chunks, which
    /// would have to go. (A long key is looked at in any case: its record says whether it is that key's.)
    pub(crate) fn load_replaced(
        &self,
        store_key: &[u8],
        user_key: &[u8],
    ) -> Result<Option<Head>, StoreError> {
        if self.chunks || !key_tail(user_key).is_empty() {
            Head::load_at(self, store_key, user_key)
        } else {
            Ok(None)
        }
    }

    /// What follows is done by this entry.
    pub(crate) fn begin(&mut self, index: Index) {
        assert!(index > self.index, "entry {index} comes after {}", self.index);
        self.index = index;
        self.values = 0;
    }

    /// The batch.
    pub(crate) fn finish(self) -> WriteBatch {
        self.batch
    }

    /// Writes or (`None`) deletes a record.
    pub(crate) fn put(&mut self, key: Bytes, record: Option<Bytes>) {
        self.batch.insert(key, record);
    }

    /// Sets a user key whose present record is `old` (or what [`Overlay::load_replaced`] gave).
    pub(crate) fn set(&mut self, store_key: Bytes, user_key: &[u8], old: Option<&Head>, value: &Bytes) {
        self.discard(old);
        let value = if value.len() <= CHUNK_BYTES {
            Stored::Inline(value.clone())
        } else {
            Stored::Chunked(self.store_chunks(value))
        };
        self.put_head(store_key, user_key, value);
    }

    /// Removes a user key whose record is `old`.
    pub(crate) fn remove(&mut self, store_key: Bytes, old: &Head) {
        self.discard(Some(old));
        self.put(store_key, None);
    }

    /// Appends to a user key whose present record is `old`: the head and the chunks from the last one on are written, whatever
    /// the value's length.
    pub(crate) fn append(
        &mut self,
        store_key: Bytes,
        user_key: &[u8],
        old: &Head,
        tail: &Bytes,
    ) -> Result<(), StoreError> {
        let value = match &old.value {
            Stored::Inline(bytes) => {
                let joined = join(bytes, tail);
                if joined.len() <= CHUNK_BYTES {
                    Stored::Inline(joined)
                } else {
                    Stored::Chunked(self.store_chunks(&joined))
                }
            }
            Stored::Chunked(chunked) => Stored::Chunked(self.append_chunks(*chunked, tail)?),
        };
        self.put_head(store_key, user_key, value);
        Ok(())
    }

    /// Stores bytes as chunks under a new id.
    pub(crate) fn store_chunks(&mut self, bytes: &Bytes) -> Chunked {
        let id = ValueId::new(self.index, self.values);
        self.values += 1;
        self.put_chunks(id, 0, bytes);
        Chunked { id, len: bytes.len() as u64 }
    }

    /// Deletes all chunks.
    pub(crate) fn discard_chunks(&mut self, chunked: &Chunked) {
        for number in 0..chunked.count() {
            let key = chunk_key(chunked.id, number);
            if chunked.id.index() > self.base {
                // The store has never seen it.
                self.batch.remove(&key);
            } else {
                self.batch.insert(key, None);
            }
        }
    }

    fn discard(&mut self, old: Option<&Head>) {
        if let Some(Head { value: Stored::Chunked(chunked), .. }) = old {
            self.discard_chunks(chunked);
        }
    }

    fn put_head(&mut self, store_key: Bytes, user_key: &[u8], value: Stored) {
        let head = Head { revision: self.index, value };
        let record = head.encode(user_key, self.arena);
        self.put(store_key, Some(record));
    }

    fn append_chunks(&mut self, chunked: Chunked, tail: &Bytes) -> Result<Chunked, StoreError> {
        let full = (chunked.len / CHUNK_BYTES as u64) as u32;
        let partial = (chunked.len % CHUNK_BYTES as u64) as usize;
        if partial == 0 {
            self.put_chunks(chunked.id, full, tail);
        } else {
            let taken = tail.len().min(CHUNK_BYTES - partial);
            let joined = join(&chunked.chunk(self, full)?, &tail[..taken]);
            self.put(chunk_key(chunked.id, full), Some(joined));
            self.put_chunks(chunked.id, full + 1, &tail.slice(taken..));
        }
        Ok(Chunked { id: chunked.id, len: chunked.len + tail.len() as u64 })
    }

    fn put_chunks(&mut self, id: ValueId, first: u32, bytes: &Bytes) {
        self.chunks = true;
        for (number, start) in (first..).zip((0..bytes.len()).step_by(CHUNK_BYTES)) {
            let chunk = bytes.slice(start..bytes.len().min(start + CHUNK_BYTES));
            self.put(chunk_key(id, number), Some(chunk));
        }
    }
}

impl<R: Reader> Reader for Overlay<'_, R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.batch.get(key) {
            // A copy, since a reply may be a part of it, and outlives the batch.
            Some(record) => Ok(record.as_deref().map(Bytes::copy_from_slice)),
            None => self.store.get(key),
        }
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        if !to.is_empty() && from >= to {
            return Ok(());
        }
        let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let mut changed = self.batch.range::<[u8], _>((Bound::Included(from), upper)).peekable();
        let mut go_on = true;
        self.store.scan(from, to, &mut |key, record| {
            while let Some((key, changed)) = changed.next_if(|(changed, _)| **changed < key) {
                if let Some(record) = changed {
                    go_on = visit(key.clone(), record.clone());
                    if !go_on {
                        return false;
                    }
                }
            }
            go_on = match changed.next_if(|(changed, _)| **changed == key) {
                Some((_, None)) => true,
                Some((_, Some(record))) => visit(key, record.clone()),
                None => visit(key, record),
            };
            go_on
        })?;
        if go_on {
            for (key, changed) in changed {
                if let Some(record) = changed
                    && !visit(key.clone(), record.clone())
                {
                    break;
                }
            }
        }
        Ok(())
    }
}

fn join(front: &[u8], back: &[u8]) -> Bytes {
    let mut joined = Vec::with_capacity(front.len() + back.len());
    joined.extend_from_slice(front);
    joined.extend_from_slice(back);
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemStore;

    #[test]
    fn who_has_read_a_batch_keeps_none_of_its_memory() {
        let (store, mut arena) = (MemStore::new(), Arena::default());
        let mut batch = |value: &'static str| {
            let mut overlay = Overlay::new(&store, Index(0), false, &mut arena);
            let key = overlay.head_key(b"k");
            let start = key.as_ptr();
            overlay.begin(Index(1));
            overlay.set(key, b"k", None, &value.into());
            (start, Head::load(&overlay, b"k").unwrap().unwrap().value)
        };
        let (start, read) = batch("old");
        assert_eq!(batch("new").0, start);
        assert_eq!(read, Stored::Inline("old".into()));
    }

    /// All ways for four keys to be stored, changed and removed, and all ranges: few enough to try each.
    #[test]
    fn a_scan_merges_store_and_batch() {
        let keys = ["a", "b", "c", "d"].map(Bytes::from);
        for case in 0..6_usize.pow(4) {
            let state = |at: usize| case / 6_usize.pow(at as u32) % 6;
            let stored = (0..4).filter(|at| state(*at) >= 3).map(|at| (keys[at].clone(), "old".into()));
            let store = MemStore::from_pairs(stored).unwrap();
            let mut arena = Arena::default();
            let mut overlay = Overlay::new(&store, Index(0), false, &mut arena);
            for (at, key) in keys.iter().enumerate().filter(|(at, _)| state(*at) % 3 > 0) {
                overlay.put(key.clone(), (state(at) % 3 == 1).then(|| "new".into()));
            }
            for (from, to, limit) in
                [("", "", 9), ("b", "", 9), ("", "c", 9), ("b", "d", 9), ("c", "b", 9), ("", "", 2)]
            {
                let mut seen = Vec::new();
                let mut visit = |key, value| {
                    seen.push((key, value));
                    seen.len() < limit
                };
                overlay.scan(from.as_bytes(), to.as_bytes(), &mut visit).unwrap();
                let within =
                    |key: &Bytes| &key[..] >= from.as_bytes() && (to.is_empty() || &key[..] < to.as_bytes());
                let each = keys.iter().filter(|key| within(key)).cloned();
                let expected: Vec<_> = each
                    .filter_map(|key| overlay.get(&key).unwrap().map(|value| (key, value)))
                    .take(limit)
                    .collect();
                assert_eq!(seen, expected, "case {case}, {from:?}..{to:?}");
            }
        }
    }
}
