//! The threads that perform what the core wants done, for one group.
//!
//! ```text
//!  client connections ─┬─► desk ─┐            ┌─► log thread ──── Persisted ─┐
//!  peer connections ───┘         ├─► inbox ─► core                           ├─► desk
//!  the clock ────────────────────┘            ├─► apply thread ── Applied ───┘
//!                                             ├─► reader thread (the log's older part, for followers that lag)
//!                                             └─► peers (tokio)
//! ```
//!
//! The core never waits for a disk or a socket. A turn takes in all that waits (up to a bound) before it asks what to do, and a leader
//! appends nothing while its disk is at work, so one fsync, one message and one apply carry many requests; a lone request is never
//! delayed to wait for company. Its turns are the network thread's ([`Desk`](crate::network::Desk)), which also applies a
//! little itself right after one, and writes a little of a follower's log. No thread spins while it waits: with few cores it would
//! take the time of the one that it waits for. (So what requests wait for sleeps at a
//! condition variable; crossbeam's channels yield some ten times before they sleep.)

mod alone;
mod apply;
mod backlog;
mod core;
mod disk;
mod jobs;
mod snapshots;
mod worker;

pub(crate) use self::{
    alone::Alone,
    apply::{Applier, Apply, ApplyJob},
    backlog::Backlog,
    core::Core,
    disk::{LogJob, LogReader, LogWriter, ReadJob, Writer},
    snapshots::{Incoming, Pinned},
    worker::Worker,
};

use crossbeam_channel::Sender;

/// Where a thread reports that this server must stop: an error of its disk that it cannot go on with.
#[derive(Clone)]
pub(crate) struct Fatal(pub(crate) Sender<String>);

impl Fatal {
    /// The first report counts; the server is stopping after it.
    pub(crate) fn report(&self, what: impl std::fmt::Display) {
        tracing::error!(reason = %what, "this server stops: it must not go on with a doubtful disk");
        let _ = self.0.try_send(what.to_string());
    }
}
