//! One tree of a group's state, with the rules that make it a store for applied entries.
//!
//! - A batch goes to a memtable; a flush makes a memtable, whole batches that is, a run of tables of the tree's first level.
//! - A batch's **sequence number** is its log index shifted by [`GAP_BITS`]. What is flushed has the number of the memtable's last
//!   batch. The tree itself takes numbers, one for each flush and compaction; they lie in the gap after the last batch, so that
//!   readers at the *next* batch's number see exactly the batches so far.
//! - Every flush writes the store's own record, [`POSITION_KEY`]: after a restart it says which batch was the last one flushed.
//!   (The tree's highest number can fall when a last tombstone is compacted away.)
//! - A view seals the memtable that is written, holds all of its moment, and reads the tree at its number: it makes no difference to
//!   it whether a memtable has been flushed. What no open view can see any more is garbage: a registry of views under one mutex
//!   gives flushes and compactions the threshold.

mod reads;

use std::{
    collections::BTreeMap,
    fs, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lsm_tree::{
    AbstractTree, AnyTree, Config, InternalValue, SeqNo, SequenceNumberCounter, Slice, ValueType,
};
use pontoon_kv::{GroupId, Index, StoreError};

use crate::state::{
    Notice, Notify, OpenError, Resources, current,
    keys::{self, POSITION_KEY, is_key},
    memtable::{Frozen, Memtables, Sealed},
    records::Records,
};

/// The tree takes fewer than 2^20 numbers between two batches; 2^43 indexes remain.
const GAP_BITS: u32 = 20;

/// Back-pressure: the writer waits while this many memtables wait for the flush,
const SEALED_MEMTABLES_MAX: usize = 4;
/// or this many runs of tables for their compaction.
const LEVEL0_RUNS_MAX: usize = 20;
/// So many flushed memtables are compacted into the next level together. (The tree's default is 4. Keys that are written often are
/// written to disk less often with more, and reads have more filters to ask.)
const LEVEL0_TABLES: u8 = 8;
/// A table's size, about. Times [`LEVEL0_TABLES`] it is the size of the first level, all of which a compaction may have to read: 256 MiB.
const TABLE_BYTES: u64 = 32 << 20;
/// How often a waiting writer looks by itself.
const ROOM_POLL: Duration = Duration::from_millis(20);

/// The sequence number of a batch.
fn seqno_of(index: Index) -> SeqNo {
    assert!(index.0 < 1 << (63 - GAP_BITS), "log index {index} is beyond what sequence numbers can hold");
    index.0 << GAP_BITS
}

/// What a reader reads at to see all batches up to this one.
fn read_seqno(index: Index) -> SeqNo {
    seqno_of(Index(index.0 + 1))
}

/// A generation: an open tree in a folder of its own.
pub(super) struct Generation {
    tree: AnyTree,
    pub(super) records: Records,
    /// Shared with the tree, which takes a number for each flush and compaction.
    seqno: SequenceNumberCounter,
    path: PathBuf,
    group: GroupId,
    memtable_bytes: u64,
    notify: Notify,
    applied: AtomicU64,
    durable: AtomicU64,
    memtables: Mutex<Memtables>,
    /// Of the tree's first level, and of all levels, as the workers saw them last. (To ask the tree may mean to wait for a disk: it
    /// holds its lock while it syncs what a flush or a compaction wrote.)
    level0_runs: AtomicUsize,
    disk_bytes: AtomicU64,
    /// How many views read at a number.
    views: Mutex<BTreeMap<SeqNo, usize>>,
    /// What views held. A worker frees it: that takes long, and a view may be dropped where nothing may wait.
    grave: Mutex<Vec<Frozen>>,
    failure: Mutex<Option<StoreError>>,
    signals: Mutex<Signals>,
    /// Wakes the workers.
    work: Condvar,
    /// Wakes a writer that was held back; with `memtables`.
    room: Condvar,
    /// Its folder goes with the last reference.
    obsolete: AtomicBool,
}

/// The state as it was at some batch.
pub(super) struct Moment {
    memtables: Frozen,
    /// What to read the tree at.
    seqno: SeqNo,
}

/// What the workers are to do.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) flush: bool,
    /// Say which batch is durable even if that is not news.
    pub(super) announce: bool,
    pub(super) compact: bool,
    pub(super) stop: bool,
}

impl Generation {
    /// Opens the tree in a generation's folder.
    pub(super) fn open(
        path: PathBuf,
        group: GroupId,
        resources: &Resources,
        notify: Notify,
    ) -> Result<Generation, OpenError> {
        current::check_manifest(&path)?;
        let damaged = |reason: String| OpenError::Damaged { path: path.clone(), reason };
        let seqno = SequenceNumberCounter::default();
        let tree = open_tree(&path, &seqno, resources).map_err(damaged)?;
        let highest = tree.get_highest_persisted_seqno();
        let position = match highest {
            None => None,
            Some(highest) => {
                tree.get(POSITION_KEY, highest + 1).map_err(|error| damaged(error.to_string()))?
            }
        };
        let applied = match (position, highest) {
            (Some(position), _) => keys::decode_position(group, &position).map_err(damaged)?,
            (None, None) => Index(0),
            (None, Some(_)) => return Err(damaged("it does not say up to where it goes".to_owned())),
        };
        if highest.is_some_and(|highest| highest >= read_seqno(applied)) {
            return Err(damaged(format!("it says that it ends at entry {applied}, and holds later ones")));
        }
        seqno.set(seqno_of(applied) + 1);
        Ok(Generation {
            level0_runs: tree.l0_run_count().into(),
            disk_bytes: tree.disk_space().into(),
            tree,
            records: Records::new(resources.records_bytes),
            seqno,
            path,
            group,
            memtable_bytes: resources.memtable_bytes,
            notify,
            applied: applied.0.into(),
            durable: applied.0.into(),
            memtables: Mutex::new(Memtables::new(applied)),
            views: Mutex::default(),
            grave: Mutex::default(),
            failure: Mutex::default(),
            signals: Mutex::new(Signals { compact: true, ..Signals::default() }),
            work: Condvar::new(),
            room: Condvar::new(),
            obsolete: AtomicBool::new(false),
        })
    }

    /// The last batch.
    pub(super) fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Acquire))
    }

    /// The last batch that is wholly in tables, with all before it.
    pub(super) fn durable(&self) -> Index {
        Index(self.durable.load(Ordering::Acquire))
    }

    /// Bytes of its tables.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Writes a batch of keys with their new values (`None`: gone). By one thread only.
    pub(super) fn write(
        &self,
        index: Index,
        batch: impl Iterator<Item = (Slice, Option<Bytes>)>,
    ) -> Result<(), StoreError> {
        self.wait_for_room()?;
        let applied = self.applied();
        assert!(index > applied, "batch {index} comes after batch {applied}");
        assert!(
            self.seqno.get() < read_seqno(applied),
            "the tree has taken 2^20 numbers since batch {applied}"
        );
        let batch = batch.inspect(|(key, _)| {
            assert!(is_key(key), "a key has 1 to 65535 bytes and does not begin with {POSITION_KEY:?}");
        });
        let mut memtables = lock(&self.memtables);
        let sealed = memtables.write(&self.records, index, batch, self.memtable_bytes);
        // What the tree installs from now on sorts after this batch.
        self.seqno.set(seqno_of(index) + 1);
        self.applied.store(index.0, Ordering::Release);
        drop(memtables);
        if sealed {
            self.signal(|signals| signals.flush = true);
        }
        Ok(())
    }

    /// Has everything that is applied by now made durable in the background, and announced in any case.
    pub(super) fn request_flush(&self) {
        lock(&self.memtables).seal();
        self.signal(|signals| (signals.flush, signals.announce) = (true, true));
    }

    /// Registers a view of all batches so far; to be given back. For the writer.
    pub(super) fn register_view(&self) -> Moment {
        let mut memtables = lock(&self.memtables);
        let sealed = memtables.seal();
        let now = Moment { memtables: memtables.frozen(), seqno: self.latest() };
        drop(memtables);
        *lock(&self.views).entry(now.seqno).or_insert(0) += 1;
        if sealed {
            self.signal(|signals| signals.flush = true);
        }
        now
    }

    /// Gives a view back.
    pub(super) fn release_view(&self, view: &mut Moment) {
        let mut views = lock(&self.views);
        let count = views.get_mut(&view.seqno).expect("an open view is registered");
        *count -= 1;
        if *count == 0 {
            views.remove(&view.seqno);
        }
        drop(views);
        lock(&self.grave).push(mem::take(&mut view.memtables));
        self.signal(|signals| signals.compact = true);
    }

    /// Frees what views held.
    pub(super) fn bury(&self) {
        let dead = mem::take(&mut *lock(&self.grave));
        drop(dead);
    }

    /// Flushes the oldest memtable that waits for it. True if there was one.
    pub(super) fn flush_oldest(&self) -> lsm_tree::Result<bool> {
        let Some(memtable) = lock(&self.memtables).oldest_sealed() else { return Ok(false) };
        let flushed = self.tree.flush_to_tables(self.records_of(&memtable))?;
        let (tables, blobs) = flushed.expect("there is a record: the position");
        self.tree.register_tables(&tables, blobs.as_deref(), None, &[], self.garbage_threshold())?;
        lock(&self.memtables).forget_oldest(&self.records);
        self.durable.store(memtable.last().0, Ordering::Release);
        self.look_at_tree();
        self.announce_durable();
        self.records.make_room();
        Ok(true)
    }

    /// Says which batch is durable.
    pub(super) fn announce_durable(&self) {
        (self.notify)(Notice::Durable(self.durable()));
    }

    /// What a flush writes.
    fn records_of(&self, memtable: &Sealed) -> impl Iterator<Item = lsm_tree::Result<InternalValue>> {
        let seqno = seqno_of(memtable.last());
        let position = Slice::from(keys::encode_position(self.group, memtable.last()));
        let pairs = memtable.pairs(&self.records).iter();
        let records = pairs.map(|(key, record)| (key.clone(), record.as_deref().map(Slice::from)));
        let records = records.chain([(Slice::from(POSITION_KEY), Some(position))]);
        records.map(move |(key, record)| {
            Ok(match record {
                Some(value) => InternalValue::from_components(key, value, seqno, ValueType::Value),
                None => InternalValue::new_tombstone(key, seqno),
            })
        })
    }

    /// Compacts until there is nothing to compact, or the store stops. (The tree does not say if it did: its version tells.)
    pub(super) fn compact(&self) -> lsm_tree::Result<()> {
        let leveled = lsm_tree::compaction::Leveled::default();
        let strategy = Arc::new(leveled.with_l0_threshold(LEVEL0_TABLES).with_table_target_size(TABLE_BYTES));
        while !self.is_stopping() {
            let before = self.tree.current_version().id();
            self.tree.compact(strategy.clone(), self.garbage_threshold())?;
            if self.tree.current_version().id() == before {
                break;
            }
            self.look_at_tree();
        }
        Ok(())
    }

    /// Lets go of versions of the tree, and of their files, that no view needs. Without it they stay until the next flush.
    pub(super) fn forget_old_versions(&self) -> lsm_tree::Result<()> {
        self.tree.get_version_history_lock().maintenance(&self.path, self.garbage_threshold())
    }

    /// Whether there is something to forget.
    pub(super) fn has_old_versions(&self) -> bool {
        self.tree.version_free_list_len() > 0
    }

    /// The store failed: nothing is written from now on, and the server is told once.
    pub(super) fn fail(&self, reason: &str) {
        let error = StoreError(format!("{}: {reason}", self.path.display()));
        let first = lock(&self.failure).replace(error.clone()).is_none();
        if first {
            (self.notify)(Notice::Failed(error));
        }
        self.make_room();
    }

    /// Why nothing is written any more.
    pub(super) fn failure(&self) -> Option<StoreError> {
        lock(&self.failure).clone()
    }

    /// A snapshot has replaced it: it accepts nothing any more, and its folder is removed when its last view is gone.
    pub(super) fn retire(&self) {
        *lock(&self.failure) = Some(StoreError("a snapshot has replaced this state".to_owned()));
        self.obsolete.store(true, Ordering::Release);
        self.records.forget_flushed();
    }

    /// Whether the workers are to end.
    pub(super) fn is_stopping(&self) -> bool {
        lock(&self.signals).stop
    }

    /// Tells the workers something.
    pub(super) fn signal(&self, change: impl FnOnce(&mut Signals)) {
        change(&mut lock(&self.signals));
        self.work.notify_all();
    }

    /// Waits for a signal that `take` takes, or for `timeout`. What it took; none if the time is over.
    pub(super) fn wait_for_signal<T>(
        &self,
        timeout: Option<Duration>,
        take: impl Fn(&mut Signals) -> Option<T>,
    ) -> Option<T> {
        let mut signals = lock(&self.signals);
        loop {
            if let Some(taken) = take(&mut signals) {
                return Some(taken);
            }
            match timeout {
                None => signals = self.work.wait(signals).expect("no panic holds this lock"),
                Some(timeout) => {
                    let (woken, result) =
                        self.work.wait_timeout(signals, timeout).expect("no panic holds this lock");
                    signals = woken;
                    if result.timed_out() {
                        return take(&mut signals);
                    }
                }
            }
        }
    }

    /// What reads the tree at this sees all that is flushed by now.
    fn latest(&self) -> SeqNo {
        read_seqno(self.applied())
    }

    /// Below this number only the newest value of a key is needed, and of the tree's versions only the newest: what the oldest
    /// view reads at, or what one would that was made now. (A view whose tables are compacted away reads on from the version of
    /// the tree that it began with.)
    fn garbage_threshold(&self) -> SeqNo {
        let views = lock(&self.views);
        views.keys().next().copied().unwrap_or_else(|| self.latest())
    }

    fn wait_for_room(&self) -> Result<(), StoreError> {
        loop {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            let memtables = lock(&self.memtables);
            if memtables.sealed_count() < SEALED_MEMTABLES_MAX
                && self.level0_runs.load(Ordering::Relaxed) < LEVEL0_RUNS_MAX
            {
                return Ok(());
            }
            drop(self.room.wait_timeout(memtables, ROOM_POLL));
            // Of two workers that looked at once, the one that stored its number last may have looked first.
            self.level0_runs.store(self.tree.l0_run_count(), Ordering::Relaxed);
        }
    }

    /// To be done when the tree has changed: there may be room.
    fn look_at_tree(&self) {
        self.disk_bytes.store(self.tree.disk_space(), Ordering::Relaxed);
        self.level0_runs.store(self.tree.l0_run_count(), Ordering::Relaxed);
        self.make_room();
    }

    fn make_room(&self) {
        drop(lock(&self.memtables));
        self.room.notify_all();
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            // The next start tries again.
            tracing::warn!(folder = %self.path.display(), %error, "a replaced state could not be removed");
        }
    }
}

/// Opens the tree itself. Asserts within it count as damage.
pub(super) fn open_tree(
    path: &Path,
    seqno: &SequenceNumberCounter,
    resources: &Resources,
) -> Result<AnyTree, String> {
    let config = Config::new(path, seqno.clone(), SequenceNumberCounter::default())
        .use_cache(resources.cache.clone())
        .use_descriptor_table(Some(resources.files.clone()));
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(_panic) => Err("the tree cannot be opened".to_owned()),
    }
}

/// Sets the number that an ingestion takes: that of the batch which the snapshot stands for.
pub(super) fn number_for_ingestion(seqno: &SequenceNumberCounter, index: Index) {
    seqno.set(seqno_of(index));
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic holds this lock")
}
