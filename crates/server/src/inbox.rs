//! What waits for the core, and who takes the core's turn.
//!
//! Every event goes into one queue. What a request waits for is left there by way of a [`Desk`](crate::network::Desk), whose network
//! thread takes the core's turn, if nobody is at it: it has the sockets that are to be read and written then, and a change of threads
//! costs more than the turn itself. If somebody is, a later turn carries all that has come in meanwhile. The rest, and the clock, is
//! the core thread's. (The idea is that of flat combining: Hendler et al., SPAA 2010.)

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{Ordering, fence},
    },
    thread::{self, Thread},
    time::Instant,
};

use crossbeam_channel::{Receiver, SendError, Sender, TrySendError, bounded};
use pontoon_replica::{Input, Message, Request, Ticket};

/// Something for the core.
#[derive(Debug)]
pub enum Event {
    /// Requests of one connection, in its order.
    Requests(Vec<(Ticket, Request)>),
    /// Messages of one member, in its order.
    Messages(Vec<Message>),
    /// Anything else that happened. (Boxed: all slots of the inbox are as large as its largest event.)
    Input(Box<Input>),
    /// The core is to end.
    Stop,
}

impl From<Input> for Event {
    fn from(input: Input) -> Event {
        Event::Input(Box::new(input))
    }
}

/// Events that a thread other than the core's takes in at most: it has work of its own.
const EVENTS_BESIDE_MAX: usize = 64;
/// Events of one turn, at most: a turn must end for its requests to get anywhere.
const EVENTS_PER_TURN_MAX: usize = 4096;

/// Takes events in and performs what follows from them.
pub(crate) trait Turns: Send {
    /// One turn, with so many events at most.
    fn turn(&mut self, events_max: usize, taker: Taker) -> Turn;
}

/// Who takes a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taker {
    /// Somebody who must not wait for a disk.
    Busy,
    /// Somebody who does at once what work the turn leaves.
    Working,
}

/// Work that a turn leaves to its taker. It may wait for a disk, though hardly ever for long, and adds events to the inbox.
pub(crate) type Work = Box<dyn FnOnce(&Inbox) + Send>;

/// How a turn ended.
pub(crate) enum Turn {
    /// There must be a turn at this time, whether there are events or not. A working taker has this to do now.
    Next(Instant, Vec<Work>),
    /// There is to be no further one.
    Last,
}

/// A cheap handle on the queue and on the core behind it.
#[derive(Clone)]
pub struct Inbox {
    queue: Sender<Event>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// None before [`Inbox::run`] and after the last turn.
    core: Mutex<Option<Box<dyn Turns>>>,
    /// The core thread.
    thread: OnceLock<Thread>,
}

impl Inbox {
    /// One for so many events; beyond that it is full. The core gets the other end.
    pub fn new(events_max: usize) -> (Inbox, Receiver<Event>) {
        let (queue, events) = bounded(events_max);
        (Inbox { queue, shared: Arc::default() }, events)
    }

    /// Adds an event for the core thread; waits for room.
    pub(crate) fn send(&self, event: Event) -> Result<(), SendError<Event>> {
        self.queue.send(event)?;
        self.wake();
        Ok(())
    }

    /// Adds an event, unless the inbox is full, for a turn that the caller sees to ([`Inbox::attend`]).
    pub(crate) fn try_push(&self, event: Event) -> Result<(), TrySendError<Event>> {
        self.queue.try_send(event)
    }

    /// Adds an event, for a turn that the caller sees to; waits for room.
    pub(crate) fn push(&self, event: Event) -> Result<(), SendError<Event>> {
        self.queue.send(event)
    }

    /// Takes turns on this thread until the last one, and looks around after each: at the latest when the next is due.
    pub(crate) fn run(&self, core: Box<dyn Turns>, mut look_around: impl FnMut()) {
        let _ = self.shared.thread.set(thread::current());
        *self.lock() = Some(core);
        loop {
            let turn = self.turn(&mut self.lock(), EVENTS_PER_TURN_MAX, Taker::Busy);
            let Turn::Next(next, _) = turn else { return };
            look_around();
            fence(Ordering::SeqCst);
            if self.queue.is_empty() {
                thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
        }
    }

    /// Sees to it that what was added is taken in: takes the core's turn, if nobody is at it. The caller must hold no lock that the core
    /// could want. Returns what a working taker has to do now.
    pub(crate) fn attend(&self, taker: Taker) -> Vec<Work> {
        // Whoever has the lock looks at the queue after letting it go; the fences make one of the two see the other.
        fence(Ordering::SeqCst);
        if self.queue.is_empty() {
            return Vec::new();
        }
        let Ok(mut core) = self.shared.core.try_lock() else { return Vec::new() };
        let turn = self.turn(&mut core, EVENTS_BESIDE_MAX, taker);
        drop(core);
        fence(Ordering::SeqCst);
        if matches!(turn, Turn::Last) || !self.queue.is_empty() {
            self.wake();
        }
        match turn {
            Turn::Next(_, work) => work,
            Turn::Last => Vec::new(),
        }
    }

    /// Sees to it that the core thread looks at the queue. (If it has not begun to run, it will.)
    fn wake(&self) {
        if let Some(thread) = self.shared.thread.get() {
            thread.unpark();
        }
    }

    fn turn(&self, core: &mut Option<Box<dyn Turns>>, events_max: usize, taker: Taker) -> Turn {
        let turn = core.as_mut().map_or(Turn::Last, |core| core.turn(events_max, taker));
        if matches!(turn, Turn::Last) {
            *core = None;
        }
        turn
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Turns>>> {
        self.shared.core.lock().expect("no panic holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::mpsc, thread::ThreadId, time::Duration};

    use pontoon_kv::NodeId;

    use super::*;

    /// Tells of each input who took it in.
    struct Witness {
        events: Receiver<Event>,
        seen: mpsc::Sender<(u64, ThreadId)>,
    }

    impl Turns for Witness {
        fn turn(&mut self, events_max: usize, _: Taker) -> Turn {
            for event in self.events.try_iter().take(events_max) {
                let Event::Input(input) = event else { return Turn::Last };
                let Input::Unreachable(number) = *input else { panic!("{input:?}") };
                self.seen.send((number.0, thread::current().id())).expect("the test looks");
            }
            // No turn comes by itself within a test's patience: each event must see to its own.
            Turn::Next(Instant::now() + PATIENCE * 2, Vec::new())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn event(number: u64) -> Event {
        Event::from(Input::Unreachable(NodeId(number)))
    }

    fn run() -> (Inbox, thread::JoinHandle<()>, mpsc::Receiver<(u64, ThreadId)>) {
        let (inbox, events) = Inbox::new(16);
        let (teller, seen) = mpsc::channel();
        let (core, turns) = (Witness { events, seen: teller }, inbox.clone());
        let thread = thread::spawn(move || turns.run(Box::new(core), || ()));
        // The first event tells that the core is there; who takes it in is not said.
        inbox.send(event(0)).expect("there is room");
        seen.recv_timeout(PATIENCE).expect("an event is taken in");
        (inbox, thread, seen)
    }

    fn bring(inbox: &Inbox, event: Event) -> Result<(), SendError<Event>> {
        inbox.push(event)?;
        inbox.attend(Taker::Busy);
        Ok(())
    }

    fn stop(inbox: &Inbox, thread: thread::JoinHandle<()>) {
        bring(inbox, Event::Stop).expect("the core is there");
        thread.join().expect("no panic");
    }

    #[test]
    fn a_lone_event_is_taken_in_by_the_thread_that_brings_it() {
        let (inbox, thread, seen) = run();
        // The core thread may still be at its first turn.
        let mine = (1..1_000).find(|number| {
            bring(&inbox, event(*number)).expect("the core is there");
            seen.recv_timeout(PATIENCE) == Ok((*number, thread::current().id()))
        });
        assert!(mine.is_some());
        stop(&inbox, thread);
        assert!(bring(&inbox, event(0)).is_err(), "there is no core any more");
    }

    /// A server hung: a connection reported under a lock that it was lost, took the turn, and wanted the lock again to send.
    #[test]
    fn an_event_that_is_sent_is_left_to_the_core_thread() {
        let (inbox, thread, seen) = run();
        for number in 1..1_000 {
            inbox.send(event(number)).expect("the core is there");
            assert_eq!(seen.recv_timeout(PATIENCE), Ok((number, thread.thread().id())));
        }
        stop(&inbox, thread);
    }

    #[test]
    fn no_event_is_forgotten_whoever_brings_it() {
        const EACH: u64 = 20_000;
        let (inbox, thread, seen) = run();
        thread::scope(|scope| {
            for first in [1, 1 + EACH, 1 + 2 * EACH] {
                let inbox = &inbox;
                scope.spawn(move || {
                    for number in first..first + EACH {
                        bring(inbox, event(number)).expect("the core is there");
                    }
                });
            }
            let numbers: BTreeSet<u64> = (0..3 * EACH)
                .map(|_| seen.recv_timeout(PATIENCE).expect("every event is taken in").0)
                .collect();
            assert_eq!(numbers, (1..=3 * EACH).collect());
        });
        stop(&inbox, thread);
    }
}
