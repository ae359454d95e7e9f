//! Whether two replicas' states are equal, in 16 bytes.

use xxhash_rust::xxh3::Xxh3Default;

use crate::{Reader, StoreError};

/// A hash of a whole state: xxh3-128 over, for each pair in order, the key's length (u32), the value's length (u32), key and
/// value. Replicas that have applied the same entries have the same.
pub fn state_hash(reader: &impl Reader) -> Result<u128, StoreError> {
    let mut hash = StateHash::new();
    reader.scan(&[], &[], &mut |key, value| {
        hash.pair(&key, &value);
        true
    })?;
    Ok(hash.digest())
}

/// A state's hash in the making.
pub(crate) struct StateHash {
    hasher: Box<Xxh3Default>,
    /// Pairs so far.
    pub(crate) pairs: u64,
}

impl StateHash {
    pub(crate) fn new() -> StateHash {
        StateHash { hasher: Box::default(), pairs: 0 }
    }

    /// The next pair, in key order.
    pub(crate) fn pair(&mut self, key: &[u8], value: &[u8]) {
        self.pairs += 1;
        self.hasher.update(&(key.len() as u32).to_le_bytes());
        self.hasher.update(&(value.len() as u32).to_le_bytes());
        self.hasher.update(key);
        self.hasher.update(value);
    }

    /// The hash of the pairs so far.
    pub(crate) fn digest(&self) -> u128 {
        self.hasher.digest128()
    }
}

impl std::fmt::Debug for StateHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateHash").field("pairs", &self.pairs).finish_non_exhaustive()
    }
}
