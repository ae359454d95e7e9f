//! Memtables that are written no more: read as they were, whatever later batches overwrite.

use std::{
    cmp::Ordering,
    iter::Peekable,
    mem,
    ops::Bound,
    slice,
    sync::{Arc, Mutex, OnceLock},
};

use lsm_tree::Slice;
use pontoon_kv::Index;

use super::{Keys, Range};
use crate::state::{
    generation::lock,
    records::{Epoch, Pair, Record, Records},
};

/// A memtable that is written no more.
pub(in crate::state) struct Sealed {
    pub(super) epoch: Epoch,
    /// What it holds, in key order, once somebody has needed that. It is collected from
    pairs: OnceLock<Vec<Pair>>,
    /// the records of these keys, until then,
    keys: Mutex<Keys>,
    /// and what later batches overwrote.
    overwritten: Mutex<Vec<Pair>>,
    /// What it took in memory when it was sealed, about. (What is overwritten is counted there, too.)
    pub(super) bytes: u64,
    last: Index,
}

impl Sealed {
    pub(super) fn new(epoch: Epoch, keys: Keys, bytes: u64, last: Index) -> Sealed {
        let (pairs, keys, overwritten) = (OnceLock::new(), Mutex::new(keys), Mutex::default());
        Sealed { epoch, pairs, keys, overwritten, bytes, last }
    }

    /// Its last batch.
    pub(in crate::state) fn last(&self) -> Index {
        self.last
    }

    /// What it holds, in key order. The first call collects it, which takes long for a large one.
    pub(in crate::state) fn pairs(&self, records: &Records) -> &[Pair] {
        let mut collected = false;
        let pairs = self.pairs.get_or_init(|| {
            collected = true;
            let keys: Vec<_> = lock(&self.keys).all().cloned().collect();
            let count = keys.len();
            let present = |key: Slice| records.get_of(&key, self.epoch).map(|record| (key, record));
            let mut pairs: Vec<_> = keys.into_iter().filter_map(present).collect();
            pairs.sort_unstable_by(by_key);
            // What was not in its place any more was put aside before, and perhaps others that still were.
            let mut overwritten = mem::take(&mut *lock(&self.overwritten));
            overwritten.sort_unstable_by(by_key);
            pairs.append(&mut overwritten);
            pairs.sort_by(by_key);
            pairs.dedup_by(|(a, _), (b, _)| a == b);
            assert_eq!(pairs.len(), count, "a record is in its place, or put aside");
            pairs
        });
        if collected {
            let keys = mem::take(&mut *lock(&self.keys));
            drop(keys);
        }
        pairs
    }

    pub(super) fn is_collected(&self) -> bool {
        self.pairs.get().is_some()
    }

    /// A later batch overwrites this.
    pub(super) fn put_aside(&self, key: Slice, record: Option<Record>) {
        if !self.is_collected() {
            lock(&self.overwritten).push((key, record));
        }
    }

    fn get(&self, records: &Records, key: &[u8]) -> Option<Option<Record>> {
        records.get_of(key, self.epoch).or_else(|| {
            let pairs = self.pairs(records);
            let position = pairs.binary_search_by(|(present, _)| (**present).cmp(key)).ok()?;
            Some(pairs[position].1.clone())
        })
    }

    /// Keys of a range, without collecting what is not collected.
    pub(super) fn keys(&self, records: &Records, range: Range<'_>) -> Vec<Slice> {
        let mut keys = lock(&self.keys);
        // Under the lock: keys are taken away after the pairs are there.
        match self.pairs.get() {
            None => keys.range(range),
            Some(_) => self.range(records, range).iter().map(|(key, _)| key.clone()).collect(),
        }
    }

    fn range(&self, records: &Records, (from, to): Range<'_>) -> &[Pair] {
        let pairs = self.pairs(records);
        let start = pairs.partition_point(|(key, _)| match from {
            Bound::Included(from) => **key < *from,
            Bound::Excluded(from) => **key <= *from,
            Bound::Unbounded => false,
        });
        let end = pairs.partition_point(|(key, _)| match to {
            Bound::Included(to) => **key <= *to,
            Bound::Excluded(to) => **key < *to,
            Bound::Unbounded => true,
        });
        &pairs[start..end.max(start)]
    }
}

/// Memtables that were sealed at some batch, the newest first.
#[derive(Default)]
pub(in crate::state) struct Frozen(Vec<Arc<Sealed>>);

impl Frozen {
    pub(super) fn new(oldest_first: &[Arc<Sealed>]) -> Frozen {
        Frozen(oldest_first.iter().rev().cloned().collect())
    }

    /// What is known of a key's record.
    pub(in crate::state) fn get(&self, records: &Records, key: &[u8]) -> Option<Option<Record>> {
        self.0.iter().find_map(|sealed| sealed.get(records, key))
    }

    /// The newest record of each key in a range, in key order.
    pub(in crate::state) fn range(&self, records: &Records, range: Range<'_>) -> Newest<'_> {
        let ranges = self.0.iter().map(|sealed| sealed.range(records, range).iter().peekable());
        Newest { newest_first: ranges.collect() }
    }
}

fn by_key((a, _): &Pair, (b, _): &Pair) -> Ordering {
    a.cmp(b)
}

/// See [`Frozen::range`].
pub(in crate::state) struct Newest<'a> {
    newest_first: Vec<Peekable<slice::Iter<'a, Pair>>>,
}

impl<'a> Iterator for Newest<'a> {
    type Item = &'a Pair;

    fn next(&mut self) -> Option<Self::Item> {
        let first_key = self.newest_first.iter_mut().filter_map(Peekable::peek).map(|(key, _)| key).min()?;
        let mut newest = None;
        for range in &mut self.newest_first {
            if let Some(pair) = range.next_if(|(key, _)| key == first_key) {
                newest.get_or_insert(pair);
            }
        }
        newest
    }
}
