//! Which keys the newest batches wrote: what is not in the tree yet, in order.
//!
//! The records themselves are in a hash table (module `records`), where the newest of each key is found at once. A memtable knows the keys
//! that some batches wrote. One is written; when it has grown, or somebody needs the state as it is, it is **sealed**, and what later
//! batches overwrite is put aside for it. So it can be flushed, and seen by views, as it was: a flush brings whole batches into
//! the tree, in order.
//!
//! Keys are put in order when somebody needs that: by the flush, on its own thread, or by a scan or a view that comes before it.

mod sealed;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use lsm_tree::Slice;
use pontoon_kv::Index;

pub(super) use self::sealed::{Frozen, Sealed};
use super::records::{ENTRY_BYTES, Epoch, Pair, Records, Replaced};

/// A memtable is flushed, too, when so many times its size was written to it, although overwriting kept it small: this bounds what a
/// restart replays.
const WRITTEN_TIMES_MAX: u64 = 2;

/// Keys by their first byte, which tells what they are of: a scan of chunks does not put all else in order.
#[derive(Default)]
struct Keys(BTreeMap<u8, SameFirstByte>);

#[derive(Default)]
struct SameFirstByte {
    /// Those that came since the last scan,
    fresh: Vec<Slice>,
    /// and those before it.
    ordered: BTreeSet<Slice>,
}

impl Keys {
    fn push(&mut self, key: Slice) {
        self.0.entry(key[0]).or_default().fresh.push(key);
    }

    /// All, in no order.
    fn all(&self) -> impl Iterator<Item = &Slice> {
        self.0.values().flat_map(|keys| keys.ordered.iter().chain(&keys.fresh))
    }

    /// Those of a range.
    fn range(&mut self, range: Range<'_>) -> Vec<Slice> {
        let first_byte = |bound: Bound<&[u8]>, otherwise| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.first().copied().unwrap_or(otherwise),
            Bound::Unbounded => otherwise,
        };
        let mut found = Vec::new();
        for (_, keys) in self.0.range_mut(first_byte(range.0, 0)..=first_byte(range.1, u8::MAX)) {
            let SameFirstByte { fresh, ordered } = keys;
            ordered.extend(fresh.drain(..));
            found.extend(ordered.range::<[u8], _>(range).cloned());
        }
        found
    }
}

/// The memtable that is written.
struct Active {
    epoch: Epoch,
    keys: Keys,
    /// What their records take in memory, about.
    bytes: u64,
    /// What all would take that were written.
    written: u64,
    /// The batch before its first.
    base: Index,
    /// Its last batch.
    last: Index,
}

impl Active {
    fn new(epoch: Epoch, base: Index) -> Active {
        Active { epoch, keys: Keys::default(), bytes: 0, written: 0, base, last: base }
    }
}

/// A range of keys.
pub(super) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A state's memtables: one that is written, and those that wait for their flush.
pub(super) struct Memtables {
    active: Active,
    /// Oldest first.
    sealed: Vec<Arc<Sealed>>,
}

impl Memtables {
    /// Of a state whose batches up to `base` are in the tree.
    pub(super) fn new(base: Index) -> Memtables {
        Memtables { active: Active::new(Epoch(1), base), sealed: Vec::new() }
    }

    /// Writes a batch. True if a memtable waits for its flush now that did not before: it is larger than `bytes_max`.
    pub(super) fn write(
        &mut self,
        records: &Records,
        index: Index,
        batch: impl Iterator<Item = (Slice, Option<Bytes>)>,
        bytes_max: u64,
    ) -> bool {
        let Memtables { active, sealed } = self;
        records.put(active.epoch, batch, |key, len, replaced| {
            let (place_bytes, record_bytes) = ((ENTRY_BYTES + key.len()) as u64, len as u64);
            active.bytes += record_bytes;
            active.written += place_bytes + record_bytes;
            match replaced {
                Replaced::Own(len) => active.bytes -= len as u64,
                replaced => {
                    active.bytes += place_bytes;
                    if let Replaced::Sealed(epoch, record) = replaced
                        && let Some(sealed) = sealed.iter().find(|sealed| sealed.epoch == epoch)
                    {
                        sealed.put_aside(key.clone(), record);
                    }
                    active.keys.push(key);
                }
            }
        });
        active.last = index;
        let full = active.bytes > bytes_max || active.written > WRITTEN_TIMES_MAX * bytes_max;
        self.count_unflushed(records);
        full && self.seal()
    }

    fn count_unflushed(&self, records: &Records) {
        records.set_unflushed(self.active.bytes + self.sealed.iter().map(|sealed| sealed.bytes).sum::<u64>());
    }

    /// Has another memtable written from now on. True if this one waits for its flush now: not if no batch is in it.
    pub(super) fn seal(&mut self) -> bool {
        let Active { epoch, base, last, .. } = self.active;
        if last == base {
            return false;
        }
        let Active { keys, bytes, .. } =
            mem::replace(&mut self.active, Active::new(Epoch(epoch.0 + 1), last));
        self.sealed.push(Arc::new(Sealed::new(epoch, keys, bytes, last)));
        true
    }

    /// How many wait for their flush.
    pub(super) fn sealed_count(&self) -> usize {
        self.sealed.len()
    }

    /// The one that is flushed next.
    pub(super) fn oldest_sealed(&self) -> Option<Arc<Sealed>> {
        self.sealed.first().cloned()
    }

    /// The tree holds the oldest sealed one.
    pub(super) fn forget_oldest(&mut self, records: &Records) {
        let flushed = self.sealed.remove(0);
        records.set_flushed(flushed.epoch);
        self.count_unflushed(records);
    }

    /// All that are sealed, as they will stay.
    pub(super) fn frozen(&self) -> Frozen {
        Frozen::new(&self.sealed)
    }

    /// The newest record of each key in a range that is not in the tree, in key order. For the writer.
    pub(super) fn range(&mut self, records: &Records, range: Range<'_>) -> Vec<Pair> {
        let mut keys = self.active.keys.range(range);
        for sealed in &self.sealed {
            keys.append(&mut sealed.keys(records, range));
        }
        keys.sort();
        keys.dedup();
        let newest = |key: &Slice| records.peek(key).expect("what is not in the tree is not forgotten");
        keys.into_iter().map(|key| (key.clone(), newest(&key))).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const BYTES_MAX: u64 = 10_000;

    struct State {
        records: Records,
        memtables: Memtables,
    }

    impl State {
        fn new() -> State {
            State { records: Records::new(1 << 20), memtables: Memtables::new(Index(0)) }
        }

        fn write(&mut self, index: u64, batch: &[(&str, Option<&str>)]) -> bool {
            let batch = batch.iter().map(|(key, record)| {
                (Slice::from(*key), record.map(|record| Bytes::from(record.to_owned())))
            });
            self.memtables.write(&self.records, Index(index), batch, BYTES_MAX)
        }

        /// What waits for its flush.
        fn frozen(&self, from: &str, to: &str) -> String {
            text(self.memtables.frozen().range(&self.records, range(from, to)))
        }

        /// What is not in the tree.
        fn newest(&mut self, from: &str, to: &str) -> String {
            text(self.memtables.range(&self.records, range(from, to)).iter())
        }

        /// Flushes the oldest memtable: what it brings into the tree.
        fn flush(&mut self) -> String {
            let oldest = self.memtables.oldest_sealed().expect("it waits");
            let flushed = text(oldest.pairs(&self.records).iter());
            self.memtables.forget_oldest(&self.records);
            flushed
        }
    }

    fn range<'a>(from: &'a str, to: &'a str) -> Range<'a> {
        (Bound::Included(from.as_bytes()), Bound::Excluded(to.as_bytes()))
    }

    /// `key=record` of each pair, `key` if it is gone.
    fn text<'a>(pairs: impl Iterator<Item = &'a Pair>) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let pairs = pairs.map(|(key, record)| match record {
            Some(record) => format!("{}={}", text(key), text(record)),
            None => text(key),
        });
        pairs.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newest_record_of_a_key_counts_and_a_removed_key_is_known_to_be_gone() {
        let mut state = State::new();
        state.write(1, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        assert!(state.memtables.seal());
        state.write(2, &[("b", None), ("d", Some("2"))]);
        assert!(state.memtables.seal());
        state.write(3, &[("c", Some("3"))]);
        assert_eq!(state.newest("a", "z"), "a=1 b c=3 d=2");
        assert_eq!(state.newest("b", "d"), "b c=3");
        assert_eq!(state.frozen("a", "z"), "a=1 b c=1 d=2");
        assert_eq!(state.frozen("b", "d"), "b c=1");
        let frozen = state.memtables.frozen();
        let get = |key: &str| frozen.get(&state.records, key.as_bytes());
        assert_eq!(get("a"), Some(Some(b"1"[..].into())));
        assert_eq!(get("b"), Some(None));
        assert_eq!(get("c"), Some(Some(b"1"[..].into())));
        assert_eq!(get("e"), None);
    }

    #[test]
    fn a_record_that_is_in_its_place_is_found_before_all_are_collected() {
        let mut state = State::new();
        state.write(1, &[("a", Some("1")), ("b", Some("1"))]);
        state.memtables.seal();
        let frozen = state.memtables.frozen();
        assert_eq!(frozen.get(&state.records, b"a"), Some(Some(b"1"[..].into())));
        assert!(!state.memtables.sealed[0].is_collected());
        assert_eq!(state.newest("a", "z"), "a=1 b=1");
        assert!(!state.memtables.sealed[0].is_collected(), "the writer's scans collect nothing either");
    }

    #[test]
    fn what_waits_for_its_flush_gives_room_to_what_is_read() {
        let mut state = State::new();
        state.records = Records::new(0);
        let known = |state: &State| {
            for number in 0..40_u8 {
                state.records.learn(&[number], None);
            }
            (0..40_u8).filter(|number| state.records.peek(&[*number]).is_some()).count()
        };
        assert_eq!(known(&state), 0);
        state.write(1, &[("a", Some(&"v".repeat(9_000)))]);
        assert!(known(&state) > 20, "{}", known(&state));
    }

    #[test]
    fn what_is_flushed_takes_room_again_from_the_moment_on_that_it_is_in_the_tree() {
        let mut state = State::new();
        state.records = Records::new(0);
        state.write(1, &[("a", Some("1")), ("b", Some("1"))]);
        state.memtables.seal();
        state.records.make_room();
        assert_eq!(state.newest("a", "z"), "a=1 b=1");
        state.flush();
        state.records.make_room();
        assert_eq!(["a", "b"].map(|key| state.records.peek(key.as_bytes())), [None, None]);
    }

    #[test]
    fn what_is_sealed_stays_as_it_was_when_it_is_collected_before_it_is_overwritten_or_after() {
        for collected_before in [false, true] {
            let mut state = State::new();
            state.write(1, &[("a", Some("1")), ("b", Some("1")), ("c", None)]);
            state.memtables.seal();
            if collected_before {
                assert_eq!(state.frozen("a", "z"), "a=1 b=1 c");
            }
            state.write(2, &[("a", Some("2")), ("c", Some("2"))]);
            state.memtables.seal();
            state.write(3, &[("a", None), ("b", Some("3"))]);
            assert_eq!(state.newest("a", "z"), "a b=3 c=2");
            assert_eq!(state.flush(), "a=1 b=1 c");
            assert_eq!(state.flush(), "a=2 c=2");
            state.memtables.seal();
            assert_eq!(state.flush(), "a b=3");
            assert_eq!(state.newest("a", "z"), "", "all is in the tree");
        }
    }

    #[test]
    fn what_is_frozen_stays_as_it_was_when_it_is_in_the_tree_and_then_overwritten_by_something_as_long() {
        let mut state = State::new();
        state.write(1, &[("a", Some("1")), ("b", Some("1"))]);
        state.memtables.seal();
        let frozen = state.memtables.frozen();
        assert_eq!(state.flush(), "a=1 b=1");
        state.write(2, &[("a", Some("2"))]);
        assert_eq!(frozen.get(&state.records, b"a"), Some(Some(b"1"[..].into())));
        assert_eq!(text(frozen.range(&state.records, range("a", "z"))), "a=1 b=1");
        assert_eq!(state.newest("a", "z"), "a=2");
    }

    #[test]
    fn what_another_thread_collects_is_what_was_sealed_whatever_is_written_meanwhile() {
        let mut state = State::new();
        for round in 0..50 {
            let (old, new) = (format!("{round} old"), format!("{round} new"));
            let keys: Vec<_> = (100..400).map(|key| key.to_string()).collect();
            let batch: Vec<_> = keys.iter().map(|key| (&**key, Some(&*old))).collect();
            assert!(state.write(round * 2 + 1, &batch), "it is more than a memtable takes");
            let sealed: Vec<_> = state.memtables.sealed.clone();
            let State { records, memtables } = &mut state;
            let collected = std::thread::scope(|scope| {
                let newest = sealed.last().expect("one was sealed");
                let collector = scope.spawn(|| text(newest.pairs(records).iter()));
                let batch = keys.iter().map(|key| (Slice::from(&**key), Some(Bytes::from(new.clone()))));
                memtables.write(records, Index(round * 2 + 2), batch, BYTES_MAX);
                collector.join().expect("it collects")
            });
            let expected: Vec<_> = keys.iter().map(|key| format!("{key}={old}")).collect();
            assert_eq!(collected, expected.join(" "));
            state.flush();
            state.flush();
        }
    }

    #[test]
    fn memtables_are_flushed_in_order_when_they_have_grown_and_overwriting_makes_them_grow_slowly() {
        let mut state = State::new();
        let long = "v".repeat(1000 - ENTRY_BYTES - 3);
        let overwritten = (1..=50).filter(|index| state.write(*index, &[("abc", Some(&long))]));
        assert_eq!(overwritten.collect::<Vec<_>>(), [21, 42], "one record of 1,000 bytes, again and again");
        state.flush();
        state.flush();
        let sealed: Vec<u64> =
            (101..=122).filter(|index| state.write(*index, &[(&index.to_string(), Some(&long))])).collect();
        assert_eq!(sealed, [110, 121], "eleven records of 1,000 bytes each, one of them from before");
        for last in sealed {
            assert_eq!(state.memtables.oldest_sealed().expect("it waits").last(), Index(last));
            state.flush();
        }
        assert!(state.memtables.oldest_sealed().is_none());
        assert_eq!(state.newest("", "z"), format!("122={long}"), "the others are in the tree");
        assert!(state.memtables.seal());
        assert!(!state.memtables.seal(), "no batch came since");
    }
}
