//! The newest records, in memory: what is not in the tree yet, and in front of the tree what was lately read or written.
//!
//! One hash table is both, so that a write finds its key's place once, and a read in one step what memtables, filters, indexes and
//! data blocks would tell. (A log-structured store has a memtable and a row cache for that, as RocksDB does; they would hold most
//! records twice.) The order of keys, which flushes and scans need, is the memtables' (module `memtable`).

mod shard;

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use lsm_tree::Slice;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::shard::{AT_ONCE_MAX, Bounds, Entry, Shard, Write, len};
pub(super) use self::shard::{ENTRY_BYTES, Replaced};

/// Parts of the table with a lock each: one that grows keeps readers of the others not waiting. Few, so that a batch has several keys in
/// each, whose places are brought into the processor's cache together.
const SHARDS: usize = 8;

/// How many places a write looks at for what may be forgotten, at most. If it finds too little, the next one goes on.
const LOOKS_MAX: usize = 64;

/// A record in memory: one allocation, which holds on to no block or message that it came in. Its count of references lies before its
/// bytes, so that who looks whether it has others waits for memory once.
pub(super) type Record = Arc<[u8]>;

/// A key and its record; `None`: the key is gone, whatever is below.
pub(super) type Pair = (Slice, Option<Record>);

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
/// - A record that nobody has, and that no flush is to write, is overwritten where it is, if the new one is as long.
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
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Record>> {
        self.find(key, |entry| {
            if !entry.wanted.load(Ordering::Relaxed) {
                entry.wanted.store(true, Ordering::Relaxed);
            }
            entry.record.clone()
        })
    }

    /// The same, but nobody asks for it.
    pub(super) fn peek(&self, key: &[u8]) -> Option<Option<Record>> {
        self.find(key, |entry| entry.record.clone())
    }

    /// What a memtable has for a key, if no later one has anything.
    pub(super) fn get_of(&self, key: &[u8], epoch: Epoch) -> Option<Option<Record>> {
        self.find(key, |entry| (entry.epoch == epoch).then(|| entry.record.clone())).flatten()
    }

    fn find<T>(&self, key: &[u8], look: impl FnOnce(&Entry) -> T) -> Option<T> {
        let hash = self.hash(key);
        self.read(hash).find(hash, key).map(look)
    }

    /// A batch that is being written to a memtable has these records. They are copied: they may be parts of messages. `done` is told of
    /// each key, the length of its record, and what it takes the place of, before anybody can miss that.
    pub(super) fn put(
        &self,
        epoch: Epoch,
        batch: impl Iterator<Item = (Slice, Option<Bytes>)>,
        mut done: impl FnMut(Slice, usize, Replaced),
    ) {
        let mut writes: Vec<_> =
            batch.map(|(key, record)| Write { hash: self.hash(&key), key, record }).collect();
        writes.sort_unstable_by_key(|write| shard_of(write.hash));
        while let Some(Write { hash, .. }) = writes.last() {
            let first = writes.partition_point(|write| shard_of(write.hash) < shard_of(*hash));
            let first = first.max(writes.len().saturating_sub(AT_ONCE_MAX));
            let mut shard = self.lock(*hash);
            shard.touch(&writes[first..]);
            for write in writes.drain(first..) {
                let (key, len) = (write.key.clone(), len(write.record.as_deref()));
                done(key, len, shard.write(write, epoch, self.bounds().flushed, self.seed));
                shard.forget(LOOKS_MAX, self.bounds());
            }
        }
    }

    /// The tree has this for a key of which nothing was known.
    pub(super) fn learn(&self, key: &[u8], record: Option<Record>) {
        let hash = self.hash(key);
        let mut shard = self.lock(hash);
        shard.learn(hash, key, record, self.seed);
        shard.forget(LOOKS_MAX, self.bounds());
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
            let steps = 1 + 2 * lock(shard).places() / LOOKS_MAX;
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
            shard.forget_flushed(flushed);
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

    fn lock(&self, hash: u64) -> RwLockWriteGuard<'_, Shard> {
        lock(&self.shards[shard_of(hash)])
    }
}

fn lock(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().expect("no panic holds this lock")
}

/// Of bits that the table within a shard does not use.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: u64 = 1 << 20;

    fn known(records: &Records, key: &str) -> Option<Option<Record>> {
        records.get(key.as_bytes())
    }

    fn record(text: &str) -> Option<Record> {
        Some(text.as_bytes().into())
    }

    fn put(records: &Records, key: &str, record: Option<&'static str>, epoch: u32) {
        let batch = [(Slice::from(key), record.map(Bytes::from))];
        records.put(Epoch(epoch), batch.into_iter(), |_, _, _| {});
    }

    /// Where a key's record is. Whoever asks has it no more.
    fn place(records: &Records, key: &str) -> *const u8 {
        known(records, key).expect("known").expect("a record").as_ptr()
    }

    fn fill(records: &Records, numbers: std::ops::Range<u32>, epoch: u32) {
        let batch = numbers.map(|number| (Slice::from(number.to_be_bytes()), Some(vec![0; 500].into())));
        records.put(Epoch(epoch), batch, |_, _, _| {});
    }

    fn count(records: &Records, numbers: std::ops::Range<u32>) -> usize {
        numbers.filter(|number| records.get_of(&number.to_be_bytes(), Epoch(1)).is_some()).count()
    }

    fn bytes(records: &Records) -> usize {
        records.shards.iter().map(|shard| shard.read().unwrap().bytes()).sum()
    }

    #[test]
    fn what_was_read_is_known_and_follows_what_is_written() {
        let records = Records::with_seed(BYTES_MAX, 1);
        assert_eq!(known(&records, "k"), None);
        records.learn(b"k", record("old"));
        assert_eq!(known(&records, "k"), Some(record("old")));
        put(&records, "k", Some("new"), 1);
        assert_eq!(known(&records, "k"), Some(record("new")));
        put(&records, "k", None, 1);
        assert_eq!(known(&records, "k"), Some(None), "it is known to be gone");
    }

    #[test]
    fn a_write_says_what_it_takes_the_place_of() {
        let records = Records::with_seed(BYTES_MAX, 1);
        put(&records, "flushed", Some("old"), 2);
        records.set_flushed(Epoch(2));
        put(&records, "sealed", Some("old"), 3);
        put(&records, "sealed and gone", None, 4);
        put(&records, "own", Some("old"), 5);
        let keys = ["flushed", "new", "own", "sealed", "sealed and gone"];
        let batch = keys.map(|key| (key.into(), Some("newer".into())));
        let mut told = Vec::new();
        records.put(Epoch(5), batch.into_iter(), |key, len, replaced| told.push((key, len, replaced)));
        told.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let replaced = [
            Replaced::Flushed,
            Replaced::Flushed,
            Replaced::Own(3),
            Replaced::Sealed(Epoch(3), record("old")),
            Replaced::Sealed(Epoch(4), None),
        ];
        let expected: Vec<_> =
            keys.into_iter().zip(replaced).map(|(key, replaced)| (key.into(), 5, replaced)).collect();
        assert_eq!(told, expected);
        assert_eq!(records.get_of(b"sealed", Epoch(3)), None);
        assert_eq!(records.get_of(b"sealed", Epoch(5)), Some(record("newer")));
        assert_eq!(bytes(&records), keys.map(|key| ENTRY_BYTES + key.len() + 5).iter().sum::<usize>());
    }

    #[test]
    fn a_record_is_overwritten_where_it_is_but_not_one_that_a_flush_or_a_reader_needs_nor_by_a_longer_one() {
        let records = Records::with_seed(BYTES_MAX, 1);
        put(&records, "k", Some("own"), 1);
        let before = place(&records, "k");
        put(&records, "k", Some("new"), 1);
        assert_eq!((known(&records, "k"), place(&records, "k")), (Some(record("new")), before));
        records.set_flushed(Epoch(1));
        put(&records, "k", Some("abc"), 2);
        assert_eq!(
            (known(&records, "k"), place(&records, "k")),
            (Some(record("abc")), before),
            "it is in the tree"
        );

        let mut sealed = None;
        let batch = [("k".into(), Some("def".into()))];
        records.put(Epoch(3), batch.into_iter(), |_, _, replaced| sealed = Some(replaced));
        assert_eq!(sealed, Some(Replaced::Sealed(Epoch(2), record("abc"))));
        assert_eq!(known(&records, "k"), Some(record("def")));

        let read = known(&records, "k");
        put(&records, "k", Some("ghi"), 3);
        assert_eq!((read, known(&records, "k")), (Some(record("def")), Some(record("ghi"))));
        put(&records, "k", Some("longer"), 3);
        assert_eq!(known(&records, "k"), Some(record("longer")));
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
        let capacity = || records.shards.iter().map(|shard| lock(shard).capacity()).sum::<usize>();
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
        assert_eq!(known(&records, "unflushed"), Some(record("record")));
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
