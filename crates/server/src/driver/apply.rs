//! The apply thread: steps the state machine, executes reads, pins and installs snapshots.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use pontoon_kv::{
    Command, Entry, GroupId, Machine, NodeId, Reply, StoreError,
    snapshot::{Header, SnapshotWriter},
};
use pontoon_replica::{Answer, Input, NotExecuted, SnapshotMeta, Ticket};
use pontoon_storage::{StateStore, state::StateHandle};
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use super::{Backlog, Fatal, Incoming, Pinned};
use crate::{
    gateway::{Gateway, connection_of},
    network::Desk,
};

/// Entries of consecutive jobs are applied as one batch, up to this many jobs.
const JOBS_PER_BATCH_MAX: usize = 256;

/// A batch is applied when its entries come to this many bytes: the replies of a batch are in memory at once.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// Replies to one connection's reads in one job, in bytes; beyond that it is told to ask again. (A connection expects values to be
/// as large as those that it has seen; this bounds what a first wrong guess may cost.)
const READ_REPLY_BYTES_MAX: usize = 64 << 20;

/// What the apply thread does, in order.
pub(crate) enum ApplyJob {
    /// Apply these entries, of this many bytes.
    Apply { entries: Vec<Entry>, bytes: u64 },
    /// Execute these reads and answer them.
    Read(Vec<(Ticket, Command)>),
    /// Pin the state as it is now for this follower.
    Pin(NodeId),
    /// Make the staged snapshot the state.
    Install(SnapshotMeta),
    /// Give up the staged snapshot: it is not wanted.
    Discard(SnapshotMeta),
    /// Make the state durable, in the background.
    Flush,
    /// Tell a digest of the whole state (index and hash).
    Digest(oneshot::Sender<Result<String, String>>),
    /// End.
    Stop,
}

/// The apply thread's belongings.
pub(crate) struct Applier {
    pub(crate) machine: Machine<StateStore>,
    pub(crate) group: GroupId,
    pub(crate) state: StateHandle,
    /// [`super::Core::reads_left`]
    pub(crate) reads_left: Arc<AtomicUsize>,
    pub(crate) jobs: UnboundedReceiver<ApplyJob>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) gateway: Gateway,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) pinned: Arc<Pinned>,
    pub(crate) incoming: Arc<Incoming>,
    pub(crate) fatal: Fatal,
}

impl Applier {
    pub(crate) fn run(mut self) {
        let mut jobs = Vec::new();
        while self.jobs.blocking_recv_many(&mut jobs, JOBS_PER_BATCH_MAX) > 0 {
            let mut entries = Vec::new();
            let mut bytes = 0;
            for job in jobs.drain(..) {
                if let ApplyJob::Apply { entries: next, bytes: next_bytes } = job {
                    entries.extend(next);
                    bytes += next_bytes;
                    if bytes < BATCH_BYTES_MAX {
                        continue;
                    }
                    if let Err(error) = self.apply(std::mem::take(&mut entries), std::mem::take(&mut bytes)) {
                        return self.fatal.report(error);
                    }
                    continue;
                }
                let done = self
                    .apply(std::mem::take(&mut entries), std::mem::take(&mut bytes))
                    .and_then(|()| self.perform(job));
                match done {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return self.fatal.report(error),
                }
            }
            if let Err(error) = self.apply(entries, bytes) {
                return self.fatal.report(error);
            }
        }
    }

    fn apply(&mut self, entries: Vec<Entry>, bytes: u64) -> Result<(), StoreError> {
        let Some(last) = entries.last() else { return Ok(()) };
        let index = last.index;
        let outcomes = self.machine.apply(&entries)?;
        self.backlog.done(bytes);
        let (sessions, state_bytes) = (self.machine.sessions() as u64, self.state.disk_bytes());
        self.gateway.update(|status| (status.sessions, status.state_bytes) = (sessions, state_bytes));
        self.tell(Input::Applied { index, outcomes });
        Ok(())
    }

    /// False: the thread is to end.
    fn perform(&mut self, job: ApplyJob) -> Result<bool, StoreError> {
        match job {
            ApplyJob::Apply { .. } => unreachable!("the caller collects these"),
            ApplyJob::Read(reads) => self.read(reads)?,
            ApplyJob::Pin(to) => self.pin(to)?,
            ApplyJob::Install(meta) => self.install(meta)?,
            ApplyJob::Discard(meta) => drop(self.incoming.take(&meta)),
            ApplyJob::Flush => self.state.request_flush(),
            ApplyJob::Digest(teller) => self.digest(teller),
            ApplyJob::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn read(&mut self, reads: Vec<(Ticket, Command)>) -> Result<(), StoreError> {
        let mut answers = Vec::with_capacity(reads.len());
        let mut reply_bytes: HashMap<u32, usize> = HashMap::new();
        for (ticket, command) in reads {
            let bytes = reply_bytes.entry(connection_of(ticket)).or_default();
            if *bytes > READ_REPLY_BYTES_MAX {
                answers.push((ticket, Answer::NotExecuted(NotExecuted::Busy)));
                continue;
            }
            let reply = self.machine.read(&command)?;
            *bytes += size(&reply);
            answers.push((ticket, Answer::Reply(reply)));
        }
        self.gateway.answer(answers);
        self.reads_left.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    fn pin(&mut self, to: NodeId) -> Result<(), StoreError> {
        let snapshot = SnapshotWriter::new(self.machine.view(), self.group)?;
        let meta = meta_of(snapshot.header());
        self.pinned.pin(to, snapshot);
        self.tell(Input::SnapshotBuilt { to, meta });
        Ok(())
    }

    fn install(&mut self, meta: SnapshotMeta) -> Result<(), StoreError> {
        let started = Instant::now();
        let staged = self.incoming.take(&meta);
        let staged = staged
            .ok_or_else(|| StoreError(format!("the snapshot at {} that was received is gone", meta.index)))?;
        let store = self.machine.store_mut().install(staged)?;
        self.machine.replace(store)?;
        assert_eq!(
            self.machine.applied().index,
            meta.index,
            "the snapshot's state is of the index that announced it"
        );
        tracing::info!(index = meta.index.0, ms = started.elapsed().as_millis() as u64, "snapshot installed");
        self.tell(Input::SnapshotInstalled(meta));
        Ok(())
    }

    /// Reads all of the state: on a thread of its own, from a view.
    fn digest(&self, teller: oneshot::Sender<Result<String, String>>) {
        let view = self.machine.view();
        let index = self.machine.applied().index;
        std::thread::spawn(move || {
            let hash = pontoon_kv::state_hash(&view).map_err(|error| error.to_string());
            // Whoever asked may have left.
            let _ = teller.send(hash.map(|hash| format!("{index}:{hash:032x}")));
        });
    }

    fn tell(&self, input: Input) {
        // The core thread ends only after this one was told to, or after a fatal error.
        let _ = self.desk.leave(input.into());
    }
}

/// A snapshot's header as the core knows it.
pub(super) fn meta_of(Header { applied, .. }: &Header) -> SnapshotMeta {
    let conf_state = applied.conf_state.clone();
    SnapshotMeta { index: applied.index, term: applied.term, clock: applied.clock, conf_state }
}

fn size(reply: &Reply) -> usize {
    match reply {
        Reply::Bytes(bytes) => bytes.len(),
        Reply::Array(replies) => replies.iter().map(size).sum(),
        _ => 0,
    }
}
