//! One tree of a group's state, with the rules that make it a store for applied entries.
//!
//! - A batch's **sequence number** is its log index shifted by [`GAP_BITS`]. The tree itself takes numbers, one for each flush and
//!   compaction; they lie in the gap after the last batch, so that readers at the *next* batch's number see exactly the batches
//!   so far.
//! - A batch is written under the *turn*, and the memtable is rotated only under it: a memtable holds whole batches.
//! - Every batch writes the store's own record, [`POSITION_KEY`]: after a restart it says which batch was the last one flushed.
//!   (The tree's highest number can fall when a last tombstone is compacted away.)
//! - What no open view can see any more is garbage: a registry of views under one mutex gives flushes and compactions the
//!   threshold.

use std::{
    collections::BTreeMap,
    fs,
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lsm_tree::{AbstractTree, AnyTree, Config, Guard, Memtable, SeqNo, SequenceNumberCounter, Slice};
use pontoon_kv::{GroupId, Index, StoreError, layout::STORE_KEY_BYTES_MAX};

use crate::{
    AFTER_DAMAGE,
    state::{Notice, Notify, OpenError, Resources, current, recent::Recent},
};

/// The tree takes fewer than 2^20 numbers between two batches; 2^43 indexes remain.
const GAP_BITS: u32 = 20;

/// Where a generation says which batch is its last: `group u64, index u64`, little-endian. No key of the data begins with this
/// byte, so all of them sort before it.
pub(super) const POSITION_KEY: &[u8] = &[0xff];

/// The longest key that the tree can hold, in bytes.
const KEY_BYTES_MAX: usize = STORE_KEY_BYTES_MAX;
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize, "the tree stores a key's length in 16 bits");

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
    pub(super) recent: Recent,
    /// Shared with the tree, which takes a number for each flush and compaction.
    seqno: SequenceNumberCounter,
    path: PathBuf,
    group: GroupId,
    memtable_bytes: u64,
    notify: Notify,
    applied: AtomicU64,
    durable: AtomicU64,
    turn: Mutex<Turn>,
    /// How many views read at a number.
    views: Mutex<BTreeMap<SeqNo, usize>>,
    /// Rotated memtables. Their last reference must not be dropped under the tree's locks: freeing one takes long.
    grave: Mutex<Vec<Arc<Memtable>>>,
    failure: Mutex<Option<StoreError>>,
    signals: Mutex<Signals>,
    /// Wakes the workers.
    work: Condvar,
    /// Wakes a writer that was held back.
    room: Condvar,
    /// Its folder goes with the last reference.
    obsolete: AtomicBool,
}

/// Held while a batch is written or the memtable rotated.
struct Turn {
    /// All batches up to this one are in rotated memtables or in tables.
    sealed: Index,
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
            (Some(position), _) => decode_position(group, &position).map_err(damaged)?,
            (None, None) => Index(0),
            (None, Some(_)) => return Err(damaged("it does not say up to where it goes".to_owned())),
        };
        if highest.is_some_and(|highest| highest >= read_seqno(applied)) {
            return Err(damaged(format!("it says that it ends at entry {applied}, and holds later ones")));
        }
        seqno.set(seqno_of(applied) + 1);
        Ok(Generation {
            tree,
            recent: Recent::new(resources.recent_bytes),
            seqno,
            path,
            group,
            memtable_bytes: resources.memtable_bytes,
            notify,
            applied: applied.0.into(),
            durable: applied.0.into(),
            turn: Mutex::new(Turn { sealed: applied }),
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
        self.tree.disk_space()
    }

    /// Writes a batch of keys with their new values (`None`: gone). By one thread only.
    pub(super) fn write(
        &self,
        index: Index,
        batch: impl Iterator<Item = (Slice, Option<Slice>)>,
    ) -> Result<(), StoreError> {
        self.wait_for_room()?;
        let applied = self.applied();
        assert!(index > applied, "batch {index} comes after batch {applied}");
        let mut turn = lock(&self.turn);
        assert!(
            self.seqno.get() < read_seqno(applied),
            "the tree has taken 2^20 numbers since batch {applied}"
        );
        let seqno = seqno_of(index);
        for (key, value) in batch {
            assert!(is_key(&key), "a key has 1 to 65535 bytes and does not begin with {POSITION_KEY:?}");
            match value {
                Some(value) => self.tree.insert(key, value, seqno),
                None => self.tree.remove(key, seqno),
            };
        }
        let (_, memtable_bytes) = self.tree.insert(POSITION_KEY, encode_position(self.group, index), seqno);
        // What the tree installs from now on sorts after this batch.
        self.seqno.set(seqno + 1);
        self.applied.store(index.0, Ordering::Release);
        if memtable_bytes > self.memtable_bytes {
            self.rotate(&mut turn);
            drop(turn);
            self.signal(|signals| signals.flush = true);
        }
        Ok(())
    }

    /// Has everything that is applied by now made durable in the background, and announced in any case.
    pub(super) fn request_flush(&self) {
        self.rotate(&mut lock(&self.turn));
        self.signal(|signals| (signals.flush, signals.announce) = (true, true));
    }

    /// The value at a key, as a reader at `seqno` sees it.
    pub(super) fn get(&self, key: &[u8], seqno: SeqNo) -> Result<Option<Slice>, StoreError> {
        if !is_key(key) {
            return Ok(None);
        }
        self.tree.get(key, seqno).map_err(|error| self.read_error(&error))
    }

    /// Visits pairs in key order, as a reader at `seqno` sees them.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        seqno: SeqNo,
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let to = if to.is_empty() { POSITION_KEY } else { to.min(POSITION_KEY) };
        if from >= to {
            return Ok(());
        }
        for pair in self.tree.range::<&[u8], _>((lower_bound(from), upper_bound(to)), seqno, None) {
            let (key, value) = pair.into_inner().map_err(|error| self.read_error(&error))?;
            if !visit(into_bytes(key), into_bytes(value)) {
                break;
            }
        }
        Ok(())
    }

    /// What the writer itself reads at.
    pub(super) fn latest(&self) -> SeqNo {
        read_seqno(self.applied())
    }

    /// Registers a view of all batches so far; to be given back.
    pub(super) fn register_view(&self) -> SeqNo {
        let mut views = lock(&self.views);
        let seqno = self.latest();
        *views.entry(seqno).or_insert(0) += 1;
        seqno
    }

    /// Gives a view back.
    pub(super) fn release_view(&self, seqno: SeqNo) {
        let mut views = lock(&self.views);
        let count = views.get_mut(&seqno).expect("an open view is registered");
        *count -= 1;
        if *count == 0 {
            views.remove(&seqno);
        }
    }

    /// Flushes all rotated memtables. True if there was one.
    pub(super) fn flush(&self, announce: bool) -> lsm_tree::Result<bool> {
        let sealed = lock(&self.turn).sealed;
        let in_order = self.tree.get_flush_lock();
        let flushed = self.tree.flush(&in_order, self.garbage_threshold())?.is_some();
        drop(in_order);
        let before = self.durable.fetch_max(sealed.0, Ordering::AcqRel);
        self.make_room();
        if announce || before < sealed.0 {
            (self.notify)(Notice::Durable(self.durable()));
        }
        Ok(flushed)
    }

    /// Compacts until there is nothing to compact, or the store stops. (The tree does not say if it did: its version tells.)
    pub(super) fn compact(&self) -> lsm_tree::Result<()> {
        let leveled = lsm_tree::compaction::Leveled::default();
        let strategy = Arc::new(leveled.with_l0_threshold(LEVEL0_TABLES).with_table_target_size(TABLE_BYTES));
        while !lock(&self.signals).stop {
            let before = self.tree.current_version().id();
            self.tree.compact(strategy.clone(), self.garbage_threshold())?;
            if self.tree.current_version().id() == before {
                break;
            }
            self.make_room();
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

    /// Frees memtables that nobody refers to any more.
    pub(super) fn bury(&self) {
        let dead: Vec<Arc<Memtable>> = {
            let mut grave = lock(&self.grave);
            let (dead, alive) = grave.drain(..).partition(|memtable| Arc::strong_count(memtable) == 1);
            *grave = alive;
            dead
        };
        drop(dead);
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
        self.recent.clear();
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

    /// Whether a read error is one of this machine: always. The text names the folder.
    fn read_error(&self, error: &lsm_tree::Error) -> StoreError {
        StoreError(format!("{} is damaged or cannot be read: {error}. {AFTER_DAMAGE}", self.path.display()))
    }

    fn rotate(&self, turn: &mut Turn) {
        lock(&self.grave).extend(self.tree.rotate_memtable());
        turn.sealed = self.applied();
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
            if self.tree.sealed_memtable_count() < SEALED_MEMTABLES_MAX
                && self.tree.l0_run_count() < LEVEL0_RUNS_MAX
            {
                return Ok(());
            }
            let signals = lock(&self.signals);
            drop(self.room.wait_timeout(signals, ROOM_POLL).expect("no panic holds this lock"));
        }
    }

    fn make_room(&self) {
        let _signals = lock(&self.signals);
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

/// The value of [`POSITION_KEY`].
pub(super) fn encode_position(group: GroupId, index: Index) -> [u8; 16] {
    let mut position = [0; 16];
    position[..8].copy_from_slice(&group.0.to_le_bytes());
    position[8..].copy_from_slice(&index.0.to_le_bytes());
    position
}

/// Sets the number that an ingestion takes: that of the batch which the snapshot stands for.
pub(super) fn number_for_ingestion(seqno: &SequenceNumberCounter, index: Index) {
    seqno.set(seqno_of(index));
}

/// Whether the tree can hold this as a key of the data.
pub(super) fn is_key(key: &[u8]) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.starts_with(POSITION_KEY)
}

/// `from <= key`. The tree panics on bounds that are longer than its keys; no key lies between such a one and its beginning.
fn lower_bound(from: &[u8]) -> Bound<&[u8]> {
    from.get(..KEY_BYTES_MAX)
        .filter(|start| start.len() < from.len())
        .map_or(Bound::Included(from), Bound::Excluded)
}

/// `key < to`, in the same way.
fn upper_bound(to: &[u8]) -> Bound<&[u8]> {
    to.get(..KEY_BYTES_MAX)
        .filter(|start| start.len() < to.len())
        .map_or(Bound::Excluded(to), Bound::Included)
}

fn decode_position(group: GroupId, position: &[u8]) -> Result<Index, String> {
    let Ok(position) = <&[u8; 16]>::try_from(position) else {
        return Err("its position record has another length".to_owned());
    };
    let number = |at: usize| u64::from_le_bytes(position[at..at + 8].try_into().expect("eight bytes"));
    match (number(0), number(8)) {
        (owner, index) if owner == group.0 => Ok(Index(index)),
        (owner, _) => Err(format!("it belongs to group {owner}, not to group {group}")),
    }
}

/// Long values are shared with the tree or its caches, short ones copied.
pub(super) fn into_bytes(slice: Slice) -> Bytes {
    if slice.len() <= 256 { Bytes::copy_from_slice(&slice) } else { Bytes::from_owner(slice) }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic holds this lock")
}
