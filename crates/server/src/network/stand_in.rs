//! Who serves the sockets of a network thread whose work takes long: a disk that hangs must not silence a server.

use std::{
    sync::{Arc, Mutex, Weak},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use super::{Desk, lock};

/// Work takes long if it has been seen for so long. (It is looked at once a tick, so that is one or two ticks.)
const LONG: Duration = Duration::from_millis(10);

/// The thread that stands in for another, if there is one.
pub(super) type StandIn = Arc<Mutex<Option<JoinHandle<()>>>>;

/// Looks after network threads that are at work.
pub(crate) struct StandIns(pub(super) Vec<Post>);

/// A network thread's place.
pub(super) struct Post {
    pub(super) runtime: Weak<Runtime>,
    pub(super) desk: Arc<Desk>,
    pub(super) stand_in: StandIn,
    /// The work that the thread was at when it was looked at, since when.
    pub(super) seen: Option<(u64, Instant)>,
}

impl StandIns {
    /// To be called by who has the clock. A thread that has been at the same work for long gets a stand-in, which runs its tasks until it
    /// is back.
    pub(crate) fn look(&mut self) {
        self.0.iter_mut().for_each(Post::look);
    }
}

impl Post {
    fn look(&mut self) {
        let Some(work) = self.desk.work_at_hand() else {
            self.seen = None;
            return;
        };
        match self.seen {
            Some((seen, since)) if seen == work => {
                if since.elapsed() >= LONG {
                    self.stand_in(work);
                }
            }
            _ => self.seen = Some((work, Instant::now())),
        }
    }

    fn stand_in(&self, work: u64) {
        let mut stand_in = lock(&self.stand_in);
        if stand_in.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let Some(runtime) = self.runtime.upgrade() else { return };
        let desk = self.desk.clone();
        let run = move || runtime.block_on(desk.done_with(work));
        // Without a thread the sockets wait until the work is done.
        *stand_in = thread::Builder::new().name("pontoon-standin".to_string()).spawn(run).ok();
    }
}
