//! The network threads: all sockets, and the core's turn after each look at them.
//!
//! Each thread is a runtime of its own, and a connection stays on its thread. One look at the sockets finds many of them readable; every
//! task among these parses what its socket has and leaves it at the thread's [`Desk`]. When all have run, the desk takes the core's
//! turn once, for all they left. What the log and apply threads have done is left at the first thread's desk. Answers go the other way:
//! one wake-up of a thread carries those to all of its connections. (Threads with a runtime each, without work stealing: as memcached
//! and Envoy have it.)

use std::{
    io,
    num::NonZero,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{SendError, TrySendError};
use pontoon_replica::Answer;
use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, mpsc::UnboundedSender, oneshot},
};

use crate::inbox::{Event, Inbox};

/// How long a stopping thread waits for work that it gave to others (files of snapshots, names of members).
const FAREWELL: Duration = Duration::from_secs(1);

/// Answers to one connection, by the request's number.
pub(crate) type AnswerBatch = Vec<(u32, Answer)>;

/// Where events are left for the core's next turn on one network thread, and answers for the connections of that thread.
pub struct Desk {
    inbox: Inbox,
    /// There is something at the desk.
    left: Notify,
    answers: Mutex<Vec<(UnboundedSender<AnswerBatch>, AnswerBatch)>>,
}

impl Desk {
    /// One before this inbox; [`Desk::run`] serves it.
    pub fn new(inbox: Inbox) -> Arc<Desk> {
        Arc::new(Desk { inbox, left: Notify::new(), answers: Mutex::default() })
    }

    /// Serves the desk, on its thread: it runs after all tasks that are ready before it, as they take turns in order.
    pub async fn run(self: Arc<Desk>) {
        loop {
            self.left.notified().await;
            self.inbox.attend();
            let answers = std::mem::take(&mut *self.answers.lock().expect("no panic holds this lock"));
            for (connection, batch) in answers {
                // A connection that has just ended wants no answers.
                let _ = connection.send(batch);
            }
        }
    }

    /// Leaves an event for the core, unless its inbox is full.
    pub(crate) fn try_leave(&self, event: Event) -> Result<(), TrySendError<Event>> {
        self.inbox.try_push(event)?;
        self.left.notify_one();
        Ok(())
    }

    /// Leaves an event for the core; waits for room. Not for tasks.
    pub(crate) fn leave(&self, event: Event) -> Result<(), SendError<Event>> {
        self.inbox.push(event)?;
        self.left.notify_one();
        Ok(())
    }

    /// Leaves answers for connections of this thread.
    pub(crate) fn answer(
        &self,
        batches: impl IntoIterator<Item = (UnboundedSender<AnswerBatch>, AnswerBatch)>,
    ) {
        self.answers.lock().expect("no panic holds this lock").extend(batches);
        self.left.notify_one();
    }
}

/// A network thread, for those who put tasks on it.
#[derive(Clone)]
pub struct NetworkThread {
    /// Its runtime.
    pub runtime: Handle,
    /// Its desk.
    pub desk: Arc<Desk>,
}

/// Network threads.
pub struct Network {
    threads: Vec<NetworkThread>,
    /// Each ends when its sender is gone.
    running: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Network {
    /// Starts so many threads, each with a desk before this inbox.
    pub fn start(threads: NonZero<usize>, inbox: &Inbox) -> io::Result<Network> {
        let mut network = Network { threads: Vec::new(), running: Vec::new() };
        for _ in 0..threads.get() {
            let runtime = Builder::new_current_thread().enable_all().thread_name("pontoon-block").build()?;
            let desk = Desk::new(inbox.clone());
            runtime.spawn(desk.clone().run());
            network.threads.push(NetworkThread { runtime: runtime.handle().clone(), desk });
            let (end, ended) = oneshot::channel();
            let thread = thread::Builder::new().name("pontoon-net".to_string()).spawn(move || {
                let _ = runtime.block_on(ended);
                runtime.shutdown_timeout(FAREWELL);
            })?;
            network.running.push((end, thread));
        }
        Ok(network)
    }

    /// All of them.
    pub fn threads(&self) -> &[NetworkThread] {
        &self.threads
    }

    /// The one for what there is once.
    pub(crate) fn first(&self) -> &NetworkThread {
        &self.threads[0]
    }

    /// Ends all tasks and threads.
    pub fn stop(self) {
        for (end, thread) in self.running {
            drop(end);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use crossbeam_channel::Receiver;
    use pontoon_kv::NodeId;
    use pontoon_replica::Input;
    use tokio::{sync::Barrier, task::JoinSet};

    use super::*;
    use crate::inbox::{Turn, Turns};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Tells of each turn how many events it had.
    struct Witness {
        events: Receiver<Event>,
        seen: mpsc::Sender<usize>,
    }

    impl Turns for Witness {
        fn turn(&mut self, events_max: usize) -> Turn {
            let events: Vec<Event> = self.events.try_iter().take(events_max).collect();
            let stop = events.iter().any(|event| matches!(event, Event::Stop));
            self.seen.send(events.len()).expect("the test looks");
            // No turn comes by itself within a test's patience.
            if stop { Turn::Last } else { Turn::Next(Instant::now() + PATIENCE * 2) }
        }
    }

    #[test]
    fn what_tasks_leave_that_are_ready_together_is_taken_in_by_one_turn() {
        const TASKS: usize = 20;
        let (inbox, events) = Inbox::new(64);
        let (teller, seen) = mpsc::channel();
        let (core, turns) = (Witness { events, seen: teller }, inbox.clone());
        let core = thread::spawn(move || turns.run(Box::new(core)));
        let desk = Desk::new(inbox.clone());
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        runtime.spawn(desk.clone().run());
        let turns = || {
            runtime.block_on(async {
                let start = Arc::new(Barrier::new(TASKS));
                let tasks =
                    (0..TASKS).map(|_| (desk.clone(), start.clone())).map(|(desk, start)| async move {
                        start.wait().await;
                        desk.try_leave(Input::Unreachable(NodeId(1)).into()).expect("there is room");
                    });
                tasks.collect::<JoinSet<()>>().join_all().await;
            });
            let mut turns = Vec::new();
            while turns.iter().sum::<usize>() < TASKS {
                turns.push(seen.recv_timeout(PATIENCE).expect("all events are taken in"));
            }
            turns.retain(|events| *events > 0);
            turns
        };
        // The core thread may still be at its first turn, and then takes in what there is so far.
        assert!((0..100).any(|_| turns() == [TASKS]));
        inbox.send(Event::Stop).expect("the core is there");
        core.join().expect("no panic");
    }
}
