//! Requests that name themselves: a client session's (`ONCE`) and the opening, keeping and closing of sessions.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use pontoon_kv::{Outcome, Proposal, Refusal, WaitKey};

use crate::{
    io::{Answer, NotExecuted, Ticket, Unknown},
    patience::Patience,
};

struct Call {
    proposal: Proposal,
    /// Who waits: more than one when a retry joined; none when the replica itself asked.
    tickets: Vec<Ticket>,
    bytes: u64,
    /// The tick of the last proposal; none: in none of the present leader's terms.
    proposed_at: Option<u64>,
    /// The tick at which it was first in a proposal.
    first_proposed_at: Option<u64>,
    /// Since it was proposed, a snapshot replaced entries that this replica never saw.
    skipped: bool,
    attempts: u32,
}

/// All such requests that wait for their outcomes.
#[derive(Default)]
pub(crate) struct Calls {
    calls: BTreeMap<WaitKey, Call>,
    /// What is to be proposed, in order.
    unproposed: VecDeque<WaitKey>,
    /// Ascending: the request timeout is the same for all. Those of answered clients are still in it.
    deadlines: VecDeque<(u64, WaitKey, Ticket)>,
    waiting: usize,
    bytes: u64,
    patience: Patience,
}

impl Calls {
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A client asks. If the same request waits already, this one joins it: no new entry is needed.
    pub(crate) fn push(&mut self, ticket: Ticket, proposal: Proposal, bytes: u64, deadline: u64) {
        let key = proposal.wait_key();
        self.deadlines.push_back((deadline, key, ticket));
        self.waiting += 1;
        self.enter(proposal, bytes).tickets.push(ticket);
    }

    /// The replica itself asks; it hears of the outcome by the key.
    pub(crate) fn push_own(&mut self, proposal: Proposal) {
        self.enter(proposal, 0);
    }

    fn enter(&mut self, proposal: Proposal, bytes: u64) -> &mut Call {
        let key = proposal.wait_key();
        self.calls.entry(key).or_insert_with(|| {
            self.unproposed.push_back(key);
            self.bytes += bytes;
            Call {
                proposal,
                tickets: Vec::new(),
                bytes,
                proposed_at: None,
                first_proposed_at: None,
                skipped: false,
                attempts: 0,
            }
        })
    }

    /// What is to be proposed, in order.
    pub(crate) fn unproposed(&self) -> impl Iterator<Item = &Proposal> + '_ {
        self.unproposed.iter().map(|key| &self.calls[key].proposal)
    }

    /// The first `count` of these are in the hands of Raft.
    pub(crate) fn mark_proposed(&mut self, count: usize, now: u64) {
        for key in self.unproposed.drain(..count) {
            let call = self.calls.get_mut(&key).expect("what is to be proposed waits");
            call.proposed_at = Some(now);
            call.first_proposed_at.get_or_insert(now);
            call.attempts += 1;
        }
    }

    /// Everything that waits is to be proposed again: the leader changed, or a snapshot replaced entries.
    pub(crate) fn propose_again(&mut self) {
        for (key, call) in &mut self.calls {
            if call.proposed_at.take().is_some() {
                self.unproposed.push_back(*key);
            }
        }
    }

    /// A snapshot replaced entries that may have held what was proposed.
    pub(crate) fn snapshot_installed(&mut self) {
        for call in self.calls.values_mut() {
            call.skipped |= call.first_proposed_at.is_some();
        }
        self.propose_again();
    }

    /// Proposes again what has had no outcome for longer and longer (forwarded proposals may vanish).
    pub(crate) fn tick(&mut self, now: u64, patience: &RangeInclusive<u64>) {
        for (key, call) in &mut self.calls {
            let ticks = self.patience.ticks(patience, call.attempts.saturating_sub(1));
            if call.proposed_at.is_some_and(|at| now >= at + ticks) {
                call.proposed_at = None;
                self.unproposed.push_back(*key);
            }
        }
    }

    /// Everybody who waits for this gets the answer. False: nobody did, not even the replica.
    pub(crate) fn on_outcome(
        &mut self,
        key: WaitKey,
        outcome: &Outcome,
        now: u64,
        answers: &mut Vec<(Ticket, Answer)>,
    ) -> bool {
        #[cfg(feature = "mutants")]
        let key = self.mistaken(key);
        let Some(call) = self.calls.remove(&key) else { return false };
        self.bytes -= call.bytes;
        self.patience.took(call.first_proposed_at.map_or(0, |at| now - at));
        if call.proposed_at.is_none() {
            self.unproposed.retain(|waiting| *waiting != key);
        }
        self.waiting -= call.tickets.len();
        let answer = match outcome {
            Outcome::Reply(reply) => Answer::Reply(reply.clone()),
            Outcome::Opened(session) => Answer::Opened(*session),
            Outcome::Done => Answer::Done,
            // Only this copy was surely not executed: an earlier one may have been, in entries that a snapshot replaced.
            Outcome::Refused(_) if call.skipped => Answer::Unknown(Unknown::Missed),
            Outcome::Refused(refusal) => Answer::NotExecuted(NotExecuted::Refused(*refusal)),
        };
        assert!(!matches!(outcome, Outcome::Refused(Refusal::Gap { .. })), "only relayed requests have gaps");
        answers.extend(call.tickets.into_iter().map(|ticket| (ticket, answer.clone())));
        true
    }

    /// Answers whoever has waited long enough.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Ticket, Answer)> {
        let mut expired = Vec::new();
        while self.deadlines.front().is_some_and(|(deadline, ..)| *deadline <= now) {
            let (_, key, ticket) = self.deadlines.pop_front().expect("there is a front");
            let answer = self.give_up(key, ticket, Unknown::TimedOut, NotExecuted::NotReady);
            expired.extend(answer.map(|answer| (ticket, answer)));
        }
        expired
    }

    /// Answers everybody: the server stops.
    pub(crate) fn abandon(&mut self) -> Vec<(Ticket, Answer)> {
        let waiting = std::mem::take(&mut self.deadlines);
        let give_up = |(_, key, ticket)| {
            self.give_up(key, ticket, Unknown::Stopping, NotExecuted::Stopping).map(|answer| (ticket, answer))
        };
        waiting.into_iter().filter_map(give_up).collect()
    }

    /// None: this client has its answer.
    fn give_up(
        &mut self,
        key: WaitKey,
        ticket: Ticket,
        unknown: Unknown,
        not_executed: NotExecuted,
    ) -> Option<Answer> {
        let call = self.calls.get_mut(&key)?;
        let at = call.tickets.iter().position(|waiting| *waiting == ticket)?;
        call.tickets.remove(at);
        self.waiting -= 1;
        #[cfg(feature = "mutants")]
        if pontoon_kv::mutants::planted(pontoon_kv::mutants::Mutant::WaitersLeak) {
            self.waiting += 1;
        }
        let answer = match call.first_proposed_at {
            Some(_) => Answer::Unknown(unknown),
            None => Answer::NotExecuted(not_executed),
        };
        if call.tickets.is_empty() {
            self.bytes -= call.bytes;
            if call.proposed_at.is_none() {
                self.unproposed.retain(|waiting| *waiting != key);
            }
            self.calls.remove(&key);
        }
        Some(answer)
    }

    /// The mutant that wakes whoever waits at a place: it takes another's outcome for that of a call that lost its place.
    #[cfg(feature = "mutants")]
    fn mistaken(&self, key: WaitKey) -> WaitKey {
        use pontoon_kv::mutants::{Mutant, planted};
        if !planted(Mutant::WokenByIndex) || self.calls.contains_key(&key) {
            return key;
        }
        let lost = |(key, call): &(&WaitKey, &Call)| matches!(key, WaitKey::Request(..)) && call.attempts > 1;
        self.calls.iter().find(lost).map_or(key, |(key, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_kv::{Command, Reply, Seq, SessionId};

    const KEY: WaitKey = WaitKey::Request(SessionId(9), Seq(1));

    fn once() -> Proposal {
        let command = Command::Append { key: "k".into(), value: "v".into() };
        Proposal::Once { session: SessionId(9), seq: Seq(1), ack: Seq(1), command }
    }

    fn proposed(tickets: &[u64]) -> Calls {
        let mut calls = Calls::default();
        for ticket in tickets {
            calls.push(Ticket(*ticket), once(), 2, 100);
        }
        assert_eq!(calls.unproposed().count(), 1, "a retry joins the one that waits");
        calls.mark_proposed(1, 0);
        calls
    }

    fn outcome(calls: &mut Calls, outcome: &Outcome) -> Vec<(Ticket, Answer)> {
        let mut answers = Vec::new();
        calls.on_outcome(KEY, outcome, 0, &mut answers);
        assert_eq!((calls.len(), calls.bytes()), (0, 0), "nothing is left of it");
        answers
    }

    #[test]
    fn all_who_wait_for_a_request_get_its_one_reply() {
        let mut calls = proposed(&[1, 2]);
        let answer = Answer::Reply(Reply::Integer(1));
        let expected = vec![(Ticket(1), answer.clone()), (Ticket(2), answer)];
        assert_eq!(outcome(&mut calls, &Outcome::Reply(Reply::Integer(1))), expected);
    }

    #[test]
    fn a_refusal_says_surely_not_executed() {
        let refusal = Refusal::SessionUnknown;
        let answers = outcome(&mut proposed(&[1]), &Outcome::Refused(refusal));
        assert_eq!(answers, [(Ticket(1), Answer::NotExecuted(NotExecuted::Refused(refusal)))]);
    }

    /// Found by the simulator: it may have been executed in the entries that the snapshot replaced, and the session expired since.
    #[test]
    fn a_refusal_after_a_skipped_stretch_of_the_log_says_unknown() {
        let mut calls = proposed(&[1]);
        calls.snapshot_installed();
        let answers = outcome(&mut calls, &Outcome::Refused(Refusal::SessionUnknown));
        assert_eq!(answers, [(Ticket(1), Answer::Unknown(Unknown::Missed))]);
    }

    #[test]
    fn at_the_deadline_it_is_unknown_if_it_was_proposed_and_surely_not_executed_otherwise() {
        let mut calls = proposed(&[1]);
        assert!(calls.expire(99).is_empty());
        assert_eq!(calls.expire(100), [(Ticket(1), Answer::Unknown(Unknown::TimedOut))]);
        calls.push(Ticket(2), once(), 2, 200);
        assert_eq!(calls.expire(200), [(Ticket(2), Answer::NotExecuted(NotExecuted::NotReady))]);
        assert_eq!((calls.len(), calls.unproposed().count()), (0, 0));
    }
}
