//! The life of a call: it waits, is sent, rests after a failure, is sent again, and has an outcome.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use pontoon_wire::resp::Value;

use super::{
    CallId, Machine, Output, Request, Stage, Timer,
    link::Owner,
    sending::Sending,
    session::{Session, Slot},
    verdict::Verdict,
};
use crate::ClerkError;

/// A call without an outcome yet.
#[derive(Debug)]
pub(super) struct Call {
    request: Request,
    deadline: Duration,
    place: Place,
    /// A write's place in a session, from its first sending there.
    slot: Option<Slot>,
    /// A copy of it had an unknown end: only a result makes its outcome known.
    maybe: bool,
    /// Copies that came to nothing.
    failures: u32,
    /// Why the last one did.
    trouble: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Waits for room; no copy of it is anywhere that could still be executed in its present session.
    Fresh,
    /// On a connection.
    Sent,
    /// Until this moment after a failure.
    Resting(Duration),
    /// Waits to be sent again.
    Again,
}

/// Who waits to be sent. A call that has ended in the meantime may still be named here; it is passed over.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) again: VecDeque<CallId>,
    pub(super) reads: VecDeque<CallId>,
    pub(super) writes: VecDeque<CallId>,
}

impl Queues {
    pub(super) fn again(&mut self, calls: &BTreeMap<CallId, Call>) -> Option<CallId> {
        front(&mut self.again, calls, Place::Again)
    }

    pub(super) fn read(&mut self, calls: &BTreeMap<CallId, Call>) -> Option<CallId> {
        front(&mut self.reads, calls, Place::Fresh)
    }

    pub(super) fn write(&mut self, calls: &BTreeMap<CallId, Call>) -> Option<CallId> {
        front(&mut self.writes, calls, Place::Fresh)
    }
}

fn front(queue: &mut VecDeque<CallId>, calls: &BTreeMap<CallId, Call>, place: Place) -> Option<CallId> {
    while let Some(id) = queue.front() {
        if calls.get(id).is_some_and(|call| call.place == place) {
            return Some(*id);
        }
        queue.pop_front();
    }
    None
}

impl Call {
    fn is_write(&self) -> bool {
        matches!(self.request, Request::Write(_))
    }

    fn command(&self) -> &Arc<[Bytes]> {
        let (Request::Read(command) | Request::Write(command)) = &self.request;
        command
    }

    /// Nothing more can be learnt about it: an earlier copy may have been executed, or none was.
    fn without_result(&self, why: String) -> ClerkError {
        if self.maybe { ClerkError::Unknown { why } } else { ClerkError::NotExecuted { why } }
    }
}

impl Machine {
    pub(super) fn submit(&mut self, id: CallId, request: Request, deadline: Duration) {
        if self.stage != Stage::Serving {
            let why = "the clerk is closed".to_string();
            return self
                .outputs
                .push(Output::Finish { call: id, outcome: Err(ClerkError::NotExecuted { why }) });
        }
        let queue = match request {
            Request::Read(_) => &mut self.queues.reads,
            Request::Write(_) => &mut self.queues.writes,
        };
        queue.push_back(id);
        let call = Call {
            request,
            deadline,
            place: Place::Fresh,
            slot: None,
            maybe: false,
            failures: 0,
            trouble: None,
        };
        assert!(self.calls.insert(id, call).is_none(), "call {} was submitted twice", id.0);
        self.timers.insert((deadline, Timer::Deadline(id)));
    }

    /// Makes it a call on a connection, and says what to send.
    pub(super) fn call_sending(&mut self, id: CallId) -> (Owner, Sending) {
        self.set_place(id, Place::Sent);
        let call = &self.calls[&id];
        let command = call.command().clone();
        let sending = match call.slot {
            None => Sending::Plain(command),
            Some(Slot { sid, seq }) => {
                let Session::Open(open) = &self.session else {
                    unreachable!("a slot is of the open session")
                };
                assert_eq!(open.sid, sid, "a call is only ever sent in the open session");
                Sending::Once { sid, seq, ack: open.ack(), command }
            }
        };
        (Owner::Call(id), sending)
    }

    pub(super) fn give_slot(&mut self, id: CallId) {
        let Session::Open(open) = &mut self.session else {
            unreachable!("slots are given in an open session only")
        };
        let slot = open.take_slot();
        self.calls.get_mut(&id).expect("a queued call was found alive").slot = Some(slot);
    }

    pub(super) fn call_replied(&mut self, id: CallId, server: usize, sent_at: Duration, value: Value) {
        let verdict = Verdict::of(value);
        // The call may have ended at its deadline.
        let Some(call) = self.calls.get_mut(&id) else { return };
        match verdict {
            // It was executed, now or by an earlier copy.
            Verdict::Result(value) => {
                self.session_touched(id, sent_at);
                self.finish(id, Ok(value));
            }
            // It is wrong, and would be on any server; it changed nothing.
            Verdict::Wrong(why) => self.finish(id, Err(ClerkError::Rejected(why))),
            // This copy was turned away at the door.
            Verdict::Refused(why) => {
                let error = if call.maybe { ClerkError::Unknown { why } } else { ClerkError::Rejected(why) };
                self.finish(id, Err(error));
            }
            // This copy was not executed; another may be.
            Verdict::TryAgain { why, elsewhere } => {
                if elsewhere {
                    self.links.avoid(server);
                }
                self.retry_or_end(id, why);
            }
            // Its session is gone: no copy will be executed from now on.
            Verdict::SessionGone(why) => {
                let slot = call.slot;
                self.session_gone(slot);
                self.retry_or_end(id, why);
            }
            // The servers take it for given up: no copy will be executed from now on.
            Verdict::Stale(why) => {
                let error = call.without_result(why);
                self.finish(id, Err(error));
            }
            // Nobody knows of this copy.
            Verdict::Unknown(why) => {
                self.links.avoid(server);
                self.copy_end_unknown(id, &why);
            }
        }
    }

    /// A copy may have been executed, or may yet be.
    pub(super) fn copy_end_unknown(&mut self, id: CallId, why: &str) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.maybe |= call.is_write();
        self.retry_or_end(id, why.to_string());
    }

    /// Goes on with a call whose last copy came to nothing.
    fn retry_or_end(&mut self, id: CallId, why: String) {
        let current = self.session.sid();
        let call = self.calls.get_mut(&id).expect("the caller has seen it alive");
        call.trouble = Some(why.clone());
        if let Some(slot) = call.slot
            && current != Some(slot.sid)
        {
            if call.maybe {
                // Another session would execute it a second time.
                return self.finish(id, Err(ClerkError::Unknown { why }));
            }
            call.slot = None;
        }
        let rest = self.jitter.backoff(&self.settings, call.failures);
        call.failures += 1;
        let until = self.now + rest;
        self.set_place(id, Place::Resting(until));
        self.timers.insert((until, Timer::Retry(id)));
    }

    pub(super) fn rested(&mut self, id: CallId) {
        let call = &self.calls[&id];
        if call.is_write() && call.slot.is_none() {
            self.queues.writes.push_front(id);
            self.set_place(id, Place::Fresh);
        } else {
            self.queues.again.push_back(id);
            self.set_place(id, Place::Again);
        }
    }

    /// The session of these calls is gone. Those on a connection wait for what becomes of that copy.
    pub(super) fn leave_session(&mut self, sid: u64) {
        let of_session =
            |call: &Call| call.slot.is_some_and(|slot| slot.sid == sid) && call.place != Place::Sent;
        let waiting: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| of_session(call)).map(|(&id, _)| id).collect();
        // From the back, so that those moved to the front of the queue keep their order.
        for id in waiting.into_iter().rev() {
            let call = self.calls.get_mut(&id).expect("it was just found");
            if call.maybe {
                let why = "the session expired before a retry had a result".to_string();
                self.finish(id, Err(ClerkError::Unknown { why }));
                continue;
            }
            call.slot = None;
            if call.place == Place::Again {
                self.queues.writes.push_front(id);
                self.set_place(id, Place::Fresh);
            }
        }
    }

    pub(super) fn deadline_passed(&mut self, id: CallId) {
        let call = self.calls.get_mut(&id).expect("a call's timers end with it");
        // The copy on its way may be executed.
        call.maybe |= call.place == Place::Sent && call.is_write();
        let trouble = call.trouble.as_ref().or(self.trouble.as_ref());
        let why = match trouble {
            Some(trouble) => format!("no answer before the deadline; the last trouble was: {trouble}"),
            None => "no answer before the deadline".to_string(),
        };
        let error = call.without_result(why);
        self.finish(id, Err(error));
    }

    /// Ends all writes that wait for a session, none of whose copies is anywhere.
    pub(super) fn reject_fresh_writes(&mut self, why: &str) {
        self.reject_unsent(why, |call| call.is_write() && call.slot.is_none());
    }

    /// Ends those calls that were surely not executed and are not on a connection.
    pub(super) fn reject_unsent(&mut self, why: &str, which: impl Fn(&Call) -> bool) {
        let unsent = |call: &Call| call.place != Place::Sent && !call.maybe && which(call);
        let rejected: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| unsent(call)).map(|(&id, _)| id).collect();
        for id in rejected {
            self.finish(id, Err(ClerkError::Rejected(why.to_string())));
        }
    }

    pub(super) fn slot_of(&self, id: CallId) -> Option<Slot> {
        self.calls.get(&id).and_then(|call| call.slot)
    }

    fn finish(&mut self, id: CallId, outcome: Result<Value, ClerkError>) {
        self.set_place(id, Place::Fresh);
        let call = self.calls.remove(&id).expect("a call has one outcome");
        self.timers.remove(&(call.deadline, Timer::Deadline(id)));
        if let (Some(slot), Session::Open(open)) = (call.slot, &mut self.session)
            && open.sid == slot.sid
        {
            open.give_back(slot.seq);
        }
        self.outputs.push(Output::Finish { call: id, outcome });
    }

    /// Keeps count of active calls and of the retry timer.
    fn set_place(&mut self, id: CallId, place: Place) {
        let call = self.calls.get_mut(&id).expect("only calls without an outcome have a place");
        if let Place::Resting(until) = call.place {
            self.timers.remove(&(until, Timer::Retry(id)));
        }
        self.active += usize::from(place != Place::Fresh);
        self.active -= usize::from(call.place != Place::Fresh);
        call.place = place;
    }
}
