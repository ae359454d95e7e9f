//! The session: its window of seqs, its opening, its life and its end.

use std::{collections::BTreeSet, time::Duration};

use pontoon_wire::resp::Value;

use super::{CallId, Machine, Timer, verdict::Verdict};

/// A request's place in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) sid: u64,
    pub(super) seq: u64,
}

#[derive(Debug)]
pub(super) enum Session {
    /// None yet, or the last one expired; the next write opens one.
    None,
    Opening(Opening),
    Open(Open),
}

#[derive(Debug)]
pub(super) struct Opening {
    /// `SESSION OPEN` is on a connection.
    sent: bool,
    failures: u32,
    retry_at: Duration,
}

/// An open session.
///
/// - `ack <= seq < next_seq` for every unanswered seq, `ack` being the lowest of them.
/// - `next_seq <= ack + window`.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) sid: u64,
    next_seq: u64,
    /// Seqs without an answer that were not given up.
    unanswered: BTreeSet<u64>,
    /// The session is to be kept alive from then on, if nothing else has done so.
    keepalive_at: Duration,
    keepalive_sent: bool,
    /// `SESSION CLOSE` is on a connection.
    pub(super) closing: bool,
}

impl Session {
    pub(super) fn sid(&self) -> Option<u64> {
        match self {
            Session::Open(open) => Some(open.sid),
            _ => None,
        }
    }

    pub(super) fn open_sent(&mut self) {
        let failures = if let Session::Opening(opening) = self { opening.failures } else { 0 };
        *self = Session::Opening(Opening { sent: true, failures, retry_at: Duration::ZERO });
    }

    pub(super) fn keepalive_sent(&mut self) {
        if let Session::Open(open) = self {
            open.keepalive_sent = true;
        }
    }

    pub(super) fn close_sent(&mut self) {
        if let Session::Open(open) = self {
            open.closing = true;
        }
    }

    /// Whether there is, or may soon be, a session that has to be closed.
    pub(super) fn needs_closing(&self) -> bool {
        match self {
            Session::None => false,
            Session::Opening(opening) => opening.sent,
            Session::Open(_) => true,
        }
    }
}

impl Opening {
    pub(super) fn is_due(&self, now: Duration) -> bool {
        !self.sent && now >= self.retry_at
    }
}

impl Open {
    /// The lowest seq that has no answer and was not given up.
    pub(super) fn ack(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next_seq)
    }

    pub(super) fn has_room(&self, window: usize) -> bool {
        self.next_seq < self.ack() + window as u64
    }

    pub(super) fn take_slot(&mut self) -> Slot {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.unanswered.insert(seq);
        Slot { sid: self.sid, seq }
    }

    /// The seq has an answer, or nobody waits for it any more.
    pub(super) fn give_back(&mut self, seq: u64) {
        assert!(self.unanswered.remove(&seq), "seq {seq} was given back twice");
    }

    pub(super) fn keepalive_is_due(&self, now: Duration) -> bool {
        !self.keepalive_sent && now >= self.keepalive_at
    }

    pub(super) fn check(&self, window: usize) {
        let (ack, next_seq) = (self.ack(), self.next_seq);
        assert!(next_seq <= ack + window as u64, "seq {next_seq} is outside of the window from {ack}");
    }
}

impl Machine {
    pub(super) fn open_replied(&mut self, server: usize, sent_at: Duration, value: Value) {
        match Verdict::of(value) {
            Verdict::Result(Value::Integer(sid)) if sid >= 0 => {
                self.session = Session::Open(Open {
                    sid: sid.cast_unsigned(),
                    next_seq: 1,
                    unanswered: BTreeSet::new(),
                    keepalive_at: sent_at + self.settings.session_ttl / 3,
                    keepalive_sent: false,
                    closing: false,
                });
                self.arm_keepalive();
            }
            // A session that was opened without our knowledge is never used and expires.
            Verdict::Unknown(why) | Verdict::TryAgain { why, elsewhere: true } => {
                self.links.avoid(server);
                self.trouble = Some(why);
                self.open_failed();
            }
            Verdict::TryAgain { why, elsewhere: false } => {
                self.trouble = Some(why);
                self.open_failed();
            }
            Verdict::Wrong(why) | Verdict::Refused(why) | Verdict::SessionGone(why) | Verdict::Stale(why) => {
                self.session = Session::None;
                self.reject_fresh_writes(&why);
            }
            Verdict::Result(_) => {
                self.session = Session::None;
                self.reject_fresh_writes("the server does not know sessions: is it Pontoon?");
            }
        }
    }

    pub(super) fn open_failed(&mut self) {
        let Session::Opening(opening) = &mut self.session else { return };
        let retry_at = self.now + self.jitter.backoff(&self.settings, opening.failures);
        *opening = Opening { sent: false, failures: opening.failures + 1, retry_at };
        self.timers.insert((retry_at, Timer::OpenSession));
    }

    pub(super) fn keepalive_replied(&mut self, sent_at: Duration, value: Value) {
        let Session::Open(open) = &mut self.session else { return };
        match Verdict::of(value) {
            Verdict::Result(_) => {
                open.keepalive_sent = false;
                open.keepalive_at = sent_at + self.settings.session_ttl / 3;
                self.arm_keepalive();
            }
            Verdict::SessionGone(_) => {
                let slot = Slot { sid: open.sid, seq: 0 };
                self.session_gone(Some(slot));
            }
            _ => self.keepalive_failed(),
        }
    }

    pub(super) fn keepalive_failed(&mut self) {
        let Session::Open(open) = &mut self.session else { return };
        open.keepalive_sent = false;
        open.keepalive_at = self.now + self.settings.backoff_max;
        self.arm_keepalive();
    }

    /// A request of this call was executed, which kept its session alive.
    pub(super) fn session_touched(&mut self, call: CallId, sent_at: Duration) {
        let slot = self.slot_of(call);
        if let (Session::Open(open), Some(slot)) = (&mut self.session, slot)
            && open.sid == slot.sid
        {
            // The timer is left alone: it finds out that it is early, and is set anew.
            open.keepalive_at = open.keepalive_at.max(sent_at + self.settings.session_ttl / 3);
        }
    }

    pub(super) fn arm_keepalive(&mut self) {
        if let Session::Open(open) = &self.session
            && open.keepalive_at > self.now
        {
            self.timers.insert((open.keepalive_at, Timer::KeepAlive));
        }
    }

    /// A server said that the session of this slot does not exist (any more).
    pub(super) fn session_gone(&mut self, slot: Option<Slot>) {
        if let (Session::Open(open), Some(slot)) = (&self.session, slot)
            && open.sid == slot.sid
        {
            self.session = Session::None;
            self.leave_session(slot.sid);
        }
    }
}
