//! Applying: steps the state machine, executes reads, pins and installs snapshots.

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
use tokio::sync::oneshot;

use super::{Backlog, Incoming, Pinned, Worker, worker::Perform};
use crate::{
    gateway::{Gateway, connection_of},
    inbox::Event,
};

/// Entries of consecutive jobs are applied as one batch, up to this many jobs.
const JOBS_PER_BATCH_MAX: usize = 256;

/// A batch is applied when its entries come to this many bytes: the replies of a batch are in memory at once.
const BATCH_BYTES_MAX: u64 = 16 << 20;

/// Replies to one connection's reads in one job, in bytes; beyond that it is told to ask again. (A connection expects values to be
/// as large as those that it has seen; this bounds what a first wrong guess may cost.)
const READ_REPLY_BYTES_MAX: usize = 64 << 20;

/// What there is to be done, in order.
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

/// Applies and reads.
pub(crate) type Apply = Worker<Applier>;

/// What it takes to do that.
pub(crate) struct Applier {
    pub(crate) machine: Machine<StateStore>,
    pub(crate) group: GroupId,
    pub(crate) state: StateHandle,
    /// [`super::Core::reads_left`]
    pub(crate) reads_left: Arc<AtomicUsize>,
    pub(crate) gateway: Gateway,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) pinned: Arc<Pinned>,
    pub(crate) incoming: Arc<Incoming>,
}

impl Perform for Applier {
    type Job = ApplyJob;
    type Error = StoreError;
    const JOBS_MAX: usize = JOBS_PER_BATCH_MAX;

    fn perform(&mut self, jobs: Vec<ApplyJob>, tell: impl Fn(Event)) -> Result<bool, StoreError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for job in jobs {
            let next = match job {
                ApplyJob::Apply { entries: next, bytes: next_bytes } => {
                    entries.extend(next);
                    bytes += next_bytes;
                    None
                }
                next => Some(next),
            };
            if (next.is_some() || bytes >= BATCH_BYTES_MAX) && !entries.is_empty() {
                let applied = self.apply(std::mem::take(&mut entries), std::mem::take(&mut bytes))?;
                tell(applied.into());
            }
            if let Some(next) = next
                && !self.perform_one(next, &tell)?
            {
                return Ok(false);
            }
        }
        if !entries.is_empty() {
            let applied = self.apply(entries, bytes)?;
            tell(applied.into());
        }
        Ok(true)
    }
}

impl Applier {
    /// Applies these entries; the core is to hear of it.
    fn apply(&mut self, entries: Vec<Entry>, bytes: u64) -> Result<Input, StoreError> {
        let index = entries.last().expect("there is something to apply").index;
        let outcomes = self.machine.apply(&entries)?;
        self.backlog.done(bytes);
        let (sessions, state_bytes) = (self.machine.sessions() as u64, self.state.disk_bytes());
        self.gateway.update(|status| (status.sessions, status.state_bytes) = (sessions, state_bytes));
        Ok(Input::Applied { index, outcomes })
    }

    /// False: no more are to be done.
    fn perform_one(&mut self, job: ApplyJob, tell: impl Fn(Event)) -> Result<bool, StoreError> {
        match job {
            ApplyJob::Apply { .. } => unreachable!("the caller collects these"),
            ApplyJob::Read(reads) => self.read(reads)?,
            ApplyJob::Pin(to) => self.pin(to, tell)?,
            ApplyJob::Install(meta) => self.install(meta, tell)?,
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

    fn pin(&mut self, to: NodeId, tell: impl Fn(Event)) -> Result<(), StoreError> {
        let snapshot = SnapshotWriter::new(self.machine.view(), self.group)?;
        let meta = meta_of(snapshot.header());
        self.pinned.pin(to, snapshot);
        tell(Input::SnapshotBuilt { to, meta }.into());
        Ok(())
    }

    fn install(&mut self, meta: SnapshotMeta, tell: impl Fn(Event)) -> Result<(), StoreError> {
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
        tell(Input::SnapshotInstalled(meta).into());
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
