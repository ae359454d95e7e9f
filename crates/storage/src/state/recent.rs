//! The newest records of keys that were lately read, in front of the tree.
//!
//! Most commands begin with a look at the key's present record. Without this it is a search through memtables, filters, index and
//! data blocks; here it is one in a hash table. (RocksDB's row cache does the same for its tables.)

use lsm_tree::Slice;
use quick_cache::{Weighter, sync::Cache};

/// A longer record is left to the tree and its cache of blocks. Heads of values that are not in chunks, and chunks, are shorter.
const RECORD_BYTES_MAX: usize = 8 << 10;

/// What an entry takes beside the bytes of its key and record, about.
const ENTRY_BYTES: usize = 128;

/// A record of this length (its key included) is usual: how many entries to make room for at first.
const RECORD_BYTES_USUAL: u64 = 512;

/// The newest records, as far as they are known: `None` for a key that has none.
///
/// - What is here equals what memtables and tree would give to a reader of the latest batch, and while a batch is being written, of
///   that one: of two keys one may be ahead. So what must be of one moment is for the store's writer only.
/// - Only the writer adds keys: it knows that no batch comes between its look below and the addition.
/// - Records are shared with the memtables, or copies: none holds on to a block or a message that it came in.
pub(super) struct Recent {
    records: Cache<Slice, Option<Slice>, Weight>,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Slice, Option<Slice>> for Weight {
    fn weight(&self, key: &Slice, record: &Option<Slice>) -> u64 {
        (ENTRY_BYTES + key.len() + record.as_ref().map_or(0, |record| record.len())) as u64
    }
}

impl Recent {
    /// Keeps about so many bytes.
    pub(super) fn new(bytes_max: u64) -> Recent {
        let entries = (bytes_max / RECORD_BYTES_USUAL) as usize;
        Recent { records: Cache::with_weighter(entries, bytes_max, Weight) }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.records.clear();
    }

    /// What is known of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Slice>> {
        self.records.get(key)
    }

    /// A batch that is being written has this for the key. Who only writes a key does not take up room here.
    pub(super) fn put(&self, key: Slice, record: Option<Slice>) {
        if record.as_ref().is_some_and(|record| record.len() > RECORD_BYTES_MAX) {
            self.records.remove(&*key);
        } else {
            // An error means that the key is not here.
            let _ = self.records.replace(key, record, true);
        }
    }

    /// Memtables and tree have this for the key.
    pub(super) fn learn(&self, key: &[u8], record: Option<&[u8]>) {
        if record.is_none_or(|record| record.len() <= RECORD_BYTES_MAX) {
            self.records.insert(Slice::from(key), record.map(Slice::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(recent: &Recent, key: &str) -> Option<Option<Vec<u8>>> {
        recent.get(key.as_bytes()).map(|record| record.map(|record| record.to_vec()))
    }

    #[test]
    fn what_was_read_is_known_and_follows_what_is_written() {
        let recent = Recent::new(1 << 20);
        assert_eq!(known(&recent, "k"), None);
        recent.learn(b"k", Some(b"old"));
        recent.put("k".into(), Some("new".into()));
        assert_eq!(known(&recent, "k"), Some(Some(b"new".to_vec())));
        recent.put("k".into(), None);
        assert_eq!(known(&recent, "k"), Some(None), "it is known to be gone");
    }

    #[test]
    fn what_is_only_written_takes_up_no_room() {
        let recent = Recent::new(1 << 20);
        recent.put("k".into(), Some("record".into()));
        assert_eq!(known(&recent, "k"), None);
    }

    #[test]
    fn a_long_record_is_left_to_the_tree_and_replaces_what_was_known() {
        let recent = Recent::new(1 << 20);
        let long = vec![0; RECORD_BYTES_MAX + 1];
        recent.learn(b"k", Some(b"short"));
        recent.put("k".into(), Some(Slice::from(&long[..])));
        assert_eq!(known(&recent, "k"), None);
        recent.learn(b"k", Some(&long));
        assert_eq!(known(&recent, "k"), None);
    }

    #[test]
    fn memory_is_bounded_whatever_is_read() {
        let recent = Recent::new(1 << 20);
        for number in 0..20_000_u32 {
            recent.learn(&number.to_be_bytes(), Some(&[0; 500]));
        }
        assert!(recent.records.weight() <= 1 << 20, "{} bytes", recent.records.weight());
        assert!(recent.records.len() > 1_000, "{} records", recent.records.len());
    }
}
