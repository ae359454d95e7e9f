//! A store in memory, for the simulator and for tests. It holds its user to the contract of [`Store`].

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use crate::{
    Applied, Index, Reader, Store, StoreError, WriteBatch,
    codec::Encoding,
    layout::{APPLIED_KEY, STORE_KEY_BYTES_MAX},
};

/// An ordered map. Cloning it, or taking a view, costs nothing until the next write, which then copies the map's pointers
/// (not the values).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemStore {
    index: Index,
    pairs: Arc<BTreeMap<Bytes, Bytes>>,
}

/// A view of a [`MemStore`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemView {
    pairs: Arc<BTreeMap<Bytes, Bytes>>,
}

impl MemStore {
    /// An empty store.
    pub fn new() -> MemStore {
        MemStore::default()
    }

    /// A store of these pairs, those of a snapshot.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<MemStore, StoreError> {
        let mut store = MemStore { index: Index(0), pairs: Arc::new(pairs.into_iter().collect()) };
        store.index = Applied::load(&store)?.map_or(Index(0), |applied| applied.index);
        Ok(store)
    }

    /// The last entry that a batch covered.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Pairs held.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Puts or (`None`) removes a pair behind the machine's back: damage, for tests.
    pub fn tamper(&mut self, key: Bytes, value: Option<Bytes>) {
        let pairs = Arc::make_mut(&mut self.pairs);
        match value {
            Some(value) => pairs.insert(key, value),
            None => pairs.remove(&key),
        };
    }
}

impl Store for MemStore {
    type View = MemView;

    fn write(&mut self, index: Index, batch: WriteBatch) -> Result<(), StoreError> {
        assert!(index > self.index, "a batch up to entry {index} came after one up to {}", self.index);
        let record = batch.get(APPLIED_KEY).cloned().flatten().expect("a batch holds the applied record");
        let applied = Applied::decode(record).expect("a batch's applied record can be read");
        assert_eq!(applied.index, index, "a batch's applied record is of another entry");
        self.index = index;
        let pairs = Arc::make_mut(&mut self.pairs);
        for (key, value) in batch {
            assert!(key.len() <= STORE_KEY_BYTES_MAX, "a store key has {} bytes", key.len());
            match value {
                Some(value) => pairs.insert(Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn view(&self) -> MemView {
        MemView { pairs: self.pairs.clone() }
    }
}

impl Reader for MemStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        scan(&self.pairs, from, to, visit);
        Ok(())
    }
}

impl Reader for MemView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.pairs.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        scan(&self.pairs, from, to, visit);
        Ok(())
    }
}

fn scan(pairs: &BTreeMap<Bytes, Bytes>, from: &[u8], to: &[u8], visit: &mut dyn FnMut(Bytes, Bytes) -> bool) {
    if !to.is_empty() && from >= to {
        return;
    }
    let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
    for (key, value) in pairs.range::<[u8], _>((Bound::Included(from), upper)) {
        if !visit(key.clone(), value.clone()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_batch_is_held_when_it_is_written() {
        let mut store = MemStore::new();
        let message: Arc<[u8]> = (*b"key value").into();
        let bytes = Bytes::from_owner(message.clone());
        let applied = Applied { index: Index(1), ..Applied::default() };
        let batch =
            [(APPLIED_KEY.into(), Some(applied.encode())), (bytes.slice(..3), Some(bytes.slice(4..)))];
        drop(bytes);
        store.write(Index(1), batch.into()).unwrap();
        assert_eq!(Arc::strong_count(&message), 1);
        assert_eq!(store.get(b"key").unwrap(), Some("value".into()));
    }
}
