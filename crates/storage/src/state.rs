//! A group's state on disk: a log-structured merge tree whose write-ahead log is the Raft log.
//!
//! Writing never waits for a disk: a batch goes to a memtable. Memtables are flushed into the tree in the background, whole batches
//! at a time and in order, so after a crash the store holds exactly the batches up to some index ([`StateStore::applied`] after
//! opening), and the Raft log replays the rest. The log may be trimmed up to [`StateStore::durable`], which [`Notice::Durable`]
//! announces.
//!
//! ```text
//! state/<group>/LOCK           locked while the store is open; empty
//! state/<group>/CURRENT        which generation is the state
//! state/<group>/gen-<n>/       a generation: a whole tree
//! ```
//!
//! A snapshot becomes a new generation ([`StateHandle::stage`]) and replaces the current one atomically ([`StateStore::install`]).
//! After an I/O error the store accepts no batches any more; what the tree has not flushed stays in the log.

mod current;
mod generation;
mod keys;
mod memtable;
mod records;
mod stage;
mod workers;

use std::{
    fmt::Display,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lsm_tree::{Cache, DescriptorTable, Slice};
use pontoon_kv::{GroupId, Index, Reader, Store, StoreError, WriteBatch};

pub use self::stage::{Stage, StageError, Staged};
use self::{
    current::Current,
    generation::{Generation, Moment},
    workers::Workers,
};
use crate::{AFTER_DAMAGE, disk};

/// Settings of a [`StateStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateOptions {
    /// A memtable is flushed at this size, in bytes, or when twice as much was written to it. Up to five of them are in memory
    /// when the disk is behind, and what views hold.
    pub memtable_bytes: u64,
    /// The caches, in bytes: three quarters for the newest records, beside those of memtables, the rest for blocks of tables.
    pub cache_bytes: u64,
    /// Table files that are kept open.
    pub open_files_max: usize,
}

impl Default for StateOptions {
    fn default() -> StateOptions {
        StateOptions { memtable_bytes: 48 << 20, cache_bytes: 64 << 20, open_files_max: 256 }
    }
}

/// What happened in the background.
#[derive(Debug, Clone)]
pub enum Notice {
    /// The state up to this index needs no log any more.
    Durable(Index),
    /// The disk is in doubt: the store accepts nothing any more, and the server must stop.
    Failed(StoreError),
}

/// Called by the store's threads; it must be quick.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// The state cannot be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is open elsewhere.
    #[error("the state in {} is in use by another process: stop that server", .0.display())]
    Locked(PathBuf),
    /// The operating system refuses.
    #[error("cannot use the state's {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is stored is not what was written.
    #[error("the state's {} is damaged: {reason}. {AFTER_DAMAGE}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer version of the program wrote it.
    #[error("the state's {} has format version {version}, which is newer than this program: run the newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

impl OpenError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    }
}

/// A group's state. See [`Store`] for what it promises.
pub struct StateStore {
    shared: Arc<Shared>,
    generation: Arc<Generation>,
    /// Of this generation; then those of replaced ones, until they have ended.
    workers: Vec<Workers>,
}

/// What a store has in common with its handles and with the stores that replace it.
struct Shared {
    folder: PathBuf,
    group: GroupId,
    resources: Resources,
    notify: Notify,
    current: RwLock<Arc<Generation>>,
    next_generation: AtomicU64,
    /// Holds the lock.
    _lock: File,
}

/// What generations share.
#[derive(Clone)]
struct Resources {
    memtable_bytes: u64,
    /// For the newest records, beside those of memtables.
    records_bytes: u64,
    cache: Arc<Cache>,
    files: Arc<DescriptorTable>,
}

impl StateStore {
    /// Opens the state in this folder, or creates it, empty. Snapshots that were not installed are removed.
    pub fn open(
        folder: &Path,
        group: GroupId,
        options: StateOptions,
        notify: Notify,
    ) -> Result<StateStore, OpenError> {
        create_folder(folder)?;
        let lock = lock_folder(folder)?;
        let resources = Resources {
            memtable_bytes: options.memtable_bytes,
            records_bytes: options.cache_bytes / 4 * 3,
            cache: Arc::new(Cache::with_capacity_bytes(options.cache_bytes / 4)),
            files: Arc::new(DescriptorTable::new(options.open_files_max)),
        };
        let current = match Current::read(folder, group)? {
            Some(current) => current,
            None => create_first(folder, group, &resources)?,
        };
        let path = current::generation_path(folder, current.generation);
        let generation = Generation::open(path.clone(), group, &resources, notify.clone())?;
        if generation.applied() < current.base {
            let reason = format!(
                "it ends at entry {}, before the snapshot of entry {}",
                generation.applied(),
                current.base
            );
            return Err(OpenError::Damaged { path, reason });
        }
        remove_others(folder, current.generation)?;
        let generation = Arc::new(generation);
        let workers = vec![Workers::start(&generation).map_err(OpenError::io(folder))?];
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            group,
            resources,
            notify,
            current: RwLock::new(generation.clone()),
            next_generation: AtomicU64::new(current.generation + 1),
            _lock: lock,
        });
        Ok(StateStore { shared, generation, workers })
    }

    /// The last batch. After opening: the last one that was durable.
    pub fn applied(&self) -> Index {
        self.generation.applied()
    }

    /// The last batch that is durable with all before it.
    pub fn durable(&self) -> Index {
        self.generation.durable()
    }

    /// Bytes of the tables on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.generation.disk_bytes()
    }

    /// A handle for other threads than the writer's.
    pub fn handle(&self) -> StateHandle {
        StateHandle { shared: self.shared.clone() }
    }

    /// Makes a snapshot the state, atomically and durably, and returns its store; handles belong to it from now on. This one can
    /// still be read, and accepts nothing any more; its files go with it and with its last view. To be done before the log is
    /// reset to the snapshot's position. After an error neither accepts anything.
    ///
    /// # Panics
    ///
    /// If the snapshot is older than the state.
    pub fn install(&mut self, mut staged: Staged) -> Result<StateStore, StoreError> {
        let applied = self.applied();
        assert!(
            staged.index >= applied,
            "a snapshot of entry {} does not replace the state of {applied}",
            staged.index
        );
        if let Some(failure) = self.generation.failure() {
            return Err(failure);
        }
        // From here on a failure leaves open which generation is the state: the folder stays, the next start decides.
        staged.installed = true;
        let next = self.switch_to(&staged).inspect_err(|error| self.generation.fail(&error.0))?;
        self.generation.retire();
        (self.shared.notify)(Notice::Durable(staged.index));
        Ok(next)
    }

    fn switch_to(&mut self, staged: &Staged) -> Result<StateStore, StoreError> {
        let Shared { folder, group, resources, notify, .. } = &*self.shared;
        let failed = |what: &dyn Display| {
            StoreError(format!("installing the snapshot of entry {}: {what}", staged.index))
        };
        let path = current::generation_path(folder, staged.generation);
        let next =
            Generation::open(path, *group, resources, notify.clone()).map_err(|error| failed(&error))?;
        assert_eq!(next.applied(), staged.index, "the snapshot of group {group} is of another entry");
        let current = Current { generation: staged.generation, base: staged.index };
        current.write(folder, *group).map_err(|error| failed(&error))?;
        let next = Arc::new(next);
        let mut workers = vec![Workers::start(&next).map_err(|error| failed(&error))?];
        for replaced in &self.workers {
            replaced.stop();
        }
        workers.append(&mut self.workers);
        workers.retain(|workers| !workers.have_ended());
        *self.shared.current.write().expect("no panic holds this lock") = next.clone();
        Ok(StateStore { shared: self.shared.clone(), generation: next, workers })
    }
}

impl Store for StateStore {
    type View = View;

    fn write(&mut self, index: Index, batch: WriteBatch) -> Result<(), StoreError> {
        self.generation.write(index, batch.into_iter().map(|(key, value)| (Slice::from(&*key), value)))
    }

    fn view(&self) -> View {
        View { generation: self.generation.clone(), moment: self.generation.register_view() }
    }
}

impl Reader for StateStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.generation.get_latest(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.generation.scan_latest(from, to, visit)
    }
}

/// The state as it was when the view was made. It pins memory and files: not to be kept for long. Making one ends the memtable that
/// is written, so views are not to be made often.
pub struct View {
    generation: Arc<Generation>,
    moment: Moment,
}

impl Reader for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.generation.get(key, &self.moment)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.generation.scan(from, to, &self.moment, visit)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.generation.release_view(&mut self.moment);
    }
}

/// A handle on a group's state for any thread. Cheap to clone. It keeps the state's folder locked.
#[derive(Clone)]
pub struct StateHandle {
    shared: Arc<Shared>,
}

impl StateHandle {
    /// Has everything that is applied by now made durable in the background. A [`Notice::Durable`] follows in any case, unless
    /// the store fails or stops.
    pub fn request_flush(&self) {
        self.generation().request_flush();
    }

    /// The last batch that is durable with all before it.
    pub fn durable(&self) -> Index {
        self.generation().durable()
    }

    /// Bytes of the tables on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.generation().disk_bytes()
    }

    /// The newest records, as far as they are in memory.
    pub fn known(&self) -> Known {
        Known { generation: self.generation() }
    }

    /// Begins to receive a snapshot of the state at `index`, beside the current state.
    pub fn stage(&self, index: Index) -> Result<Stage, StageError> {
        let Shared { folder, group, resources, next_generation, .. } = &*self.shared;
        Stage::start(folder, next_generation.fetch_add(1, Ordering::Relaxed), *group, index, resources)
    }

    fn generation(&self) -> Arc<Generation> {
        self.shared.current.read().expect("no panic holds this lock").clone()
    }
}

/// The newest records of a state that are in memory: what is not in the tree yet, and what was lately read or written. Waits for no disk.
pub struct Known {
    generation: Arc<Generation>,
}

impl Known {
    /// A key's record as of the latest batch, or of one that is being written; `Some(None)` if it has none. `None`: not known.
    pub fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.generation.records.get(key).map(|known| known.map(Bytes::from_owner))
    }
}

fn create_folder(folder: &Path) -> Result<(), OpenError> {
    if !folder.try_exists().map_err(OpenError::io(folder))? {
        fs::create_dir_all(folder).map_err(OpenError::io(folder))?;
        for parent in folder.ancestors().skip(1).take(2).filter(|parent| !parent.as_os_str().is_empty()) {
            disk::sync_folder(parent).map_err(OpenError::io(parent))?;
        }
    }
    Ok(())
}

fn lock_folder(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join("LOCK");
    let lock =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(OpenError::io(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(OpenError::io(&path)(error)),
    }
}

/// Creates the first, empty generation. One with tables shows that `CURRENT` is lost.
fn create_first(folder: &Path, group: GroupId, resources: &Resources) -> Result<Current, OpenError> {
    for generation in current::generations(folder).map_err(OpenError::io(folder))? {
        let path = current::generation_path(folder, generation);
        let tables = path.join("tables");
        if tables.is_dir() && fs::read_dir(&tables).map_err(OpenError::io(&tables))?.next().is_some() {
            let reason = "it is missing, although there are tables".to_owned();
            return Err(OpenError::Damaged { path: folder.join("CURRENT"), reason });
        }
        fs::remove_dir_all(&path).map_err(OpenError::io(&path))?;
    }
    let current = Current { generation: 1, base: Index(0) };
    let path = current::generation_path(folder, current.generation);
    let tree = generation::open_tree(&path, &lsm_tree::SequenceNumberCounter::default(), resources);
    drop(tree.map_err(|reason| OpenError::Damaged { path, reason })?);
    disk::sync_folder(folder).map_err(OpenError::io(folder))?;
    current.write(folder, group).map_err(OpenError::io(folder))?;
    Ok(current)
}

/// Removes snapshots that were not installed, and what an installed one had replaced.
fn remove_others(folder: &Path, current: u64) -> Result<(), OpenError> {
    for generation in current::generations(folder).map_err(OpenError::io(folder))? {
        if generation != current {
            let path = current::generation_path(folder, generation);
            fs::remove_dir_all(&path).map_err(OpenError::io(&path))?;
        }
    }
    Ok(())
}
