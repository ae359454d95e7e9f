//! The log's threads: one writes and syncs, one reads for followers that lag and purges what was trimmed.

use std::{sync::Arc, thread, time::Duration};

use crossbeam_channel::{Receiver, Sender};
use pontoon_kv::{GroupId, Index};
use pontoon_replica::{Input, LogRead, Persist};
use pontoon_storage::Log;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Backlog, Fatal};
use crate::{inbox::Inbox, network::Desk};

/// Persists that are written together share one fsync; this many at most.
const PERSISTS_PER_WRITE_MAX: usize = 1024;

/// How long the reader's helper waits for more to do.
const HELPER_IDLE_MAX: Duration = Duration::from_millis(100);

/// What the log thread does.
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

/// The thread that writes the log.
pub(crate) struct LogWriter {
    pub(crate) group: GroupId,
    pub(crate) log: Log,
    pub(crate) jobs: UnboundedReceiver<LogJob>,
    pub(crate) reader: Sender<ReadJob>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) backlog: Arc<Backlog>,
    /// [`crate::Settings::fault_fsync_delay`]
    pub(crate) fault_fsync_delay: Duration,
    pub(crate) fatal: Fatal,
}

impl LogWriter {
    pub(crate) fn run(mut self) {
        let (mut jobs, mut persists) = (Vec::new(), Vec::new());
        while self.jobs.blocking_recv_many(&mut jobs, PERSISTS_PER_WRITE_MAX) > 0 {
            let mut stop = false;
            for job in jobs.drain(..) {
                match job {
                    LogJob::Persist(persist) => persists.push((self.group, persist)),
                    LogJob::Stop => stop = true,
                }
            }
            self.backlog.wait();
            if let Some((_, last)) = persists.last() {
                let number = last.number;
                if let Err(error) = self.log.write(&persists) {
                    return self.fatal.report(error);
                }
                if !self.fault_fsync_delay.is_zero() {
                    thread::sleep(self.fault_fsync_delay);
                }
                if persists.iter().any(|(_, persist)| persist.trim_to.is_some() || persist.reset_to.is_some())
                {
                    let _ = self.reader.send(ReadJob::Purge);
                }
                let _ = self.desk.leave(Input::Persisted(number).into());
                persists.clear();
            }
            if stop {
                return;
            }
        }
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
