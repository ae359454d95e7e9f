//! The server's own session: how writes of plain Redis clients are executed once and in order, however often this server
//! has to propose them.

use std::{collections::VecDeque, ops::RangeInclusive};

use pontoon_kv::{Command, Outcome, Proposal, Refusal, Seq, SessionId};

use crate::{
    io::{Answer, NotExecuted, Ticket, Unknown},
    patience::Patience,
};

/// A plain client's write that waits for its outcome.
struct Write {
    /// Its number in the session; 0 while it has none.
    seq: u64,
    ticket: Ticket,
    command: Command,
    bytes: u64,
    /// The tick at which the client is answered in any case.
    deadline: u64,
    /// The tick at which it was first in a proposal of the present session: since then it may have been executed without this
    /// replica's knowledge.
    proposed_at: Option<u64>,
    /// Since it was proposed, a snapshot replaced entries that this replica never saw.
    skipped: bool,
}

/// The session and all that waits in it.
///
/// - `writes` is in the order of submission; those with a number come first, ascending.
/// - The first `current` of them are in proposals of the present attempt.
/// - The state machine executes them strictly in that order ([`pontoon_kv::SessionKind::Relay`]): a lost one shows as a gap,
///   and everything from there is proposed again.
#[derive(Default)]
pub(crate) struct Relay {
    session: Option<SessionId>,
    writes: VecDeque<Write>,
    current: usize,
    next_seq: u64,
    attempt: u32,
    bytes: u64,
    /// The tick of the last outcome or attempt.
    last_activity: u64,
    /// The tick at which it was last asked to be kept alive.
    kept_alive_at: u64,
    patience: Patience,
    /// Attempts since the last outcome that the patience ended.
    in_vain: u32,
}

/// What an outcome came to.
pub(crate) enum Heard {
    /// The client is answered.
    Answer(Ticket, Answer),
    /// Nothing waits for it, or it is of an older attempt.
    Nothing,
    /// The session is gone: open another.
    SessionLost,
}

impl Relay {
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session
    }

    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The tick at which the session was last used.
    pub(crate) fn last_use(&self) -> u64 {
        self.last_activity.max(self.kept_alive_at)
    }

    /// The session is opened or kept alive: a use of it, and no news of what waits in it.
    pub(crate) fn keep_alive(&mut self, now: u64) {
        self.kept_alive_at = now;
    }

    pub(crate) fn push(&mut self, ticket: Ticket, command: Command, bytes: u64, deadline: u64) {
        self.bytes += bytes;
        self.writes.push_back(Write {
            seq: 0,
            ticket,
            command,
            bytes,
            deadline,
            proposed_at: None,
            skipped: false,
        });
    }

    pub(crate) fn opened(&mut self, session: SessionId, now: u64) {
        self.session = Some(session);
        self.next_seq = 1;
        self.attempt = 0;
        self.current = 0;
        self.last_activity = now;
    }

    /// What is not in a proposal of this attempt yet, in order. Nothing without a session.
    pub(crate) fn unproposed(&mut self) -> impl Iterator<Item = Proposal> + '_ {
        let session = self.session;
        let from = if session.is_some() { self.current } else { self.writes.len() };
        for write in self.writes.range_mut(from..).filter(|write| write.seq == 0) {
            write.seq = self.next_seq;
            self.next_seq += 1;
        }
        let ack = Seq(self.writes.front().map_or(0, |write| write.seq));
        let attempt = self.attempt;
        self.writes.range(from..).map(move |write| Proposal::Relay {
            session: session.expect("nothing is unproposed without a session"),
            seq: Seq(write.seq),
            ack,
            attempt,
            command: write.command.clone(),
        })
    }

    /// The next `count` of the unproposed ones are in the hands of Raft.
    pub(crate) fn mark_proposed(&mut self, count: usize, now: u64) {
        for write in self.writes.range_mut(self.current..self.current + count) {
            write.proposed_at.get_or_insert(now);
        }
        self.current += count;
        if count > 0 {
            self.last_activity = now;
        }
    }

    /// Everything that waits is to be proposed again: the leader changed, or something was lost.
    pub(crate) fn propose_again(&mut self, now: u64) {
        if self.current > 0 {
            self.attempt += 1;
            self.current = 0;
            self.last_activity = now;
        }
    }

    /// Proposes again what has had no outcome for longer and longer (forwarded proposals may vanish).
    pub(crate) fn tick(&mut self, now: u64, patience: &RangeInclusive<u64>) {
        if self.current > 0 && now >= self.last_activity + self.patience.ticks(patience, self.in_vain) {
            self.in_vain += 1;
            self.propose_again(now);
        }
    }

    pub(crate) fn on_outcome(&mut self, seq: Seq, outcome: Outcome, now: u64) -> Heard {
        let at = match self.writes.front() {
            Some(write) if write.seq == seq.0 => 0,
            _ => self.writes.partition_point(|write| write.seq != 0 && write.seq < seq.0),
        };
        if self.writes.get(at).is_none_or(|write| write.seq != seq.0) {
            return Heard::Nothing;
        }
        match outcome {
            Outcome::Refused(Refusal::Gap { attempt }) => {
                if attempt == self.attempt {
                    self.propose_again(now);
                }
                Heard::Nothing
            }
            Outcome::Refused(Refusal::SessionUnknown) => Heard::SessionLost,
            // Not executed now and waiting here all the same: it was executed in entries that a snapshot replaced.
            Outcome::Refused(Refusal::Stale) => self.finish(at, Answer::Unknown(Unknown::Missed), now),
            Outcome::Refused(refusal) => {
                self.finish(at, Answer::NotExecuted(NotExecuted::Refused(refusal)), now)
            }
            Outcome::Reply(reply) => self.finish(at, Answer::Reply(reply), now),
            Outcome::Opened(_) | Outcome::Done => {
                panic!("a relayed command has a reply or a refusal, not {outcome:?}")
            }
        }
    }

    fn finish(&mut self, at: usize, answer: Answer, now: u64) -> Heard {
        let write = self.writes.remove(at).expect("the caller found it there");
        self.bytes -= write.bytes;
        self.current = self.current.saturating_sub(usize::from(at < self.current));
        self.last_activity = now;
        self.in_vain = 0;
        self.patience.took(write.proposed_at.map_or(0, |at| now - at));
        Heard::Answer(write.ticket, answer)
    }

    /// The session expired: what surely was not executed in it moves on to the next.
    pub(crate) fn session_lost(&mut self) -> Vec<(Ticket, Answer)> {
        self.session = None;
        self.current = 0;
        let mut missed = Vec::new();
        for mut write in std::mem::take(&mut self.writes) {
            if write.skipped {
                self.bytes -= write.bytes;
                missed.push((write.ticket, Answer::Unknown(Unknown::Missed)));
            } else {
                // Every copy in the log, seen or to come, is refused: the session will never be back.
                write.seq = 0;
                write.proposed_at = None;
                self.writes.push_back(write);
            }
        }
        missed
    }

    /// A snapshot replaced entries that may have held what was proposed.
    pub(crate) fn snapshot_installed(&mut self, now: u64) {
        for write in self.writes.iter_mut().filter(|write| write.proposed_at.is_some()) {
            write.skipped = true;
        }
        self.propose_again(now);
    }

    /// Answers whoever has waited long enough.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Ticket, Answer)> {
        let mut expired = Vec::new();
        while self.writes.front().is_some_and(|write| write.deadline <= now) {
            let write = self.writes.pop_front().expect("there is a front");
            self.bytes -= write.bytes;
            self.current = self.current.saturating_sub(1);
            let answer = match write.proposed_at.is_some() {
                true => Answer::Unknown(Unknown::TimedOut),
                false => Answer::NotExecuted(NotExecuted::NotReady),
            };
            expired.push((write.ticket, answer));
        }
        expired
    }

    /// Answers everybody: the server stops.
    pub(crate) fn abandon(&mut self) -> Vec<(Ticket, Answer)> {
        self.current = 0;
        self.bytes = 0;
        let answer = |write: Write| match write.proposed_at.is_some() {
            true => (write.ticket, Answer::Unknown(Unknown::Stopping)),
            false => (write.ticket, Answer::NotExecuted(NotExecuted::Stopping)),
        };
        std::mem::take(&mut self.writes).into_iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_kv::Reply;

    const SESSION: SessionId = SessionId(7);

    fn relay(writes: u64) -> Relay {
        let mut relay = Relay::default();
        relay.opened(SESSION, 0);
        for ticket in 1..=writes {
            relay.push(Ticket(ticket), Command::IncrBy { key: "k".into(), delta: 1 }, 1, 100 * ticket);
        }
        relay
    }

    /// A lost write was never proposed again while the session was kept alive more often than the patience lasts.
    #[test]
    fn to_keep_the_session_alive_does_not_put_off_what_is_to_be_proposed_again() {
        let mut relay = relay(1);
        assert_eq!(propose(&mut relay), [(1, 1, 0)]);
        for now in 1..=30 {
            relay.keep_alive(now);
            relay.tick(now, &(30..=120));
        }
        assert_eq!(relay.last_use(), 30);
        assert_eq!(propose(&mut relay), [(1, 1, 1)]);
    }

    /// Proposes all that is due: (seq, ack, attempt) of each.
    fn propose(relay: &mut Relay) -> Vec<(u64, u64, u32)> {
        let described = relay.unproposed().map(|proposal| match proposal {
            Proposal::Relay { seq, ack, attempt, .. } => (seq.0, ack.0, attempt),
            other => panic!("{other:?}"),
        });
        let proposals: Vec<_> = described.collect();
        relay.mark_proposed(proposals.len(), 0);
        proposals
    }

    fn answered(heard: Heard) -> (u64, Answer) {
        let Heard::Answer(ticket, answer) = heard else { panic!("nobody was answered") };
        (ticket.0, answer)
    }

    #[test]
    fn writes_are_numbered_in_order_and_answered_by_number() {
        let mut relay = relay(2);
        assert_eq!(propose(&mut relay), [(1, 1, 0), (2, 1, 0)]);
        assert!(propose(&mut relay).is_empty());
        let reply = || Outcome::Reply(Reply::Integer(1));
        assert_eq!(answered(relay.on_outcome(Seq(1), reply(), 0)).0, 1);
        assert_eq!(answered(relay.on_outcome(Seq(2), reply(), 0)).0, 2);
        assert_eq!((relay.len(), relay.bytes()), (0, 0));
    }

    #[test]
    fn a_gap_has_everything_proposed_again_once_however_many_copies_are_refused() {
        let mut relay = relay(3);
        propose(&mut relay);
        relay.on_outcome(Seq(2), Outcome::Refused(Refusal::Gap { attempt: 0 }), 0);
        relay.on_outcome(Seq(3), Outcome::Refused(Refusal::Gap { attempt: 0 }), 0);
        assert_eq!(propose(&mut relay), [(1, 1, 1), (2, 1, 1), (3, 1, 1)]);
        relay.on_outcome(Seq(3), Outcome::Refused(Refusal::Gap { attempt: 0 }), 0);
        assert!(propose(&mut relay).is_empty(), "an old copy's refusal says nothing of the new one");
    }

    /// A slow disk got each write two and three times, and became slower for it.
    #[test]
    fn it_waits_for_an_outcome_twice_as_long_as_the_last_one_took() {
        let mut relay = relay(1);
        propose(&mut relay);
        relay.tick(31, &(32..=128));
        assert!(propose(&mut relay).is_empty());
        relay.tick(32, &(32..=128));
        assert_eq!(propose(&mut relay).len(), 1, "nobody knows yet how long an outcome takes");
        relay.on_outcome(Seq(1), Outcome::Reply(Reply::Integer(1)), 50);
        relay.push(Ticket(2), Command::IncrBy { key: "k".into(), delta: 1 }, 1, 1000);
        let count = relay.unproposed().count();
        relay.mark_proposed(count, 50);
        relay.tick(149, &(32..=128));
        assert!(propose(&mut relay).is_empty());
        relay.tick(150, &(32..=128));
        assert_eq!(propose(&mut relay).len(), 1);
    }

    #[test]
    fn a_write_that_is_given_up_is_acknowledged_so_that_no_late_copy_executes() {
        let mut relay = relay(2);
        propose(&mut relay);
        assert_eq!(relay.expire(100), [(Ticket(1), Answer::Unknown(Unknown::TimedOut))]);
        relay.propose_again(101);
        assert_eq!(propose(&mut relay), [(2, 2, 1)]);
    }

    #[test]
    fn a_lost_session_moves_what_surely_was_not_executed_to_the_next_and_owns_up_to_the_rest() {
        let mut relay = relay(1);
        propose(&mut relay);
        relay.snapshot_installed(0);
        relay.push(Ticket(2), Command::IncrBy { key: "k".into(), delta: 1 }, 1, 100);
        assert_eq!(relay.session_lost(), [(Ticket(1), Answer::Unknown(Unknown::Missed))]);
        assert!(propose(&mut relay).is_empty(), "there is no session");
        relay.opened(SessionId(8), 0);
        assert_eq!(propose(&mut relay), [(1, 1, 0)]);
    }

    #[test]
    fn a_write_executed_unseen_is_unknown() {
        let mut relay = relay(1);
        propose(&mut relay);
        let answer = answered(relay.on_outcome(Seq(1), Outcome::Refused(Refusal::Stale), 0));
        assert_eq!(answer, (1, Answer::Unknown(Unknown::Missed)));
    }

    /// Found by the simulator: while clients' calls went through a server, it took them for uses of its own session, did not keep
    /// that alive, and the first write of a plain client after that found it expired.
    #[test]
    fn what_others_propose_is_no_use_of_the_session() {
        let mut relay = relay(0);
        relay.mark_proposed(0, 50);
        assert_eq!(relay.last_use(), 0);
        relay.push(Ticket(1), Command::IncrBy { key: "k".into(), delta: 1 }, 1, 100);
        relay.mark_proposed(1, 60);
        assert_eq!(relay.last_use(), 60);
    }
}
