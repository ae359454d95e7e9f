//! The newest records, in memory: what is not in the tree yet, and in front of the tree what was lately read or written.
//!
//! One hash table is both, so that a write finds its key's place once, and a read in one step what memtables, filters, indexes and
//! data blocks would tell. (A log-structured store has a memtable and a row cache for that, as RocksDB does; they would hold most
//! records twice.) The order of keys, which flushes and scans need, is the memtables' (module `memtable`).

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    hint::black_box,
    mem,
    sync::{
        RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hashbrown::{HashTable, hash_table::Entry as Place};
use lsm_tree::Slice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Parts of the table with a lock each: one that grows keeps readers of the others not waiting.
const SHARDS: usize = 32;

/// A longer record that was read is left to the tree and its cache of blocks. Heads of values that are not in chunks, and chunks,
/// are shorter.
pub(super) const READ_BYTES_MAX: usize = 8 << 10;

/// What an entry takes beside the bytes of its key and record, about: a place in a table that is half full, and an allocation.
pub(super) const ENTRY_BYTES: usize = 128;

/// How many records of a batch are written under one lock, at most.
const AT_ONCE_MAX: usize = 64;

/// How many places a write looks at for what may be forgotten, at most. If it finds too little, the next one goes on.
const LOOKS_MAX: usize = 64;

/// A key and its record; `None`: the key is gone, whatever is below.
pub(super) type Pair = (Slice, Option<Bytes>);

/// The number of a memtable, from 1 on; 0 stands for the tree as it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Epoch(pub(super) u32);

/// The newest records, as far as they are known: `None` for a key that has none.
///
/// - What is here is what a reader of the latest batch gets, and while a batch is being written, of that one: of two keys one may be
///   ahead. So what must be of one moment is for the store's writer only.
/// - All that no flush has brought into the tree is here. What is in the tree is forgotten when room is needed, if nobody asked for it
///   since it was last looked at (the second chance of CLOCK).
/// - Only the writer adds keys: it knows that no batch comes between its look into the tree and the addition.
/// - Records are allocations of their own: none holds on to a block or a message that it came in.
pub(super) struct Records {
    shards: [RwLock<Shard>; SHARDS],
    /// Of what is in the tree.
    bytes_max: usize,
    /// What is not in the tree takes so many bytes beside it.
    unflushed: AtomicUsize,
    /// The last memtable that is in the tree.
    flushed: AtomicU32,
    /// So that nobody can foretell which keys collide.
    seed: u64,
}

#[derive(Default)]
struct Shard {
    table: HashTable<Entry>,
    /// What the entries take, about.
    bytes: usize,
    /// Where it last looked for what may be forgotten.
    hand: usize,
}

/// What a shard may keep.
#[derive(Clone, Copy)]
struct Bounds {
    /// In all.
    bytes_max: usize,
    /// What later memtables wrote must stay.
    flushed: Epoch,
}

struct Entry {
    key: Slice,
    record: Option<Bytes>,
    /// The memtable that the record was written to.
    epoch: Epoch,
    /// Whether somebody has asked for it since the hand was here.
    wanted: AtomicBool,
}

impl Records {
    /// Keeps about so many bytes beside what is not in the tree.
    pub(super) fn new(bytes_max: u64) -> Records {
        Records::with_seed(bytes_max, RandomState::new().hash_one(0))
    }

    fn with_seed(bytes_max: u64, seed: u64) -> Records {
        Records {
            shards: Default::default(),
            bytes_max: bytes_max as usize,
            unflushed: AtomicUsize::new(0),
            flushed: AtomicU32::new(0),
            seed,
        }
    }

    /// What is known of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.find(key, |entry| {
            if !entry.wanted.load(Ordering::Relaxed) {
                entry.wanted.store(true, Ordering::Relaxed);
            }
            entry.record.clone()
        })
    }

    /// The same, but nobody asks for it.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.find(key, |entry| entry.record.clone())
    }

    /// What a memtable has for a key, if no later one has anything.
    pub(super) fn get_of(&self, key: &[u8], epoch: Epoch) -> Option<Option<Bytes>> {
        self.find(key, |entry| (entry.epoch == epoch).then(|| entry.record.clone())).flatten()
    }

    fn find<T>(&self, key: &[u8], look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let hash = self.hash(key);
        let shard = self.read(hash);
        shard.table.find(hash, |entry| *entry.key == *key).map(look)
    }

    /// A batch that is being written to a memtable has these records. `done` is told of each key, the length of its record, and the
    /// memtable and record that it takes the place of, before anybody can miss that.
    pub(super) fn put(
        &self,
        epoch: Epoch,
        batch: impl Iterator<Item = Pair>,
        mut done: impl FnMut(Slice, usize, Option<(Epoch, Option<Bytes>)>),
    ) {
        let mut entries: Vec<_> =
            batch.map(|(key, record)| (self.hash(&key), Entry::new(key, record, epoch))).collect();
        entries.sort_unstable_by_key(|(hash, _)| shard_of(*hash));
        while let Some((hash, _)) = entries.last() {
            let first = entries.partition_point(|(other, _)| shard_of(*other) < shard_of(*hash));
            let first = first.max(entries.len().saturating_sub(AT_ONCE_MAX));
            let mut shard = self.write(*hash);
            shard.touch(&entries[first..]);
            for (hash, entry) in entries.drain(first..) {
                let (key, len) = (entry.key.clone(), len(entry.record.as_ref()));
                done(key, len, shard.insert(hash, entry, self.seed));
                shard.forget(LOOKS_MAX, self.bounds());
            }
        }
    }

    /// The tree has this for a key of which nothing was known.
    pub(super) fn learn(&self, key: &[u8], record: Option<Bytes>) {
        if len(record.as_ref()) <= READ_BYTES_MAX {
            let hash = self.hash(key);
            let mut shard = self.write(hash);
            shard.insert(hash, Entry::new(key.into(), record, Epoch(0)), self.seed);
            shard.forget(LOOKS_MAX, self.bounds());
        }
    }

    /// A memtable and all before it are in the tree.
    pub(super) fn set_flushed(&self, epoch: Epoch) {
        self.flushed.store(epoch.0, Ordering::Release);
    }

    /// What takes so many bytes is not.
    pub(super) fn set_unflushed(&self, bytes: u64) {
        self.unflushed.store(bytes as usize, Ordering::Relaxed);
    }

    /// Forgets what there is no room for since a flush; by a thread that may take its time.
    pub(super) fn make_room(&self) {
        for shard in &self.shards {
            // Around twice, if need be: everybody has a second chance.
            let steps = 1 + 2 * lock(shard).table.num_buckets() / LOOKS_MAX;
            for _ in 0..steps {
                if !lock(shard).forget(LOOKS_MAX, self.bounds()) {
                    break;
                }
            }
            lock(shard).shrink(self.seed);
        }
    }

    /// Forgets all that is in the tree.
    pub(super) fn forget_flushed(&self) {
        let Bounds { flushed, .. } = self.bounds();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.table.retain(|entry| entry.epoch > flushed);
            shard.bytes = shard.table.iter().map(Entry::bytes).sum();
            shard.shrink(self.seed);
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            bytes_max: (self.bytes_max + self.unflushed.load(Ordering::Relaxed)) / SHARDS,
            flushed: Epoch(self.flushed.load(Ordering::Acquire)),
        }
    }

    fn hash(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard_of(hash)].read().expect("no panic holds this lock")
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, Shard> {
        lock(&self.shards[shard_of(hash)])
    }
}

fn lock(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().expect("no panic holds this lock")
}

impl Shard {
    /// Has the processor bring the places of these keys into its cache, with what they hold: of several at a time, while an insertion
    /// waits for its own.
    fn touch(&self, entries: &[(u64, Entry)]) {
        for (hash, entry) in entries {
            let present = self.table.find(*hash, |present| present.key == entry.key);
            black_box(present.and_then(|present| present.record.as_ref()?.first()));
        }
    }

    /// What it takes the place of.
    fn insert(&mut self, hash: u64, entry: Entry, seed: u64) -> Option<(Epoch, Option<Bytes>)> {
        self.bytes += entry.bytes();
        let place = self.table.entry(
            hash,
            |present| present.key == entry.key,
            |present| xxh3_64_with_seed(&present.key, seed),
        );
        match place {
            Place::Vacant(place) => {
                place.insert(entry);
                None
            }
            Place::Occupied(mut place) => {
                let present = place.get_mut();
                self.bytes -= present.bytes();
                let record = mem::replace(&mut present.record, entry.record);
                Some((mem::replace(&mut present.epoch, entry.epoch), record))
            }
        }
    }

    /// Looks at so many places for entries that are in the tree, and forgets them until no more bytes are left than there may be.
    /// False: so it is.
    fn forget(&mut self, looks: usize, Bounds { bytes_max, flushed }: Bounds) -> bool {
        for _ in 0..looks {
            if self.bytes <= bytes_max {
                return false;
            }
            self.hand = (self.hand + 1) % self.table.num_buckets();
            let Ok(mut place) = self.table.get_bucket_entry(self.hand) else { continue };
            if place.get().epoch <= flushed && !mem::take(place.get_mut().wanted.get_mut()) {
                let (entry, _) = place.remove();
                self.bytes -= entry.bytes();
            }
        }
        self.bytes > bytes_max
    }

    /// Gives back the room of a table that is nearly empty.
    fn shrink(&mut self, seed: u64) {
        if self.table.len() < self.table.capacity() / 4 {
            self.table.shrink_to(2 * self.table.len(), |entry| xxh3_64_with_seed(&entry.key, seed));
        }
    }
}

impl Entry {
    fn new(key: Slice, record: Option<Bytes>, epoch: Epoch) -> Entry {
        Entry { key, record, epoch, wanted: AtomicBool::new(false) }
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.key.len() + len(self.record.as_ref())
    }
}

/// Of bits that the table within a shard does not use.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// Of a record, in bytes.
pub(super) fn len(record: Option<&Bytes>) -> usize {
    record.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 1 << 20;

    fn known(records: &Records, key: &str) -> Option<Option<Bytes>> {
        records.get(key.as_bytes())
    }

    fn put(records: &Records, key: &str, record: Option<&'static str>, epoch: u32) {
        let batch = [(Slice::from(key), record.map(Bytes::from))];
        records.put(Epoch(epoch), batch.into_iter(), |_, _, _| {});
    }

    fn fill(records: &Records, numbers: std::ops::Range<u32>, epoch: u32) {
        let batch = numbers.map(|number| (Slice::from(number.to_be_bytes()), Some(vec![0; 500].into())));
        records.put(Epoch(epoch), batch, |_, _, _| {});
    }

    fn count(records: &Records, numbers: std::ops::Range<u32>) -> usize {
        numbers.filter(|number| records.get_of(&number.to_be_bytes(), Epoch(1)).is_some()).count()
    }

    fn bytes(records: &Records) -> usize {
        records.shards.iter().map(|shard| shard.read().unwrap().bytes).sum()
    }

    #[test]
    fn what_was_read_is_known_and_follows_what_is_written() {
        let records = Records::with_seed(BYTES_MAX, 1);
        assert_eq!(known(&records, "k"), None);
        records.learn(b"k", Some("old".into()));
        assert_eq!(known(&records, "k"), Some(Some("old".into())));
        put(&records, "k", Some("new"), 1);
        assert_eq!(known(&records, "k"), Some(Some("new".into())));
        put(&records, "k", None, 1);
        assert_eq!(known(&records, "k"), Some(None), "it is known to be gone");
    }

    #[test]
    fn a_write_says_what_it_takes_the_place_of() {
        let records = Records::with_seed(BYTES_MAX, 1);
        put(&records, "a", Some("old"), 3);
        let batch = [("a".into(), Some("newer".into())), ("b".into(), None)];
        let mut told = Vec::new();
        records.put(Epoch(5), batch.into_iter(), |key, len, replaced| told.push((key, len, replaced)));
        told.sort();
        let old = Some((Epoch(3), Some("old".into())));
        assert_eq!(told, [("a".into(), 5, old), ("b".into(), 0, None)]);
        assert_eq!(records.get_of(b"a", Epoch(3)), None);
        assert_eq!(records.get_of(b"a", Epoch(5)), Some(Some("newer".into())));
    }

    #[test]
    fn a_long_record_that_was_read_is_left_to_the_tree() {
        let records = Records::with_seed(BYTES_MAX, 1);
        records.learn(b"k", Some(vec![0; READ_BYTES_MAX + 1].into()));
        assert_eq!(known(&records, "k"), None);
    }

    #[test]
    fn memory_is_bounded_whatever_is_read() {
        let records = Records::with_seed(BYTES_MAX, 1);
        for number in 0..20_000_u32 {
            records.learn(&number.to_be_bytes(), Some(vec![0; 500].into()));
        }
        assert!(bytes(&records) as u64 <= BYTES_MAX, "{} bytes", bytes(&records));
        assert!(bytes(&records) as u64 > BYTES_MAX / 2, "{} bytes", bytes(&records));
    }

    #[test]
    fn what_no_flush_has_brought_into_the_tree_is_never_forgotten() {
        let records = Records::with_seed(BYTES_MAX, 1);
        fill(&records, 0..5000, 1);
        assert_eq!(count(&records, 0..5000), 5000, "more than there is room for");
        records.set_flushed(Epoch(1));
        fill(&records, 5000..7000, 2);
        assert!(count(&records, 0..5000) < 100, "they made room for what is to be flushed");
        assert!((5000..7000_u32).all(|number| records.get(&number.to_be_bytes()).is_some()));
    }

    #[test]
    fn what_waits_for_its_flush_takes_no_room_from_what_is_in_the_tree() {
        let records = Records::with_seed(BYTES_MAX, 1);
        fill(&records, 0..1000, 1);
        records.set_flushed(Epoch(1));
        records.set_unflushed(4 * BYTES_MAX);
        fill(&records, 1000..6000, 2);
        assert_eq!(count(&records, 0..1000), 1000);
    }

    #[test]
    fn after_a_flush_what_there_is_no_room_for_goes_and_so_does_the_table() {
        let records = Records::with_seed(BYTES_MAX, 1);
        let capacity = || records.shards.iter().map(|shard| lock(shard).table.capacity()).sum::<usize>();
        records.set_unflushed(16 * BYTES_MAX);
        fill(&records, 0..20_000, 1);
        let full = capacity();
        for number in 0..20_000_u32 {
            records.get(&number.to_be_bytes());
        }
        records.set_flushed(Epoch(1));
        records.set_unflushed(0);
        records.make_room();
        assert!(bytes(&records) as u64 <= BYTES_MAX, "{} bytes", bytes(&records));
        assert!(bytes(&records) as u64 > BYTES_MAX / 2, "{} bytes", bytes(&records));
        assert!(capacity() < full / 4, "{} places of {full}", capacity());
    }

    #[test]
    fn nobody_can_look_while_a_write_says_what_it_takes_the_place_of() {
        let records = Records::with_seed(BYTES_MAX, 1);
        let shard = &records.shards[shard_of(records.hash(b"k"))];
        let batch = [("k".into(), None)];
        records.put(Epoch(1), batch.into_iter(), |_, _, _| assert!(shard.try_read().is_err()));
        assert!(shard.try_read().is_ok());
    }

    #[test]
    fn what_is_in_the_tree_can_be_forgotten_at_once() {
        let records = Records::with_seed(BYTES_MAX, 1);
        records.learn(b"read", None);
        put(&records, "flushed", Some("record"), 1);
        put(&records, "unflushed", Some("record"), 2);
        records.set_flushed(Epoch(1));
        records.forget_flushed();
        assert_eq!([known(&records, "read"), known(&records, "flushed")], [None, None]);
        assert_eq!(known(&records, "unflushed"), Some(Some("record".into())));
        assert_eq!(bytes(&records), ENTRY_BYTES + "unflushed".len() + "record".len());
    }

    #[test]
    fn what_somebody_asks_for_outlives_what_was_read_once() {
        let records = Records::with_seed(BYTES_MAX, 1);
        let learn = |numbers: std::ops::Range<u32>| {
            for number in numbers {
                records.learn(&number.to_be_bytes(), Some(vec![0; 500].into()));
            }
        };
        let ask = || (0..400_u32).filter(|number| records.get(&number.to_be_bytes()).is_some()).count();
        learn(0..400);
        for round in 1..20 {
            let known = ask();
            assert!(known > 390, "{known} of 400 in round {round}");
            learn(round * 1000..round * 1000 + 500);
        }
    }
}
