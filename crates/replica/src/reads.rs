//! Linearizable reads by ReadIndex (Raft thesis, 6.4): all reads that wait in a turn share one round, from any member.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use pontoon_kv::{Command, Index};

use crate::io::{Answer, NotExecuted, Ticket};

struct Read {
    ticket: Ticket,
    command: Command,
    deadline: u64,
}

struct Round {
    context: Bytes,
    asked_at: u64,
    reads: Vec<Read>,
}

/// Rounds that may be under way at once; further reads wait and share the next. (etcd has one at a time. Two let a read that comes
/// just too late for one begin at once.)
const ROUNDS_MAX: usize = 2;

/// All reads that wait.
///
/// A read is in one of three places: it waits for a round, it is in a round that asks the leader for its commit index, or it
/// waits until this member has applied that index.
#[derive(Default)]
pub(crate) struct Reads {
    waiting: Vec<Read>,
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

    /// Whether a round should be asked for.
    pub(crate) fn wants_round(&self) -> bool {
        !self.waiting.is_empty() && self.rounds.len() < ROUNDS_MAX
    }

    /// A round was asked for, under a name that was never used: an answer to an older question must not count for newer reads.
    pub(crate) fn round_asked(&mut self, context: Bytes, now: u64) {
        let reads = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round { context, asked_at: now, reads });
    }

    /// A majority confirmed the leader after the round was asked for: its reads may see the state from `index` on.
    pub(crate) fn round_confirmed(&mut self, context: &[u8], index: Index) {
        let Some(at) = self.rounds.iter().position(|round| round.context == context) else { return };
        let round = self.rounds.remove(at).expect("it was just found there");
        self.parked.entry(index).or_default().extend(round.reads);
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
