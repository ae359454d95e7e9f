//! The loop over all connections, in one thread.

use std::{
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use pontoon_wire::resp::Value;

use super::{
    BenchArgs,
    link::Link,
    pace::Pace,
    requests::{Requests, Values, Work},
    tally::{Second, Tally},
};
use crate::{failure::Failure, info::Connection};

/// A server that cannot be reached within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests in flight at the end are waited for this long: longer than the time after which a server answers in any case.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// The loop looks at the clock at least this often.
const WAIT_MAX_MS: u16 = 50;
/// Events taken from the system at once.
const EVENTS_MAX: usize = 256;
/// The event of the timer; all others are numbers of connections.
const TIMER: u64 = u64::MAX;

/// All connections.
pub struct Load {
    epoll: Epoll,
    timer: TimerFd,
    /// `None`: lost.
    slots: Vec<Option<Slot>>,
    unanswered: usize,
}

struct Slot {
    link: Link,
    /// Whether it waits for room in the socket.
    blocked: bool,
}

/// What all connections do for a while.
struct Phase<'a> {
    work: Work,
    inflight_max: usize,
    pace: &'a Pace,
}

impl Load {
    /// Connects to the servers in turn, and opens the sessions.
    pub fn connect(args: &BenchArgs) -> Result<Load, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(cannot("create an epoll"))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)
            .map_err(cannot("create a timer"))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER)).map_err(cannot("watch a timer"))?;
        let values = Rc::new(Values::new(args.value_bytes.0 as usize));
        let mut slots = Vec::with_capacity(args.clients);
        for number in 0..args.clients {
            let link = connect(args, number, &values)?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            epoll.add(&link, event).map_err(cannot("watch a socket"))?;
            slots.push(Some(Slot { link, blocked: false }));
        }
        Ok(Load { epoll, timer, slots, unanswered: 0 })
    }

    /// Does this work at this pace until it is done or its time is over, and all requests are answered.
    pub fn run(
        &mut self,
        work: Work,
        inflight_max: usize,
        pace: &Pace,
        tally: &mut Tally,
        mut on_second: impl FnMut(usize, &Second),
    ) -> Result<(), Failure> {
        let phase = Phase { work, inflight_max, pace };
        for number in 0..self.slots.len() {
            if let Some(slot) = &mut self.slots[number] {
                slot.link.begin();
                self.send(number, &phase, tally);
            }
        }
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let mut turn = 0;
        loop {
            let now = Instant::now();
            let next = self.send_due(&phase, &mut turn, now, tally);
            tally.tick(now, pace.end(), &mut on_second);
            // In a closed loop a connection without a request in flight will never have one again.
            let done = self.unanswered == 0 && next.is_none_or(|_| now >= pace.end());
            if done || now >= pace.end() + DRAIN_MAX {
                break;
            }
            if let Some(due) = next {
                self.wake_at(due, now)?;
            }
            for event in self.wait(&mut events)? {
                if event.data() != TIMER {
                    self.receive(event.data() as usize, &phase, tally);
                }
            }
        }
        self.finish(&phase, tally);
        tally.finish(Instant::now(), &mut on_second);
        if self.slots.iter().any(Option::is_some) {
            Ok(())
        } else {
            Err(Failure::new(format_args!("all connections were lost: {}", tally.errors_text())))
        }
    }

    /// Ends the sessions and closes the connections.
    pub fn close(self) {
        self.slots.into_iter().flatten().for_each(|slot| slot.link.close());
    }

    /// At a fixed rate, sends what is due; when to do so next.
    fn send_due(
        &mut self,
        phase: &Phase<'_>,
        turn: &mut u64,
        now: Instant,
        tally: &mut Tally,
    ) -> Option<Instant> {
        let (first, turns) = (*turn, phase.pace.turns(now));
        let connections = self.slots.len() as u64;
        // A connection sends all that is due of it, so that one visit is enough however late it comes.
        for turn in first..turns.min(first + connections) {
            self.send((turn % connections) as usize, phase, tally);
        }
        *turn = turns;
        phase.pace.next_send(turns, now)
    }

    fn send(&mut self, number: usize, phase: &Phase<'_>, tally: &mut Tally) {
        let Some(slot) = &mut self.slots[number] else { return };
        let before = slot.link.unanswered();
        let sent = slot.link.send(phase.work, phase.inflight_max, phase.pace, Instant::now());
        self.unanswered = self.unanswered + slot.link.unanswered() - before;
        let watched = sent.and_then(|all| slot.watch(&self.epoll, number, !all));
        if let Err(error) = watched {
            self.lose(number, &error, tally);
        }
    }

    fn receive(&mut self, number: usize, phase: &Phase<'_>, tally: &mut Tally) {
        // An event may come for a connection that was lost in the same turn.
        let Some(slot) = &mut self.slots[number] else { return };
        let before = slot.link.unanswered();
        let received = slot.link.receive(phase.work, tally);
        self.unanswered = self.unanswered + slot.link.unanswered() - before;
        match received {
            Ok(()) => self.send(number, phase, tally),
            Err(error) => self.lose(number, &error, tally),
        }
    }

    fn lose(&mut self, number: usize, why: &io::Error, tally: &mut Tally) {
        if let Some(slot) = self.slots[number].take() {
            self.unanswered -= slot.link.unanswered();
            tally.lost(slot.link.unanswered(), why);
        }
    }

    /// Whoever has not answered by now is given up, and what never started is counted.
    fn finish(&mut self, phase: &Phase<'_>, tally: &mut Tally) {
        for number in 0..self.slots.len() {
            let sent = self.slots[number].as_ref().map_or(0, |slot| slot.link.sent());
            tally.unsent(phase.pace.owed(number).saturating_sub(sent));
            if self.slots[number].as_ref().is_some_and(|slot| slot.link.unanswered() > 0) {
                self.lose(number, &io::Error::other("no answer in time"), tally);
            }
        }
    }

    fn wake_at(&self, due: Instant, now: Instant) -> Result<(), Failure> {
        // Zero would disarm it.
        let wait = (due - now).max(Duration::from_nanos(1));
        self.timer
            .set(Expiration::OneShot(TimeSpec::from_duration(wait)), TimerSetTimeFlags::empty())
            .map_err(cannot("set a timer"))
    }

    fn wait<'a>(&self, events: &'a mut [EpollEvent]) -> Result<&'a [EpollEvent], Failure> {
        match self.epoll.wait(events, EpollTimeout::from(WAIT_MAX_MS)) {
            Ok(count) => Ok(&events[..count]),
            Err(Errno::EINTR) => Ok(&[]),
            Err(error) => Err(cannot("wait for sockets")(error)),
        }
    }
}

impl Slot {
    /// Has the system tell when there is room in the socket, or not any more.
    fn watch(&mut self, epoll: &Epoll, number: usize, blocked: bool) -> io::Result<()> {
        if blocked != self.blocked {
            self.blocked = blocked;
            let out = if blocked { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            epoll.modify(&self.link, &mut EpollEvent::new(EpollFlags::EPOLLIN | out, number as u64))?;
        }
        Ok(())
    }
}

fn connect(args: &BenchArgs, number: usize, values: &Rc<Values>) -> Result<Link, Failure> {
    let server = &args.client.servers[number % args.client.servers.len()];
    let failed =
        |what: &str| Failure::new(format_args!("connection {number} to {server} cannot be used: {what}"));
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut connection = Connection::open(server, args.client.password.as_deref(), deadline)
        .map_err(|error| failed(&error.to_string()))?;
    let session = match args.sessions {
        false => None,
        true => match connection.call(&["SESSION", "OPEN"], deadline) {
            Ok(Value::Integer(id)) => Some(id.unsigned_abs()),
            Ok(Value::Error(why)) => return Err(failed(&format!("it opens no session: {why}"))),
            Ok(_) => return Err(failed("it opens no session")),
            Err(error) => return Err(failed(&error.to_string())),
        },
    };
    let requests = Requests::new(number, args.clients, args.keys, values.clone(), session);
    Link::new(connection.into_stream(), number, requests).map_err(|error| failed(&error.to_string()))
}

fn cannot(what: &str) -> impl Fn(Errno) -> Failure {
    move |error| Failure::new(format_args!("cannot {what}: {error}"))
}
