//! The Raft log: hard states and entries of all groups, in one raft-engine.
//!
//! A turn's [`Persist`]s become one atomic batch and, if any of them waits for the disk, one `fdatasync` ([`Log::write`]). What
//! is trimmed goes file by file ([`Log::purge`]).
//!
//! Traps of raft-engine 0.4.2, and what is done about them here:
//!
//! - It takes everything after a flipped bit of its newest file for a torn tail and drops it: `scan` decides first.
//! - Reads and purge race: reads share a lock that purge takes alone.
//! - It panics if a sync fails: that is caught (or ends the process, where panics abort), and nothing is written afterwards.
//! - A sync without anything to write does nothing: every batch begins with a `Mark`, so that none is empty.
//! - Entries that were rewritten and then trimmed can come back at a start: the stored position says where the log begins.
//!   After a *reset* the positions themselves are no guide any more, so that one goes by the engine's own `Clean`.
//! - It rewrites old entries one by one, so at a start a tail that was replaced by a shorter one can come back beyond the end:
//!   the stored end says where the log stops.
//! - Its cache of the last block read is one per *thread*, not per engine: see `Log::undisturbed`. What is in it, as much as was
//!   once written together, stays there until the thread reads another block or ends.

mod error;
mod files;
#[doc(hidden)]
pub mod fuzz;
mod options;
mod record;
mod scan;
mod writer;

use std::{
    any::Any,
    cell::Cell,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

pub use error::{OpenError, ReadError, WriteError};
pub use options::LogOptions;
use pontoon_kv::{Entry, GroupId, Index, Term};
use pontoon_replica::{HardState, Persist};
use raft_engine::{
    Command, Config, Engine, LogBatch, ReadableSize, RecoveryMode,
    internals::{EventListener, FilePipeLog, LogQueue},
};

use self::{
    files::PreparedFiles,
    record::{END_KEY, HARD_STATE_KEY, MARK_GROUP, Mark, POSITION_KEY, StoredEntry},
    writer::{Group, Writer, Written},
};

/// The log of all groups on this machine. Cheap to clone: one thread at a time writes, others read and purge.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

/// What the log knows of a group at the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoredLog {
    /// The last hard state.
    pub hard_state: HardState,
    /// The position before the first entry; (0, 0) in a log that was never trimmed.
    pub trimmed: (Index, Term),
    /// All entries after it, without a gap.
    pub entries: Vec<Entry>,
    /// Bytes of the entries' data.
    pub bytes: u64,
}

impl RestoredLog {
    /// Whether nothing was ever stored for the group.
    pub fn is_blank(&self) -> bool {
        *self == RestoredLog::default()
    }

    /// Checks that the log goes on where a state ends that is durable up to `applied`: it may begin before, never after. And that
    /// neither the log itself is lost nor its hard state, which is never behind the entries: they held the vote.
    pub fn check_continues(&self, group: GroupId, applied: Index) -> Result<(), ReadError> {
        let trimmed = self.trimmed.0;
        if trimmed > applied {
            let reason = format!(
                "it begins after entry {trimmed}, and the state ends at entry {applied}: entries are lost"
            );
            return Err(ReadError { group, reason });
        }
        if self.is_blank() && applied > Index(0) {
            let reason = format!("it is empty, and the state ends at entry {applied}: the log is lost");
            return Err(ReadError { group, reason });
        }
        let term = self.hard_state.term;
        if let Some(entry) = self.entries.last().filter(|entry| entry.term > term) {
            let reason =
                format!("it ends in term {}, and its hard state is of term {term}: that is lost", entry.term);
            return Err(ReadError { group, reason });
        }
        Ok(())
    }

    /// The last position: that of the last entry, or the one before the first.
    pub fn last(&self) -> (Index, Term) {
        self.entries.last().map_or(self.trimmed, |entry| (entry.index, entry.term))
    }
}

struct Inner {
    engine: Engine<PreparedFiles, FilePipeLog<PreparedFiles>>,
    /// Tells this log from others in [`Log::undisturbed`].
    id: u64,
    /// Reads share it, purge takes it alone.
    gate: RwLock<()>,
    writer: Mutex<Writer>,
    written: Arc<Written>,
    /// Nothing is purged before the files hold more.
    purge_bytes: u64,
}

/// A start reads about as many bytes of entries at once.
const READ_BYTES: u64 = 16 << 20;

/// A batch larger than this is written before more is added; the engine's limit is 2 GiB.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// The memory of a batch larger than this is given back. (The engine would keep 8 MiB of it.)
const BATCH_BYTES_KEPT_MAX: usize = 1 << 20;

impl Log {
    /// Opens the log in `folder`, or creates it. A torn tail (what a crash left of an unfinished write) is cut.
    pub fn open(folder: &Path, options: LogOptions) -> Result<Log, OpenError> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        if folder.try_exists().map_err(OpenError::io(folder))? {
            scan::check_and_cut(folder)?;
        } else {
            fs::create_dir(folder).map_err(OpenError::io(folder))?;
            folder.parent().map_or(Ok(()), crate::disk::sync_folder).map_err(OpenError::io(folder))?;
        }
        let failed = |reason: String| OpenError::Engine { path: folder.to_owned(), reason };
        let written = Arc::new(Written::default());
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Engine::open_with(
                engine_config(folder, options),
                Arc::new(PreparedFiles::new(folder, options.file_bytes)),
                vec![written.clone() as Arc<dyn EventListener>],
            )
        }));
        let engine = match opened {
            Ok(result) => result.map_err(|error| failed(error.to_string()))?,
            Err(panic) => return Err(failed(panic_text(panic.as_ref()))),
        };
        // The engine does not make its first file's name durable.
        crate::disk::sync_folder(folder).map_err(OpenError::io(folder))?;
        let log = Log {
            inner: Arc::new(Inner {
                engine,
                id: IDS.fetch_add(1, Ordering::Relaxed),
                gate: RwLock::new(()),
                writer: Mutex::default(),
                written,
                purge_bytes: options.purge_bytes,
            }),
        };
        log.learn().map_err(failed)?;
        Ok(log)
    }

    /// The groups that the log knows.
    pub fn groups(&self) -> Vec<GroupId> {
        self.writer().groups.keys().copied().collect()
    }

    /// The position before a group's first entry.
    pub fn trimmed(&self, group: GroupId) -> (Index, Term) {
        self.writer().groups.get(&group).copied().unwrap_or_default().trimmed
    }

    /// All that is stored of a group, checked: entries follow one another without a gap, in terms that do not fall, and the
    /// hard state's commit index is among them. Its memory is bounded by the trimming of the log.
    pub fn restore(&self, group: GroupId) -> Result<RestoredLog, ReadError> {
        let stored = self.writer().groups.get(&group).copied().unwrap_or_default();
        let Group { hard_state, trimmed, last } = stored;
        let damaged = |reason: String| ReadError { group, reason };
        let mut entries = Vec::new();
        let mut next = after(trimmed.0);
        while next <= last {
            let more = self.read(group, next, after(last), READ_BYTES)?;
            if more.is_empty() {
                return Err(damaged(format!(
                    "entry {next} is missing, although the log goes from {} to {last}",
                    trimmed.0
                )));
            }
            next = Index(next.0 + more.len() as u64);
            entries.extend(more);
        }
        let mut term = trimmed.1;
        for entry in &entries {
            if entry.term < term {
                return Err(damaged(format!(
                    "entry {} has term {}, after term {term}",
                    entry.index, entry.term
                )));
            }
            term = entry.term;
        }
        if hard_state.commit > last {
            let commit = hard_state.commit;
            return Err(damaged(format!(
                "it ends at entry {last}, although entry {commit} was committed: its end is lost"
            )));
        }
        let bytes = entries.iter().map(record::entry_bytes).sum();
        Ok(RestoredLog { hard_state, trimmed, entries, bytes })
    }

    /// Writes these in order: all of them in one atomic batch (several, should they exceed 64 MiB; each [`Persist`] is atomic in
    /// any case). Durable on return if any of them has `sync`; else with the next that has.
    ///
    /// # Panics
    ///
    /// If an entry would leave a gap or lie in the trimmed part, or a trim lies beyond the end: the replica is wrong then.
    pub fn write(&self, persists: &[(GroupId, Persist)]) -> Result<(), WriteError> {
        let mut writer = self.writer();
        if let Some(reason) = &writer.failure {
            return Err(WriteError::Refused(reason.clone()));
        }
        for (group, persist) in persists {
            writer.add(*group, persist)?;
            if writer.batch.approximate_size() > BATCH_BYTES_MAX {
                self.commit(&mut writer, false)?;
            }
        }
        let sync = persists.iter().any(|(_, persist)| persist.sync);
        if sync || !writer.batch.is_empty() {
            self.commit(&mut writer, sync)?;
        }
        Ok(())
    }

    /// Entries from `low` to below `high`, about `bytes_max` bytes of them but at least one. Empty if `low` has been trimmed
    /// (or overwritten) in the meantime.
    pub fn read(
        &self,
        group: GroupId,
        low: Index,
        high: Index,
        bytes_max: u64,
    ) -> Result<Vec<Entry>, ReadError> {
        let _shared = self.inner.gate.read().expect("no panic holds this lock");
        let engine = &self.inner.engine;
        let (Some(first), Some(last)) = (engine.first_index(group.0), engine.last_index(group.0)) else {
            return Ok(Vec::new());
        };
        let high = high.min(after(Index(last)));
        if low < Index(first) || low >= high {
            return Ok(Vec::new());
        }
        let damaged = |reason: String| ReadError {
            group,
            reason: format!("reading entries {low} to {high}: {reason}"),
        };
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let mut stored = Vec::new();
        let fetched = self.undisturbed(|| {
            catch_unwind(AssertUnwindSafe(|| {
                engine.fetch_entries_to::<StoredEntry>(group.0, low.0, high.0, Some(bytes_max), &mut stored)
            }))
        });
        match fetched {
            Ok(Ok(_count)) => {}
            Ok(Err(raft_engine::Error::EntryCompacted | raft_engine::Error::EntryNotFound)) => {
                return Ok(Vec::new());
            }
            Ok(Err(error)) => return Err(damaged(error.to_string())),
            Err(panic) => return Err(damaged(panic_text(panic.as_ref()))),
        }
        let check = |(stored, expected)| {
            let entry =
                record::entry_from_stored(group, stored).filter(|entry| entry.index == Index(expected));
            entry.ok_or_else(|| damaged(format!("in place of entry {expected} there is another")))
        };
        stored.into_iter().zip(low.0..).map(check).collect()
    }

    /// Purges files that are no longer needed, if there are enough of them. To be called after trims, best on a thread of its
    /// own: reads wait meanwhile, writes hardly do.
    pub fn purge(&self) -> Result<(), WriteError> {
        let _alone = self.inner.gate.write().expect("no panic holds this lock");
        if let Some(reason) = &self.writer().failure {
            return Err(WriteError::Refused(reason.clone()));
        }
        if self.disk_bytes() <= self.inner.purge_bytes {
            return Ok(());
        }
        self.mark_first_files(0, 0)?;
        let purged =
            self.undisturbed(|| catch_unwind(AssertUnwindSafe(|| self.inner.engine.purge_expired_files())));
        match purged {
            Ok(Ok(_groups_that_hold_old_files)) => {}
            Ok(Err(error)) => return Err(self.writer().fail(error.to_string())),
            Err(panic) => return Err(self.writer().fail(panic_text(panic.as_ref()))),
        }
        let first = |queue| self.inner.engine.file_span(queue).0;
        self.mark_first_files(first(LogQueue::Append), first(LogQueue::Rewrite))
    }

    /// Says durably from which files on the log is needed.
    fn mark_first_files(&self, first_append: u64, first_rewrite: u64) -> Result<(), WriteError> {
        let mut writer = self.writer();
        if let Some(reason) = &writer.failure {
            return Err(WriteError::Refused(reason.clone()));
        }
        writer.mark = Mark { first_append, first_rewrite, ..writer.mark };
        self.commit(&mut writer, true)
    }

    /// Bytes of the log's files, those kept for recycling aside.
    pub fn disk_bytes(&self) -> u64 {
        self.inner.engine.get_used_size() as u64
    }

    /// Reads the groups' records, and repairs what the engine may bring back at a start: entries that were trimmed.
    fn learn(&self) -> Result<(), String> {
        let engine = &self.inner.engine;
        let mut writer = self.writer();
        let first_file = |queue| engine.file_span(queue).0;
        writer.mark.first_append = first_file(LogQueue::Append);
        writer.mark.first_rewrite = first_file(LogQueue::Rewrite);
        writer.begin();
        for number in engine.raft_groups().into_iter().filter(|number| *number != MARK_GROUP.0) {
            let group = GroupId(number);
            let stored = self.learn_group(group)?;
            let first_needed = after(stored.trimmed.0);
            match engine.first_index(number) {
                Some(first) if first < first_needed.0 => {
                    writer.batch.add_command(number, Command::Compact { index: first_needed.0 });
                }
                Some(first) if first > first_needed.0 => {
                    return Err(format!(
                        "entry {first_needed} of group {group} is missing: the next is {first}"
                    ));
                }
                _ => {}
            }
            writer.groups.insert(group, stored);
        }
        self.commit(&mut writer, true).map_err(|error| error.to_string())
    }

    /// What the engine has of a group.
    fn learn_group(&self, group: GroupId) -> Result<Group, String> {
        let engine = &self.inner.engine;
        let damaged = |what: &str| format!("the {what} of group {group} is damaged");
        let hard_state = match engine.get(group.0, HARD_STATE_KEY) {
            Some(bytes) => {
                record::hard_state_from_bytes(group, &bytes).ok_or_else(|| damaged("hard state"))?
            }
            None => HardState::default(),
        };
        let trimmed = match engine.get(group.0, POSITION_KEY) {
            Some(bytes) => record::position_from_bytes(group, &bytes).ok_or_else(|| damaged("position"))?,
            None => (Index(0), Term(0)),
        };
        let end = match engine.get(group.0, END_KEY) {
            Some(bytes) => record::position_from_bytes(group, &bytes).ok_or_else(|| damaged("end"))?.0,
            None => trimmed.0,
        };
        let last = engine.last_index(group.0).map_or(trimmed.0, |last| Index(last).min(end).max(trimmed.0));
        Ok(Group { hard_state, trimmed, last })
    }

    /// Hands the batch to the engine. An empty one becomes a mark, for the sake of the sync.
    fn commit(&self, writer: &mut Writer, sync: bool) -> Result<(), WriteError> {
        writer.begin();
        let large = writer.batch.approximate_size() > BATCH_BYTES_KEPT_MAX;
        let written = catch_unwind(AssertUnwindSafe(|| self.inner.engine.write(&mut writer.batch, sync)));
        let failure = match written {
            Ok(Ok(_bytes)) => {
                if sync {
                    writer.mark.durable = self.inner.written.end();
                }
                if large {
                    writer.batch = LogBatch::default();
                }
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic_text(panic.as_ref()),
        };
        Err(writer.fail(failure))
    }

    /// Runs what reads through the engine's cache of the last block, which belongs to the thread and knows blocks by file
    /// number and offset alone: on a thread that has read another log it could yield *that* log's block. (A server has one log;
    /// tests and tools have several.)
    fn undisturbed<R: Send>(&self, read: impl FnOnce() -> R + Send) -> R {
        thread_local! {
            static LAST_READ: Cell<u64> = const { Cell::new(0) };
        }
        let last = LAST_READ.get();
        if last == 0 || last == self.inner.id {
            LAST_READ.set(self.inner.id);
            return read();
        }
        thread::scope(|scope| {
            scope.spawn(read).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.inner.writer.lock().expect("no panic holds this lock")
    }
}

impl Drop for Inner {
    /// Leaves a mark that covers all that was written; the engine syncs when it closes.
    fn drop(&mut self) {
        let Ok(writer) = self.writer.get_mut() else { return };
        if writer.failure.is_some() {
            return;
        }
        writer.mark.durable = self.written.end();
        writer.begin();
        let written = catch_unwind(AssertUnwindSafe(|| self.engine.write(&mut writer.batch, true)));
        if !matches!(written, Ok(Ok(_))) {
            tracing::warn!("the log could not be closed cleanly; the next start will check it");
        }
    }
}

fn engine_config(folder: &Path, options: LogOptions) -> Config {
    Config {
        dir: folder.to_string_lossy().into_owned(),
        recovery_mode: RecoveryMode::AbsoluteConsistency,
        // Replaying files in parallel merges partial states by rules of their own; a log bounded by trims needs no such speed.
        recovery_threads: 1,
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(options.file_bytes),
        purge_threshold: ReadableSize(options.purge_bytes.max(options.file_bytes)),
        enable_log_recycle: true,
        // `PreparedFiles` does it for the next file only.
        prefill_for_recycle: false,
        ..Config::default()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the log engine panicked").to_string()
}

/// The index after.
fn after(index: Index) -> Index {
    Index(index.0 + 1)
}
