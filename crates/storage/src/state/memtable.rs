//! The newest batches, in memory: what is not in the tree yet.
//!
//! The tree has a memtable of its own, a skip list for many writers that keeps every version. Here is one writer, and a view holds
//! on to whole memtables, so an ordered map does. It is searched faster, and overwriting hardly fills it.

use std::{
    collections::{BTreeMap, btree_map::Range},
    iter::Peekable,
    mem,
    ops::Bound,
    sync::Arc,
};

use lsm_tree::Slice;
use pontoon_kv::Index;

/// A memtable is flushed, too, when so many times its size was written to it, although overwriting kept it small: this bounds what a
/// restart replays.
const WRITTEN_TIMES_MAX: u64 = 4;

/// What a record takes beside the bytes of its key and value, about: a place in the map, and an allocation.
const RECORD_BYTES: usize = 96;

/// The records that some batches wrote last, by key; `None`: the key is gone, whatever is below.
pub(super) struct Memtable {
    records: BTreeMap<Slice, Option<Slice>>,
    /// What they take in memory, about.
    bytes: u64,
    /// What all would take that were written.
    written: u64,
    /// The batch before its first.
    base: Index,
    /// Its last batch.
    last: Index,
}

impl Memtable {
    fn new(base: Index) -> Memtable {
        Memtable { records: BTreeMap::new(), bytes: 0, written: 0, base, last: base }
    }

    /// Its last batch.
    pub(super) fn last(&self) -> Index {
        self.last
    }

    /// In key order.
    pub(super) fn records(&self) -> impl Iterator<Item = (&Slice, &Option<Slice>)> {
        self.records.iter()
    }

    fn write(&mut self, index: Index, batch: impl Iterator<Item = (Slice, Option<Slice>)>) {
        let value_bytes = |record: &Option<Slice>| record.as_ref().map_or(0, |value| value.len()) as u64;
        for (key, record) in batch {
            let place_bytes = (RECORD_BYTES + key.len()) as u64;
            self.bytes += value_bytes(&record);
            self.written += place_bytes + value_bytes(&record);
            match self.records.insert(key, record) {
                None => self.bytes += place_bytes,
                Some(replaced) => self.bytes -= value_bytes(&replaced),
            }
        }
        self.last = index;
    }
}

/// A state's memtables: one that is written, and those that wait for their flush.
pub(super) struct Memtables {
    active: Arc<Memtable>,
    /// Oldest first.
    sealed: Vec<Arc<Memtable>>,
}

impl Memtables {
    /// Of a state whose batches up to `base` are in the tree.
    pub(super) fn new(base: Index) -> Memtables {
        Memtables { active: Arc::new(Memtable::new(base)), sealed: Vec::new() }
    }

    /// Writes a batch. True if a memtable waits for its flush now that did not before: it is as large as `bytes_max` lets it
    /// become, or a view holds it.
    pub(super) fn write(
        &mut self,
        index: Index,
        batch: impl Iterator<Item = (Slice, Option<Slice>)>,
        bytes_max: u64,
    ) -> bool {
        let held = Arc::get_mut(&mut self.active).is_none();
        let mut sealed = held && self.seal();
        let active = Arc::get_mut(&mut self.active).expect("a new memtable is nobody else's");
        active.write(index, batch);
        if active.bytes > bytes_max || active.written > WRITTEN_TIMES_MAX * bytes_max {
            sealed |= self.seal();
        }
        sealed
    }

    /// Has another memtable written from now on. True if this one waits for its flush now: not if no batch is in it.
    pub(super) fn seal(&mut self) -> bool {
        let next = Arc::new(Memtable::new(self.active.last));
        let sealed = mem::replace(&mut self.active, next);
        let has_batches = sealed.last > sealed.base;
        if has_batches {
            self.sealed.push(sealed);
        }
        has_batches
    }

    /// How many wait for their flush.
    pub(super) fn sealed_count(&self) -> usize {
        self.sealed.len()
    }

    /// The one that is flushed next.
    pub(super) fn oldest_sealed(&self) -> Option<Arc<Memtable>> {
        self.sealed.first().cloned()
    }

    /// The tree holds the oldest sealed one.
    pub(super) fn forget_oldest(&mut self) {
        self.sealed.remove(0);
    }

    /// What is known of a key's record.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Slice>> {
        get(self.newest_first(), key)
    }

    /// All as they are now.
    pub(super) fn freeze(&self) -> Frozen {
        Frozen(self.newest_first().cloned().collect())
    }

    fn newest_first(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        [&self.active].into_iter().chain(self.sealed.iter().rev())
    }
}

/// Memtables as they were at some batch, the newest first.
#[derive(Default)]
pub(super) struct Frozen(Vec<Arc<Memtable>>);

impl Frozen {
    /// What is known of a key's record.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Slice>> {
        get(&self.0, key)
    }

    /// The newest record of each key in a range, in key order.
    pub(super) fn range(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> Newest<'_> {
        let ranges = self.0.iter().map(|memtable| memtable.records.range::<[u8], _>(range).peekable());
        Newest { newest_first: ranges.collect() }
    }
}

fn get<'a>(newest_first: impl IntoIterator<Item = &'a Arc<Memtable>>, key: &[u8]) -> Option<Option<Slice>> {
    newest_first.into_iter().find_map(|memtable| memtable.records.get(key)).cloned()
}

/// See [`Frozen::range`].
pub(super) struct Newest<'a> {
    newest_first: Vec<Peekable<Range<'a, Slice, Option<Slice>>>>,
}

impl<'a> Iterator for Newest<'a> {
    type Item = (&'a Slice, &'a Option<Slice>);

    fn next(&mut self) -> Option<Self::Item> {
        let first_key = self.newest_first.iter_mut().filter_map(Peekable::peek).map(|(key, _)| *key).min()?;
        let mut newest = None;
        for range in &mut self.newest_first {
            if let Some(record) = range.next_if(|(key, _)| *key == first_key) {
                newest.get_or_insert(record);
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 10_000;

    fn write(memtables: &mut Memtables, index: u64, batch: &[(&str, Option<&str>)]) -> bool {
        let batch = batch.iter().map(|(key, record)| (Slice::from(*key), record.map(Slice::from)));
        memtables.write(Index(index), batch, BYTES_MAX)
    }

    /// `key=record` of a range, `key` if it is gone.
    fn text(frozen: &Frozen, from: &str, to: &str) -> String {
        let text = |bytes: &Slice| String::from_utf8(bytes.to_vec()).expect("text");
        let range = (Bound::Included(from.as_bytes()), Bound::Excluded(to.as_bytes()));
        let pairs = frozen.range(range).map(|(key, record)| match record {
            Some(record) => format!("{}={}", text(key), text(record)),
            None => text(key),
        });
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newest_record_of_a_key_counts_and_a_removed_key_is_known_to_be_gone() {
        let mut memtables = Memtables::new(Index(0));
        write(&mut memtables, 1, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        assert!(memtables.seal());
        write(&mut memtables, 2, &[("b", None), ("d", Some("2"))]);
        assert!(memtables.seal());
        write(&mut memtables, 3, &[("c", Some("3"))]);
        assert_eq!(text(&memtables.freeze(), "a", "z"), "a=1 b c=3 d=2");
        assert_eq!(text(&memtables.freeze(), "b", "d"), "b c=3");
        let get =
            |key: &str| memtables.get(key.as_bytes()).map(|record| record.map(|record| record.to_vec()));
        assert_eq!(get("a"), Some(Some(b"1".to_vec())));
        assert_eq!(get("b"), Some(None));
        assert_eq!(get("c"), Some(Some(b"3".to_vec())));
        assert_eq!(get("e"), None);
    }

    #[test]
    fn what_a_view_holds_stays_as_it_was() {
        let mut memtables = Memtables::new(Index(0));
        let empty = memtables.freeze();
        assert!(!write(&mut memtables, 1, &[("a", Some("1"))]), "there was nothing to flush");
        let first = memtables.freeze();
        assert!(write(&mut memtables, 2, &[("a", Some("2"))]), "what the view holds waits for its flush");
        assert_eq!(text(&empty, "a", "z"), "");
        assert_eq!(text(&first, "a", "z"), "a=1");
        assert_eq!(text(&memtables.freeze(), "a", "z"), "a=2");
        drop(first);
        assert!(!write(&mut memtables, 3, &[("a", Some("3"))]), "no view holds it any more");
        let last_batches = [memtables.sealed[0].last, memtables.active.last];
        assert_eq!(last_batches, [Index(1), Index(3)]);
    }

    #[test]
    fn memtables_are_flushed_in_order_when_they_have_grown_and_overwriting_makes_them_grow_slowly() {
        let mut memtables = Memtables::new(Index(0));
        let long = "v".repeat(900);
        let overwritten = (1..=100).filter(|index| write(&mut memtables, *index, &[("a", Some(&long))]));
        assert_eq!(overwritten.collect::<Vec<_>>(), [41, 82], "one record of 1,000 bytes, again and again");
        memtables.forget_oldest();
        memtables.forget_oldest();
        let sealed: Vec<u64> = (101..=122)
            .filter(|index| write(&mut memtables, *index, &[(&index.to_string(), Some(&long))]))
            .collect();
        assert_eq!(sealed, [110, 121], "eleven records of 1,000 bytes each");
        for last in sealed {
            assert_eq!(memtables.oldest_sealed().expect("it waits").last(), Index(last));
            memtables.forget_oldest();
        }
        assert!(memtables.oldest_sealed().is_none());
        assert_eq!(text(&memtables.freeze(), "", "z"), format!("122={long}"), "the others are in the tree");
        assert!(memtables.seal());
        assert!(!memtables.seal(), "no batch came since");
    }
}
