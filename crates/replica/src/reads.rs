//! Linearizable reads by ReadIndex (Raft thesis, 6.4): all reads that wait share one round, on the leader also those of members
//! that ask it and whose question is no confirmation by itself.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pontoon_kv::{Command, Index, NodeId};

use crate::io::{Answer, NotExecuted, Ticket};

struct Read {
    ticket: Ticket,
    command: Command,
    deadline: u64,
}

/// A member's round, by its name; the member asks again if there is no answer.
pub(crate) struct Question {
    pub(crate) from: NodeId,
    pub(crate) context: Bytes,
}

struct Round {
    context: Bytes,
    asked_at: u64,
    reads: Vec<Read>,
    questions: Vec<Question>,
}

/// Rounds that may be under way at once; further reads wait and share the next. (etcd has one at a time. Two let a read that comes
/// just too late for one begin at once.)
const ROUNDS_MAX: usize = 2;

/// Questions that may wait for a round; further ones are forgotten.
const QUESTIONS_MAX: usize = 256;

/// All reads that wait.
///
/// A read is in one of three places: it waits for a round, it is in a round that asks the leader for its commit index, or it
/// waits until this member has applied that index.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: Vec<Read>,
    questions: Vec<Question>,
    rounds: VecDeque<Round>,
    parked: BTreeMap<Index, Vec<Read>>,
    len: usize,
}

impl Reads {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, ticket: Ticket, command: Command, deadline: u64) {
        self.len += 1;
        self.waiting.push(Read { ticket, command, deadline });
    }

    /// A member asks this one, its leader.
    pub(crate) fn push_question(&mut self, question: Question) {
        if self.questions.len() < QUESTIONS_MAX {
            self.questions.push(question);
        }
    }

    /// This member does not lead: who asked it asks another.
    pub(crate) fn forget_questions(&mut self) {
        self.questions.clear();
    }

    /// Whether a round should be asked for.
    pub(crate) fn wants_round(&self) -> bool {
        !(self.waiting.is_empty() && self.questions.is_empty()) && self.rounds.len() < ROUNDS_MAX
    }

    /// Whether one read or question asks for a round while none is under way.
    pub(crate) fn is_lone(&self) -> bool {
        self.rounds.is_empty() && self.waiting.len() + self.questions.len() == 1
    }

    /// A round was asked for, under a name that was never used: an answer to an older question must not count for newer reads.
    pub(crate) fn round_asked(&mut self, context: Bytes, now: u64) {
        let reads = std::mem::take(&mut self.waiting);
        let questions = std::mem::take(&mut self.questions);
        self.rounds.push_back(Round { context, asked_at: now, reads, questions });
    }

    /// A majority confirmed the leader after the round was asked for: its reads may see the state from `index` on, here and where the
    /// returned questions come from.
    pub(crate) fn round_confirmed(&mut self, context: &[u8], index: Index) -> Vec<Question> {
        let Some(at) = self.rounds.iter().position(|round| round.context == context) else {
            return Vec::new();
        };
        let round = self.rounds.remove(at).expect("it was just found there");
        if !round.reads.is_empty() {
            self.parked.entry(index).or_default().extend(round.reads);
        }
        round.questions
    }

    /// The reads that may be executed once this index is applied.
    pub(crate) fn take_ready(&mut self, applied: Index) -> Vec<(Ticket, Command)> {
        let mut ready = Vec::new();
        while let Some(entry) = self.parked.first_entry().filter(|entry| *entry.key() <= applied) {
            ready.extend(entry.remove().into_iter().map(|read| (read.ticket, read.command)));
        }
        self.len -= ready.len();
        ready
    }

    /// Rounds asked for before `since` are taken for lost (raft-rs drops them silently without a leader, and before the leader
    /// has committed in its term): their reads wait for the next.
    pub(crate) fn ask_again(&mut self, since: u64) {
        let mut again = Vec::new();
        while self.rounds.front().is_some_and(|round| round.asked_at <= since) {
            again.extend(self.rounds.pop_front().expect("there is a front").reads);
        }
        if !again.is_empty() {
            again.append(&mut self.waiting);
            self.waiting = again;
        }
    }

    /// Answers whoever has waited long enough. A read that was not answered has surely not been executed.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Ticket, Answer)> {
        self.take(|read| read.deadline <= now, NotExecuted::NotReady)
    }

    /// Answers everybody: the server stops.
    pub(crate) fn abandon(&mut self) -> Vec<(Ticket, Answer)> {
        self.take(|_| true, NotExecuted::Stopping)
    }

    fn take(&mut self, which: impl Fn(&Read) -> bool, why: NotExecuted) -> Vec<(Ticket, Answer)> {
        let mut taken = Vec::new();
        let rounds = self.rounds.iter_mut().map(|round| &mut round.reads);
        for reads in rounds.chain(self.parked.values_mut()).chain([&mut self.waiting]) {
            taken.extend(
                reads
                    .extract_if(.., |read| which(read))
                    .map(|read| (read.ticket, Answer::NotExecuted(why.clone()))),
            );
        }
        self.len -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reads: &mut Reads, ticket: u64) {
        reads.push(Ticket(ticket), Command::Get { key: "k".into() }, 100);
    }

    fn question(name: &'static str) -> Question {
        Question { from: NodeId(2), context: name.into() }
    }

    #[test]
    fn a_members_question_shares_the_round_of_the_leaders_own_reads() {
        let mut reads = Reads::default();
        read(&mut reads, 1);
        reads.push_question(question("asked before"));
        reads.round_asked("first".into(), 0);
        reads.push_question(question("asked after"));
        let answered = reads.round_confirmed(b"first", Index(7));
        let names: Vec<_> = answered.iter().map(|question| &question.context[..]).collect();
        assert_eq!(names, [b"asked before"], "a round says nothing of what came after it began");
        assert_eq!(reads.take_ready(Index(7)).len(), 1);
        assert!(reads.wants_round(), "the other question waits for the next");
    }

    #[test]
    fn while_two_rounds_are_under_way_further_reads_wait_and_share_the_next() {
        let mut reads = Reads::default();
        for name in ["first", "second"] {
            read(&mut reads, 1);
            assert!(reads.wants_round());
            reads.round_asked(name.into(), 0);
        }
        read(&mut reads, 3);
        read(&mut reads, 4);
        assert!(!reads.wants_round());
        reads.round_confirmed(b"first", Index(1));
        reads.round_asked("third".into(), 0);
        reads.round_confirmed(b"third", Index(1));
        assert_eq!(reads.take_ready(Index(1)).len(), 3);
    }
}
