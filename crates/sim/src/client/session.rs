//! A client with a session: every request takes effect once, however often it is sent.

use std::collections::{BTreeMap, VecDeque};

use pontoon_kv::{Command, Refusal, Seq, SessionId};
use pontoon_replica::{Answer, NotExecuted, Request};

use super::{Act, Attempt, Caller, Ending, Op};
use crate::{rng::Rng, time::MS, world::Server};

/// An answer that takes longer than this is asked for elsewhere.
const PATIENCE_US: (u64, u64) = (300 * MS, 1_200 * MS);

/// After a refusal the next server is asked this much later.
const BACK_OFF_US: (u64, u64) = (5 * MS, 60 * MS);

/// Requests from the lowest unanswered one on that may be under way: the servers' default window.
const WINDOW: u64 = 256;

/// A request of the session.
#[derive(Debug)]
struct Call {
    op: Op,
    command: Command,
    /// The attempt that an answer is awaited of.
    attempt: Option<Attempt>,
    /// When to send it (again).
    due: u64,
    /// When the client gives up.
    deadline: u64,
    /// An attempt was sent that may have been executed, or may yet be.
    doubt: bool,
}

/// A client with a session.
#[derive(Debug)]
pub struct SessionCaller {
    rng: Rng,
    /// In this client's own order.
    servers: Vec<Server>,
    /// Whom it asks at present.
    at: usize,
    /// An operation without an outcome is given up after this long, in microseconds.
    give_up_us: u64,
    session: Option<SessionId>,
    /// The attempt to open one, and when to try again.
    opening: Option<(Attempt, u64)>,
    open_after: u64,
    next_seq: u64,
    next_attempt: Attempt,
    calls: BTreeMap<u64, Call>,
    /// Without a number yet: there is no session, or no room in its window.
    queued: VecDeque<(Op, Command, u64)>,
    attempts: BTreeMap<Attempt, u64>,
    acts: VecDeque<Act>,
}

impl SessionCaller {
    /// A client that asks these servers.
    pub fn new(mut rng: Rng, mut servers: Vec<Server>, give_up_us: u64) -> SessionCaller {
        rng.shuffle(&mut servers);
        SessionCaller {
            rng,
            servers,
            at: 0,
            give_up_us,
            session: None,
            opening: None,
            open_after: 0,
            next_seq: 1,
            next_attempt: 1,
            calls: BTreeMap::new(),
            queued: VecDeque::new(),
            attempts: BTreeMap::new(),
            acts: VecDeque::new(),
        }
    }

    /// The lowest number that has no answer yet.
    fn ack(&self) -> Seq {
        Seq(self.calls.first_key_value().map_or(self.next_seq, |(seq, _)| *seq))
    }

    fn send(&mut self, request: Request) -> Attempt {
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.acts.push_back(Act::Send { server: self.servers[self.at], attempt, request });
        attempt
    }

    fn ask_elsewhere(&mut self) {
        self.at = (self.at + 1) % self.servers.len();
    }

    fn open(&mut self, now: u64) {
        if self.session.is_some() || self.queued.is_empty() {
            return;
        }
        match self.opening {
            Some((_, until)) if now < until => return,
            Some(_) => self.ask_elsewhere(),
            None if now < self.open_after => return self.acts.push_back(Act::WakeAt(self.open_after)),
            None => {}
        }
        let attempt = self.send(Request::OpenSession);
        let until = now + self.rng.within(PATIENCE_US);
        self.opening = Some((attempt, until));
        self.acts.push_back(Act::WakeAt(until));
    }

    fn on_open_answer(&mut self, now: u64, answer: Option<Answer>) {
        self.opening = None;
        if let Some(Answer::Opened(session)) = answer {
            self.session = Some(session);
            self.next_seq = 1;
            return;
        }
        self.ask_elsewhere();
        self.open_after = now + self.rng.within(BACK_OFF_US);
    }

    /// What waited for a session, or for room in its window, gets a number.
    fn start(&mut self, now: u64) {
        while self.session.is_some() && self.next_seq < self.ack().0 + WINDOW {
            let Some((op, command, deadline)) = self.queued.pop_front() else { return };
            let seq = self.next_seq;
            self.next_seq += 1;
            self.calls.insert(seq, Call { op, command, attempt: None, due: now, deadline, doubt: false });
        }
    }

    /// Sends what is due, gives up what has taken too long.
    fn advance(&mut self, now: u64) {
        self.start(now);
        let due: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.due <= now).map(|(seq, _)| *seq).collect();
        for seq in due {
            let call = self.calls.get_mut(&seq).expect("it was just found there");
            if call.attempt.take().is_some() {
                call.doubt = true;
                self.ask_elsewhere();
            }
            let call = &self.calls[&seq];
            if now >= call.deadline {
                let ending = if call.doubt { Ending::Unknown } else { Ending::NotExecuted };
                self.finish(seq, ending);
                continue;
            }
            let session = self.session.expect("calls have a session");
            let request =
                Request::Once { session, seq: Seq(seq), ack: self.ack(), command: call.command.clone() };
            let attempt = self.send(request);
            self.attempts.insert(attempt, seq);
            let due = now + self.rng.within(PATIENCE_US);
            let call = self.calls.get_mut(&seq).expect("it is still there");
            call.attempt = Some(attempt);
            call.due = due;
            self.acts.push_back(Act::WakeAt(due));
        }
        while self.queued.front().is_some_and(|(.., deadline)| now >= *deadline) {
            let (op, ..) = self.queued.pop_front().expect("there is a front");
            self.acts.push_back(Act::End(op, Ending::NotExecuted));
        }
        self.open(now);
    }

    fn finish(&mut self, seq: u64, ending: Ending) {
        let call = self.calls.remove(&seq).expect("it ends once");
        self.attempts.retain(|_, of| *of != seq);
        self.acts.push_back(Act::End(call.op, ending));
    }

    /// The session is gone: what surely was not executed in it is asked for in another.
    fn session_lost(&mut self) {
        self.session = None;
        self.attempts.clear();
        for (_, call) in std::mem::take(&mut self.calls) {
            if call.doubt || call.attempt.is_some() {
                self.acts.push_back(Act::End(call.op, Ending::Unknown));
            } else {
                self.queued.push_back((call.op, call.command, call.deadline));
            }
        }
    }

    fn retry(&mut self, now: u64, seq: u64, doubt: bool) {
        let due = now + self.rng.within(BACK_OFF_US);
        self.ask_elsewhere();
        let call = self.calls.get_mut(&seq).expect("it waits");
        call.attempt = None;
        call.doubt |= doubt;
        call.due = due;
        self.acts.push_back(Act::WakeAt(due));
    }
}

impl Caller for SessionCaller {
    fn call(&mut self, now: u64, op: Op, command: Command) {
        self.queued.push_back((op, command, now + self.give_up_us));
        self.advance(now);
    }

    fn on_answer(&mut self, now: u64, attempt: Attempt, answer: Option<Answer>) {
        if self.opening.is_some_and(|(opening, _)| opening == attempt) {
            self.on_open_answer(now, answer);
            return self.advance(now);
        }
        let Some(seq) = self.attempts.remove(&attempt) else { return };
        let current = self.calls[&seq].attempt == Some(attempt);
        match answer {
            Some(Answer::Reply(reply)) => self.finish(seq, Ending::Reply(reply)),
            Some(Answer::NotExecuted(NotExecuted::Refused(Refusal::SessionUnknown))) => {
                let call = self.calls.get_mut(&seq).expect("it waits");
                call.attempt = call.attempt.filter(|waiting| *waiting != attempt);
                self.session_lost();
            }
            Some(Answer::NotExecuted(NotExecuted::Refused(refusal))) => {
                panic!("a client that keeps the rules was refused: {refusal}")
            }
            Some(Answer::NotExecuted(_)) if current => self.retry(now, seq, false),
            Some(Answer::Unknown(_)) | None if current => self.retry(now, seq, true),
            Some(Answer::NotExecuted(_) | Answer::Unknown(_)) | None => {}
            Some(answer) => panic!("a command was answered with {answer:?}"),
        }
        self.advance(now);
    }

    fn on_wake(&mut self, now: u64) {
        self.advance(now);
    }

    fn set_servers(&mut self, servers: Vec<Server>) {
        self.servers = servers;
        self.rng.shuffle(&mut self.servers);
        self.at = 0;
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}
