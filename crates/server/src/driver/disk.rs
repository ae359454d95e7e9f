//! The log: writing and syncing it, and, on a thread of its own, reading it for followers that lag and purging what was trimmed.

use std::{sync::Arc, thread, time::Duration};

use crossbeam_channel::{Receiver, Sender};
use pontoon_kv::{GroupId, Index};
use pontoon_replica::{Input, LogRead, Persist};
use pontoon_storage::{Log, WriteError};

use super::{Backlog, Fatal, Worker, worker::Perform};
use crate::inbox::{Event, Inbox};

/// Persists that are written together share one fsync; this many at most.
const PERSISTS_PER_WRITE_MAX: usize = 1024;

/// How long the reader's helper waits for more to do.
const HELPER_IDLE_MAX: Duration = Duration::from_millis(100);

/// What there is to be written.
pub(crate) enum LogJob {
    /// Write this, after all before it.
    Persist(Persist),
    /// End, after all before it.
    Stop,
}

/// What the reader thread does.
pub(crate) enum ReadJob {
    /// Read these entries for the core.
    Read { low: Index, high: Index, bytes_max: u64 },
    /// The log was trimmed: give its disk space back.
    Purge,
    /// End.
    Stop,
}

/// Writes the log.
pub(crate) type LogWriter = Worker<Writer>;

/// What it takes to do that.
pub(crate) struct Writer {
    pub(crate) group: GroupId,
    pub(crate) log: Log,
    pub(crate) reader: Sender<ReadJob>,
    pub(crate) backlog: Arc<Backlog>,
    /// [`crate::Settings::fault_fsync_delay`]
    pub(crate) fault_fsync_delay: Duration,
}

impl Perform for Writer {
    type Job = LogJob;
    type Error = WriteError;
    const JOBS_MAX: usize = PERSISTS_PER_WRITE_MAX;

    fn perform(&mut self, jobs: Vec<LogJob>, tell: impl Fn(Event)) -> Result<bool, WriteError> {
        let (mut persists, mut goes_on) = (Vec::with_capacity(jobs.len()), true);
        for job in jobs {
            match job {
                LogJob::Persist(persist) => persists.push((self.group, persist)),
                LogJob::Stop => goes_on = false,
            }
        }
        self.backlog.wait();
        if let Some((_, last)) = persists.last() {
            self.log.write(&persists)?;
            if !self.fault_fsync_delay.is_zero() {
                thread::sleep(self.fault_fsync_delay);
            }
            if persists.iter().any(|(_, persist)| persist.trim_to.is_some() || persist.reset_to.is_some()) {
                let _ = self.reader.send(ReadJob::Purge);
            }
            tell(Input::Persisted(last.number).into());
        }
        Ok(goes_on)
    }
}

/// The thread that reads the log's older part. The work is done by a helper that ends when there has been none for a while: the log
/// keeps what a thread read last for as long as that thread lives.
pub(crate) struct LogReader {
    pub(crate) group: GroupId,
    pub(crate) log: Log,
    pub(crate) jobs: Receiver<ReadJob>,
    pub(crate) inbox: Inbox,
    pub(crate) fatal: Fatal,
}

impl LogReader {
    pub(crate) fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            let goes_on = thread::scope(|scope| scope.spawn(|| self.work(job)).join());
            if !goes_on.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                return;
            }
        }
    }

    /// Does this job and those that soon follow. False: there are to be no more.
    fn work(&self, mut job: ReadJob) -> bool {
        loop {
            let done = match job {
                ReadJob::Read { low, high, bytes_max } => {
                    self.log.read(self.group, low, high, bytes_max).map_err(|error| error.to_string()).map(
                        |entries| {
                            let _ = self.inbox.send(Input::LogRead(LogRead { low, entries }).into());
                        },
                    )
                }
                ReadJob::Purge => self.log.purge().map_err(|error| error.to_string()),
                ReadJob::Stop => return false,
            };
            if let Err(error) = done {
                self.fatal.report(error);
                return false;
            }
            match self.jobs.recv_timeout(HELPER_IDLE_MAX) {
                Ok(next) => job = next,
                Err(_) => return true,
            }
        }
    }
}
