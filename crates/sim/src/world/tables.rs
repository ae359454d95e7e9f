//! A state as its tables on a disk hold it: in memory, with one value in them that may be damaged.
//!
//! The real store finds a damaged block when it reads it: at the start if it is read there, else whenever somebody wants it.
//! What was written since the start comes from memory, whatever the disk has.

use bytes::Bytes;
use pontoon_kv::{Index, MemStore, Reader, Store, StoreError, WriteBatch};

use super::record;

/// A bit of a stored value that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedValue {
    pub(crate) key: Bytes,
    pub(crate) bit: u64,
}

/// A state, or a view of one.
#[derive(Debug, Clone)]
pub(crate) struct Tables<R> {
    pub(crate) pairs: R,
    pub(crate) damaged: Option<DamagedValue>,
}

impl<R> Tables<R> {
    /// With no damage.
    pub(crate) fn sound(pairs: R) -> Tables<R> {
        Tables { pairs, damaged: None }
    }

    /// What comes of reading this value from the disk.
    fn read_from_disk(&self, key: &[u8], value: Bytes) -> Result<Bytes, StoreError> {
        let Some(DamagedValue { bit, .. }) = self.damaged.as_ref().filter(|damaged| damaged.key == key)
        else {
            return Ok(value);
        };
        let mut bytes = record::of_value(value);
        record::flip(&mut bytes, *bit);
        record::value(bytes).ok_or_else(|| StoreError(format!("the block of {key:x?} is damaged")))
    }
}

impl<R: Reader> Reader for Tables<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.pairs.get(key)?.map(|value| self.read_from_disk(key, value)).transpose()
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let mut found = Ok(());
        self.pairs.scan(from, to, &mut |key, value| match self.read_from_disk(&key, value) {
            Ok(value) => visit(key, value),
            Err(damage) => {
                found = Err(damage);
                false
            }
        })?;
        found
    }
}

impl Store for Tables<MemStore> {
    type View = Tables<<MemStore as Store>::View>;

    fn write(&mut self, index: Index, batch: WriteBatch) -> Result<(), StoreError> {
        self.damaged = self.damaged.take().filter(|damaged| !batch.contains_key(&damaged.key));
        self.pairs.write(index, batch)
    }

    fn view(&self) -> Self::View {
        Tables { pairs: self.pairs.view(), damaged: self.damaged.clone() }
    }
}
