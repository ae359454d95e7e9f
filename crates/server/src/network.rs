//! The network threads: all sockets, and the core's turn after each look at them.
//!
//! Each thread is a runtime of its own, and a connection stays on its thread. One look at the sockets finds many of them readable; every
//! task among these parses what its socket has and leaves it at the thread's [`Desk`]. When all have run, the desk takes the core's
//! turn once, for all they left. What the log and apply threads have done is left at the first thread's desk. Answers go the other way:
//! one wake-up of a thread carries those to all of its connections. (Threads with a runtime each, without work stealing: as memcached
//! and Envoy have it.)
//!
//! A thread also does what little work a turn leaves to its taker: to change threads twice costs more. If that takes long,
//! somebody stands in for it at its sockets.

mod stand_in;

use std::{
    collections::VecDeque,
    io,
    num::NonZero,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, ThreadId},
    time::Duration,
};

use crossbeam_channel::{SendError, TrySendError};
use pontoon_replica::Answer;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{Notify, mpsc::UnboundedSender, oneshot},
};

pub(crate) use self::stand_in::StandIns;
use self::stand_in::{Post, StandIn};
use crate::inbox::{Event, Inbox, Taker, Work};

/// How long a stopping thread waits for work that it gave to others (files of snapshots, names of members).
const FAREWELL: Duration = Duration::from_secs(1);

/// After so many pieces of work a thread does none that came of them before it looks at its sockets again.
const PIECES_MAX: usize = 4;

/// Answers to one connection, by the request's number.
pub(crate) type AnswerBatch = Vec<(u32, Answer)>;

/// Where events are left for the core's next turn on one network thread, and answers for the connections of that thread.
pub struct Desk {
    inbox: Inbox,
    /// There is something at the desk.
    left: Notify,
    answers: Mutex<Vec<(UnboundedSender<AnswerBatch>, AnswerBatch)>>,
    /// What turns left to be done, and that there is some.
    work: Mutex<Vec<Work>>,
    has_work: Notify,
    /// The one that serves it.
    thread: OnceLock<ThreadId>,
    /// How often the thread has begun work or ended it: odd while it is at work.
    changes: AtomicU64,
    /// It has ended it.
    done: Notify,
}

impl Desk {
    /// One before this inbox; [`Desk::run`] serves it.
    pub fn new(inbox: Inbox) -> Arc<Desk> {
        Arc::new(Desk {
            inbox,
            left: Notify::new(),
            answers: Mutex::default(),
            work: Mutex::default(),
            has_work: Notify::new(),
            thread: OnceLock::new(),
            changes: AtomicU64::new(0),
            done: Notify::new(),
        })
    }

    /// Serves the desk, on its thread: it runs after all tasks that are ready before it, as they take turns in order.
    pub async fn run(self: Arc<Desk>) {
        loop {
            self.left.notified().await;
            let taker = if self.work_at_hand().is_some() { Taker::Busy } else { Taker::Working };
            let work = self.inbox.attend(taker);
            if !work.is_empty() {
                lock(&self.work).extend(work);
                self.has_work.notify_one();
            }
            self.hand_out_answers();
        }
    }

    fn hand_out_answers(&self) {
        let answers = std::mem::take(&mut *lock(&self.answers));
        for (connection, batch) in answers {
            // A connection that has just ended wants no answers.
            let _ = connection.send(batch);
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
        lock(&self.answers).extend(batches);
        if !self.is_at_work_here() {
            self.left.notify_one();
        }
    }

    /// Waits for work.
    async fn work(&self) -> Vec<Work> {
        loop {
            let work = std::mem::take(&mut *lock(&self.work));
            if !work.is_empty() {
                return work;
            }
            self.has_work.notified().await;
        }
    }

    /// Does this work, and what follows from it.
    fn perform(&self, work: Vec<Work>) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        let mut work = VecDeque::from(work);
        let mut pieces = 0;
        while let Some(piece) = work.pop_front() {
            if !lock(&self.answers).is_empty() {
                // Should it take long, a stand-in hands them out.
                self.left.notify_one();
            }
            piece(&self.inbox);
            pieces += 1;
            work.extend(self.inbox.attend(if pieces < PIECES_MAX { Taker::Working } else { Taker::Busy }));
        }
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.done.notify_waiters();
    }

    /// Whether the caller is the thread, at work. It hands out answers when it is done: from within its runtime, where that takes no
    /// system call to wake it.
    fn is_at_work_here(&self) -> bool {
        self.work_at_hand().is_some() && self.thread.get() == Some(&thread::current().id())
    }

    /// The number of the work that the thread is at.
    fn work_at_hand(&self) -> Option<u64> {
        Some(self.changes.load(Ordering::Acquire)).filter(|number| number % 2 == 1)
    }

    /// Waits until the thread is done with this work.
    async fn done_with(&self, work: u64) {
        loop {
            let mut done = pin!(self.done.notified());
            done.as_mut().enable();
            if self.work_at_hand() != Some(work) {
                return;
            }
            done.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic holds this lock")
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
    running: Vec<Running>,
}

struct Running {
    runtime: Weak<Runtime>,
    stand_in: StandIn,
    /// The thread ends when this is gone.
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Network {
    /// Starts so many threads, each with a desk before this inbox.
    pub fn start(threads: NonZero<usize>, inbox: &Inbox) -> io::Result<Network> {
        let mut network = Network { threads: Vec::new(), running: Vec::new() };
        for _ in 0..threads.get() {
            let runtime = Builder::new_current_thread().enable_all().thread_name("pontoon-block").build()?;
            let (runtime, desk, stand_in) = (Arc::new(runtime), Desk::new(inbox.clone()), StandIn::default());
            runtime.spawn(desk.clone().run());
            network.threads.push(NetworkThread { runtime: runtime.handle().clone(), desk: desk.clone() });
            let (end, ended) = oneshot::channel();
            let (weak, its_stand_in) = (Arc::downgrade(&runtime), stand_in.clone());
            let thread = thread::Builder::new().name("pontoon-net".to_string()).spawn(move || {
                serve(&runtime, &desk, ended);
                let _ = lock(&its_stand_in).take().map(JoinHandle::join);
                if let Some(runtime) = Arc::into_inner(runtime) {
                    runtime.shutdown_timeout(FAREWELL);
                }
            })?;
            network.running.push(Running { runtime: weak, stand_in, end, thread });
        }
        Ok(network)
    }

    /// Those who look after the threads.
    pub(crate) fn stand_ins(&self) -> StandIns {
        let post = |(thread, running): (&NetworkThread, &Running)| {
            let (runtime, desk) = (running.runtime.clone(), thread.desk.clone());
            Post { runtime, desk, stand_in: running.stand_in.clone(), seen: None }
        };
        StandIns(self.threads.iter().zip(&self.running).map(post).collect())
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
        for Running { end, thread, .. } in self.running {
            drop(end);
            let _ = thread.join();
        }
    }
}

/// A network thread's life: its tasks, and the work that they leave.
fn serve(runtime: &Runtime, desk: &Desk, mut ended: oneshot::Receiver<()>) {
    let next = async |ended: &mut oneshot::Receiver<()>| {
        desk.hand_out_answers();
        tokio::select! {
            biased;
            _ = ended => None,
            work = desk.work() => Some(work),
        }
    };
    desk.thread.set(thread::current().id()).expect("one thread serves it");
    while let Some(work) = runtime.block_on(next(&mut ended)) {
        desk.perform(work);
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
        fn turn(&mut self, events_max: usize, _: Taker) -> Turn {
            let events: Vec<Event> = self.events.try_iter().take(events_max).collect();
            let stop = events.iter().any(|event| matches!(event, Event::Stop));
            self.seen.send(events.len()).expect("the test looks");
            // No turn comes by itself within a test's patience.
            if stop { Turn::Last } else { Turn::Next(Instant::now() + PATIENCE * 2, Vec::new()) }
        }
    }

    #[test]
    fn what_tasks_leave_that_are_ready_together_is_taken_in_by_one_turn() {
        const TASKS: usize = 20;
        let (inbox, events) = Inbox::new(64);
        let (teller, seen) = mpsc::channel();
        let (core, turns) = (Witness { events, seen: teller }, inbox.clone());
        let core = thread::spawn(move || turns.run(Box::new(core), || ()));
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

    /// Leaves work to the first working taker: it tells that it has begun, and ends when it is let go.
    struct Employer {
        events: Receiver<Event>,
        work: Option<Work>,
    }

    impl Turns for Employer {
        fn turn(&mut self, events_max: usize, taker: Taker) -> Turn {
            if self.events.try_iter().take(events_max).any(|event| matches!(event, Event::Stop)) {
                return Turn::Last;
            }
            let work = (taker == Taker::Working).then(|| self.work.take()).flatten();
            Turn::Next(Instant::now() + Duration::from_millis(5), work.into_iter().collect())
        }
    }

    #[test]
    fn while_a_threads_work_takes_long_its_tasks_run_all_the_same() {
        let (inbox, events) = Inbox::new(64);
        let network = Network::start(NonZero::<usize>::MIN, &inbox).expect("a thread");
        let (began, has_begun) = mpsc::channel();
        let (let_go, until_let_go) = mpsc::channel::<()>();
        let work: Work = Box::new(move |_| {
            began.send(thread::current().id()).expect("the test looks");
            let _ = until_let_go.recv();
        });
        let core = Employer { events, work: Some(work) };
        let (turns, mut stand_ins) = (inbox.clone(), network.stand_ins());
        let core = thread::spawn(move || turns.run(Box::new(core), || stand_ins.look()));
        let NetworkThread { runtime, desk } = network.first().clone();
        // The core thread may take an event in by itself, and does no work.
        let worker = (0..1_000).find_map(|_| {
            desk.try_leave(Input::Unreachable(NodeId(1)).into()).expect("there is room");
            has_begun.recv_timeout(Duration::from_millis(20)).ok()
        });
        let run_a_task = || {
            let (told, tells) = mpsc::channel();
            runtime.spawn(async move { told.send(thread::current().id()) });
            tells.recv_timeout(PATIENCE).expect("the task runs")
        };
        let stand_in = run_a_task();
        assert_ne!(Some(stand_in), worker);
        let_go.send(()).expect("the work is still at hand");
        let back = (0..10_000).any(|_| Some(run_a_task()) == worker);
        assert!(back, "the thread serves its sockets again");
        inbox.send(Event::Stop).expect("the core is there");
        core.join().expect("no panic");
        network.stop();
    }
}
