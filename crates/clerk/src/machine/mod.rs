//! What a clerk decides, as a function of what happens to it: no sockets, no clock, no randomness but a seed.
//!
//! [`Machine::step`] takes an [`Input`], named for what happened, and the time; [`Machine::outputs`] hands out what is to be
//! done about it. The async half of this crate performs it on sockets, the simulator on a network of its own.
//!
//! ```text
//!   Submit, Connected, Lost, Reply, Tick, Close        Connect, Send, Disconnect, Finish, Closed
//!        performer ──────────► Machine::step ──► Machine::outputs ──────────► performer
//! ```
//!
//! - A write gets a place in the session's window, `(session, seq)`, when it is first sent, and keeps it through all
//!   retries: servers execute it once, however many copies reach them.
//! - All calls share one connection per server; one server is preferred until it fails. Replies come in the order of the
//!   requests on each connection.
//! - A copy of a write ends *surely not executed* (the server says so), *unknown* (the server says so, or the connection was
//!   lost) or with a result. Once a copy had an unknown end, only a result can make the call's outcome known.
//! - At its deadline a call ends in any case. Its seq is given up: `ack` moves past it, and the servers refuse late copies.

mod calls;
mod jitter;
mod link;
mod sending;
mod session;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use pontoon_wire::resp::Value;

use crate::ClerkError;
use calls::{Call, Queues};
use jitter::Jitter;
use link::{Choice, Links, Owner};
use session::Session;
use verdict::Verdict;

pub use sending::Sending;

/// Names a call to the performer, which chooses it; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names a connection; the machine chooses it and never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a caller wants, as the words of a command. Cloning it is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Changes nothing: it needs no session and is repeated freely.
    Read(Arc<[Bytes]>),
    /// To be executed exactly once.
    Write(Arc<[Bytes]>),
}

/// What the machine goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The servers' names; they are only used in texts. At least one.
    pub servers: Vec<String>,
    /// Calls in flight, and the session's window: at most the servers' `session_window`.
    pub inflight_max: usize,
    /// A connection that takes longer to open has failed.
    pub connect_timeout: Duration,
    /// A server that owes replies and sends nothing for this long is given up, and its calls go to another.
    pub silence_max: Duration,
    /// An idle session is kept alive at a third of this; at most the servers' `session_ttl_ms`.
    pub session_ttl: Duration,
    /// The wait before the first retry; it doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest wait between two retries.
    pub backoff_max: Duration,
    /// Spreads waits and the choice of the first server; the same seed decides the same.
    pub seed: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A caller asks. The outcome comes as [`Output::Finish`], at the deadline at the latest.
    Submit {
        /// Names the call.
        call: CallId,
        /// What it wants.
        request: Request,
        /// On the clock of [`Machine::step`].
        deadline: Duration,
    },
    /// The connection is open (and authenticated).
    Connected(ConnectionId),
    /// The server does not let us in: the password is wrong or missing.
    Refused(ConnectionId, String),
    /// The connection could not be opened, or is lost.
    Lost(ConnectionId, String),
    /// The next reply came.
    Reply(ConnectionId, Value),
    /// Time has passed: [`Machine::wake_at`].
    Tick,
    /// Finish what was asked, end the session, and then [`Output::Closed`].
    Close,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Open a connection to the server of this number; answer with `Connected`, `Refused` or `Lost`.
    Connect {
        /// Its name from now on.
        connection: ConnectionId,
        /// An index into [`Settings::servers`].
        server: usize,
    },
    /// Close this connection; nothing of it is wanted any more.
    Disconnect(ConnectionId),
    /// Send this after all that was sent before on this connection.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        sending: Sending,
    },
    /// Tell the caller.
    Finish {
        /// Whom.
        call: CallId,
        /// The reply of the one execution, or why there is none.
        outcome: Result<Value, ClerkError>,
    },
    /// The session is ended (or was left to expire); no more comes.
    Closed,
}

/// The state machine. See the [module](self).
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    now: Duration,
    jitter: Jitter,
    links: Links,
    session: Session,
    calls: BTreeMap<CallId, Call>,
    queues: Queues,
    /// Calls that were sent at least once in their present session and have no outcome yet.
    active: usize,
    timers: BTreeSet<(Duration, Timer)>,
    stage: Stage,
    /// What went wrong last, for texts.
    trouble: Option<String>,
    outputs: Vec<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Closing,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Deadline(CallId),
    Retry(CallId),
    Link(usize),
    OpenSession,
    KeepAlive,
}

/// What goes over the wire next.
enum Next {
    Again(CallId),
    Read(CallId),
    Write(CallId),
    OpenSession,
    KeepAlive(u64),
    CloseSession(u64),
}

impl Machine {
    /// A machine that has done nothing yet.
    ///
    /// # Panics
    /// If there is no server, or `inflight_max` is 0.
    pub fn new(settings: Settings) -> Machine {
        assert!(!settings.servers.is_empty(), "a clerk has at least one server");
        assert!(settings.inflight_max > 0, "a clerk has room for at least one call");
        Machine {
            now: Duration::ZERO,
            jitter: Jitter::new(settings.seed),
            links: Links::new(settings.servers.len(), settings.seed),
            session: Session::None,
            calls: BTreeMap::new(),
            queues: Queues::default(),
            active: 0,
            timers: BTreeSet::new(),
            stage: Stage::Serving,
            trouble: None,
            outputs: Vec::new(),
            settings,
        }
    }

    /// Goes on with what happened at `now` (time since any fixed moment; it never goes back).
    pub fn step(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Submit { call, request, deadline } => self.submit(call, request, deadline),
            Input::Connected(connection) => self.links.connected(connection, self.now),
            Input::Refused(connection, why) => self.refused(connection, why),
            Input::Lost(connection, why) => self.lost(connection, &why),
            Input::Reply(connection, value) => self.replied(connection, value),
            Input::Tick => {}
            Input::Close if self.stage == Stage::Serving => self.stage = Stage::Closing,
            Input::Close => {}
        }
        self.fire_timers();
        self.pump();
        self.close_if_done();
        self.check();
    }

    /// What is to be done since the last call.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// When to step with [`Input::Tick`] if nothing else happens before; it may change with every step.
    pub fn wake_at(&self) -> Option<Duration> {
        self.timers.first().map(|&(at, _)| at)
    }

    fn fire_timers(&mut self) {
        while let Some((_, timer)) = self.timers.first().copied().filter(|&(at, _)| at <= self.now) {
            self.timers.pop_first();
            match timer {
                Timer::Deadline(call) => self.deadline_passed(call),
                Timer::Retry(call) => self.rested(call),
                Timer::Link(server) => self.check_link(server),
                // What was waited for is due now, and `pump` sees it.
                Timer::OpenSession => {}
                Timer::KeepAlive => self.arm_keepalive(),
            }
        }
    }

    /// Sends what can be sent.
    fn pump(&mut self) {
        while let Some(next) = self.next() {
            match self.links.choose(self.now) {
                Choice::Use { server, connection } => self.send(server, connection, next),
                Choice::Connect(server) => {
                    let connection = self.links.connecting(server, self.now + self.settings.connect_timeout);
                    self.outputs.push(Output::Connect { connection, server });
                    self.arm_link(server);
                    return;
                }
                Choice::Wait => return,
            }
        }
    }

    fn next(&mut self) -> Option<Next> {
        if let Some(call) = self.queues.again(&self.calls) {
            return Some(Next::Again(call));
        }
        let room = self.active < self.settings.inflight_max;
        if room && let Some(call) = self.queues.read(&self.calls) {
            return Some(Next::Read(call));
        }
        if let Some(call) = self.queues.write(&self.calls) {
            match &self.session {
                Session::None => return Some(Next::OpenSession),
                Session::Opening(opening) if opening.is_due(self.now) => return Some(Next::OpenSession),
                Session::Open(open) if room && open.has_room(self.settings.inflight_max) => {
                    return Some(Next::Write(call));
                }
                _ => {}
            }
        }
        let Session::Open(open) = &self.session else { return None };
        match self.stage {
            Stage::Serving if open.keepalive_is_due(self.now) => Some(Next::KeepAlive(open.sid)),
            Stage::Closing if self.calls.is_empty() && !open.closing => Some(Next::CloseSession(open.sid)),
            _ => None,
        }
    }

    fn send(&mut self, server: usize, connection: ConnectionId, next: Next) {
        let (owner, sending) = match next {
            Next::Again(call) => {
                self.queues.again.pop_front();
                self.call_sending(call)
            }
            Next::Read(call) => {
                self.queues.reads.pop_front();
                self.call_sending(call)
            }
            Next::Write(call) => {
                self.queues.writes.pop_front();
                self.give_slot(call);
                self.call_sending(call)
            }
            Next::OpenSession => {
                self.session.open_sent();
                (Owner::OpenSession, Sending::OpenSession)
            }
            Next::KeepAlive(sid) => {
                self.session.keepalive_sent();
                (Owner::KeepAlive, Sending::KeepAlive { sid })
            }
            Next::CloseSession(sid) => {
                self.session.close_sent();
                (Owner::CloseSession, Sending::CloseSession { sid })
            }
        };
        self.links.sent(server, owner, self.now);
        self.arm_link(server);
        self.outputs.push(Output::Send { connection, sending });
    }

    /// The server of this connection is not to be used for now; what it owes has an unknown end.
    fn lost(&mut self, connection: ConnectionId, why: &str) {
        let Some(server) = self.links.server_of(connection) else { return };
        let rest = self.jitter.backoff(&self.settings, self.links.failures(server));
        let owed = self.links.failed(server, self.now + rest);
        self.arm_link(server);
        let why = format!("{}: {why}", self.settings.servers[server]);
        self.trouble = Some(why.clone());
        for pending in owed {
            match pending.owner {
                Owner::Call(call) => self.copy_end_unknown(call, &why),
                Owner::OpenSession => self.open_failed(),
                Owner::KeepAlive => self.keepalive_failed(),
                Owner::CloseSession => {}
            }
        }
        if self.stage == Stage::Closing && self.calls.is_empty() {
            // One attempt is enough: a session that is not closed expires.
            self.closed();
        }
    }

    fn refused(&mut self, connection: ConnectionId, why: String) {
        self.lost(connection, &why);
        // No server is expected to take a wrong password, so nobody waits for the deadline to hear that. A server that is
        // full or about to stop is another matter.
        if let Verdict::Refused(why) | Verdict::Wrong(why) = Verdict::of(Value::Error(why.into())) {
            self.reject_unsent(&why, |_| true);
        }
    }

    fn replied(&mut self, connection: ConnectionId, value: Value) {
        let Some(server) = self.links.server_of(connection) else { return };
        let Some(pending) = self.links.answered(server, self.now) else {
            self.outputs.push(Output::Disconnect(connection));
            return self.lost(connection, "it sent a reply that nobody asked for");
        };
        match pending.owner {
            Owner::Call(call) => self.call_replied(call, server, pending.sent_at, value),
            Owner::OpenSession => self.open_replied(server, pending.sent_at, value),
            Owner::KeepAlive => self.keepalive_replied(pending.sent_at, value),
            Owner::CloseSession => self.closed(),
        }
    }

    /// The link's alarm rang: it took too long to connect or to answer, or it has rested enough.
    fn check_link(&mut self, server: usize) {
        self.links.alarm_rang(server);
        if let Some((connection, why)) = self.links.overdue(server, self.now, self.settings.silence_max) {
            self.outputs.push(Output::Disconnect(connection));
            self.lost(connection, why);
        }
        self.arm_link(server);
    }

    fn arm_link(&mut self, server: usize) {
        let (old, new) = self.links.set_alarm(server, self.now, self.settings.silence_max);
        if old != new {
            old.map(|at| self.timers.remove(&(at, Timer::Link(server))));
            new.map(|at| self.timers.insert((at, Timer::Link(server))));
        }
    }

    fn close_if_done(&mut self) {
        if self.stage == Stage::Closing && self.calls.is_empty() && !self.session.needs_closing() {
            self.closed();
        }
    }

    fn closed(&mut self) {
        if self.stage != Stage::Closed {
            self.stage = Stage::Closed;
            self.session = Session::None;
            self.timers.clear();
            self.outputs.push(Output::Closed);
        }
    }

    /// What must hold between two steps.
    fn check(&self) {
        assert!(self.active <= self.settings.inflight_max, "{} calls are in flight", self.active);
        if let Session::Open(open) = &self.session {
            open.check(self.settings.inflight_max);
        }
    }
}
