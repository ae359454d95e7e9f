//! What a replica makes of each input.

use bytes::Bytes;
#[cfg(feature = "mutants")]
use pontoon_kv::mutants::{Mutant, planted};
use pontoon_kv::{Command, Index, NodeId, Outcome, Proposal, Refusal, SessionKind, Term, WaitKey};
use raft::ProgressState;

use super::{PINNED_TICKS_MAX, READ_PATIENCE_TICKS, Replica};
use crate::{
    Message, MessageKind, convert,
    io::{Answer, LogRead, NotExecuted, Output, Request, Ticket},
    patience,
    reads::Question,
    relay::Heard,
};

impl Replica {
    pub(super) fn on_tick(&mut self) {
        self.now += 1;
        if self.leads() {
            self.clock += self.config.tick_ms;
        }
        if !self.is_mending() {
            self.raft.tick();
        }
        self.ask_whom_was_spared();
        let followed = !self.leads();
        #[cfg(feature = "mutants")]
        let followed = followed && !planted(Mutant::LeaderChangeUnnoticed);
        if followed {
            // A leader has its proposals in its own log; only what is passed on can vanish.
            let patience = patience::bounds(&self.config);
            self.relay.tick(self.now, &patience);
            self.calls.tick(self.now, &patience);
        }
        self.reads.ask_again(self.now.saturating_sub(READ_PATIENCE_TICKS));
        let expired = [self.relay.expire(self.now), self.calls.expire(self.now), self.reads.expire(self.now)];
        self.answers.extend(expired.into_iter().flatten());
        let (due, kept) = self.pinned.iter().partition(|(_, since)| self.now >= since + PINNED_TICKS_MAX);
        self.pinned = kept;
        let due: Vec<(NodeId, u64)> = due;
        for (to, _) in due {
            self.raft.mut_store().snapshot_done(to);
            self.outputs.push(Output::ReleaseSnapshot { to });
        }
    }

    /// A round may wait for somebody who is quick no more: the others are asked, too.
    fn ask_whom_was_spared(&mut self) {
        let questions = self.confirmers.doubt();
        if self.leads() {
            self.raft.raft.msgs.extend(questions);
        }
    }

    pub(super) fn on_unreachable(&mut self, member: NodeId) {
        self.raft.report_unreachable(member.0);
        self.ask_whom_was_spared();
    }

    pub(super) fn on_message(&mut self, message: Message) {
        if message.to != self.config.node || self.is_stale_rejection(&message) {
            return;
        }
        self.trim.heard(message.from, self.now);
        let campaigns = message.kind == MessageKind::TimeoutNow;
        if campaigns && self.is_mending()
            || message.kind == MessageKind::Snapshot && self.persists.installing()
        {
            return; // Its sender tries again.
        }
        let for_leaders = [MessageKind::Propose, MessageKind::ReadIndex, MessageKind::TransferLeader];
        if for_leaders.contains(&message.kind) && !self.leads() {
            return; // Who takes this member for the leader asks the next one again.
        }
        match message.kind {
            MessageKind::Propose => {
                let from = message.from;
                let raft = convert::message_to_raft(message);
                return self.passed_on.push(from, raft.entries);
            }
            MessageKind::ReadIndex => {
                if let Some(asked) = message.entries.into_iter().next() {
                    self.on_question(Question { from: message.from, context: asked.data }, message.term);
                }
                return;
            }
            MessageKind::HeartbeatResponse => self.confirmers.answered(message.from, &message.context),
            _ => {}
        }
        let raft = convert::message_to_raft(message);
        // Errors are of messages that come too late (of removed members, of former leaders): nothing to be done.
        let _ = self.raft.step(raft);
        #[cfg(feature = "mutants")]
        self.commit_older_terms();
    }

    /// A member that takes this one for its leader asks up to where the log is committed; the question is of its term.
    ///
    /// If the two of them are a majority, the question is the confirmation that a round would ask for: it was sent after its reads came,
    /// and neither was in a later term then, so nobody had been elected who could have committed what this leader does not know.
    fn on_question(&mut self, question: Question, term: Term) {
        let raft = &self.raft.raft;
        let both = [raft.id, question.from.0].into_iter().collect();
        let confirmed = term.0 == raft.term && raft.prs().has_quorum(&both);
        #[cfg(feature = "mutants")]
        let confirmed = confirmed || planted(Mutant::QuestionConfirms);
        if confirmed && raft.commit_to_current_term() {
            let committed = Index(raft.raft_log.committed);
            self.answer_question(question, committed);
        } else {
            self.reads.push_question(question);
        }
    }

    /// Whether a snapshot is on its way to become the state: its log starts there already, and is not durable yet. Such a member must
    /// not campaign: raft-rs would look through the entries since the last applied one, which are gone, and panic.
    fn is_mending(&self) -> bool {
        self.raft.raft.raft_log.applied < self.raft.store().trimmed().0
    }

    /// raft-rs 0.7.0 takes a rejection that was overtaken by an acknowledgement at its word, and then has `next <= matched`
    /// (fixed upstream, unreleased). A follower never loses what it acknowledged, so such a rejection is old.
    fn is_stale_rejection(&self, message: &Message) -> bool {
        if message.kind != MessageKind::AppendResponse
            || !message.reject
            || message.request_snapshot != Index(0)
        {
            return false;
        }
        let progress = self.raft.raft.prs().get(message.from.0);
        progress.is_some_and(|progress| {
            progress.state != ProgressState::Replicate
                && (message.index.0 <= progress.matched || message.reject_hint.0 < progress.matched)
        })
    }

    pub(super) fn on_request(&mut self, ticket: Ticket, request: Request) {
        if self.stopping {
            self.answers.push((ticket, Answer::NotExecuted(NotExecuted::Stopping)));
            return;
        }
        let command = request.command();
        if let Some(Err(broken)) = command.map(|command| command.check(&self.config.limits)) {
            let text = Bytes::from(broken.to_string());
            self.answers.push((ticket, Answer::NotExecuted(NotExecuted::TooLarge(text))));
            return;
        }
        let bytes = command.map_or(0, Command::bytes);
        let waiting_bytes = self.relay.bytes() + self.calls.bytes();
        if self.waiting() >= self.config.waiting_max || waiting_bytes + bytes > self.config.waiting_bytes_max
        {
            self.answers.push((ticket, Answer::NotExecuted(NotExecuted::Busy)));
            return;
        }
        let deadline = self.now + self.config.request_timeout_ticks;
        match request {
            Request::Plain(command) | Request::Once { command, .. } if command.is_read() => {
                self.reads.push(ticket, command, deadline);
            }
            Request::Plain(command) => self.relay.push(ticket, command, bytes, deadline),
            Request::Once { session, seq, ack, command } => {
                let proposal = Proposal::Once { session, seq, ack, command };
                self.calls.push(ticket, proposal, bytes, deadline);
            }
            Request::OpenSession => {
                let proposal = Proposal::Open { call: self.call_id(), kind: SessionKind::Client };
                self.calls.push(ticket, proposal, 0, deadline);
            }
            Request::KeepAliveSession(session) => {
                let proposal = Proposal::KeepAlive { call: self.call_id(), session };
                self.calls.push(ticket, proposal, 0, deadline);
            }
            Request::CloseSession(session) => {
                let proposal = Proposal::Close { call: self.call_id(), session };
                self.calls.push(ticket, proposal, 0, deadline);
            }
        }
    }

    pub(super) fn on_applied(&mut self, index: Index, outcomes: Vec<(WaitKey, Outcome)>) {
        for (key, outcome) in outcomes {
            self.on_outcome(key, outcome);
        }
        self.applied = self.applied.max(index);
        self.advance_applied();
    }

    /// Tells raft-rs how far the state is. After a snapshot it must not hear of it before the log starts there durably.
    pub(super) fn advance_applied(&mut self) {
        let log = &self.raft.raft.raft_log;
        if log.applied < self.applied.0 && self.applied.0 <= log.committed.min(log.persisted) {
            self.raft.advance_apply_to(self.applied.0);
        }
    }

    pub(super) fn on_outcome(&mut self, key: WaitKey, outcome: Outcome) {
        match key {
            WaitKey::Request(session, seq) if Some(session) == self.relay.session() => {
                match self.relay.on_outcome(seq, outcome, self.now) {
                    Heard::Answer(ticket, answer) => self.answers.push((ticket, answer)),
                    Heard::SessionLost => self.answers.extend(self.relay.session_lost()),
                    Heard::Nothing => {}
                }
            }
            WaitKey::Call(call) if Some(call) == self.relay_call => {
                self.calls.on_outcome(key, &outcome, self.now, &mut self.answers);
                self.relay_call = None;
                match outcome {
                    Outcome::Opened(session) => self.relay.opened(session, self.now),
                    Outcome::Refused(Refusal::SessionUnknown) => {
                        self.answers.extend(self.relay.session_lost())
                    }
                    _ => {}
                }
            }
            _ => {
                self.calls.on_outcome(key, &outcome, self.now, &mut self.answers);
            }
        }
    }

    pub(super) fn on_log_read(&mut self, read: LogRead) {
        if let Some(context) = self.raft.mut_store().fetched(read.low, read.entries) {
            self.raft.on_entries_fetched(context);
            self.raft.mut_store().drop_fetched();
        }
    }

    pub(super) fn on_snapshot_installed(&mut self, index: Index, clock: u64) {
        self.applied = index;
        self.clock = self.clock.max(clock);
        self.trim.on_durable(index);
        for persist in self.persists.installed() {
            self.outputs.push(Output::Persist(persist));
        }
        // What this member proposed may have been applied within the snapshot; proposing it again finds out.
        self.relay.snapshot_installed(self.now);
        self.calls.snapshot_installed();
    }

    pub(super) fn on_stop(&mut self) {
        self.stopping = true;
        if !self.leads() {
            return;
        }
        let raft = &self.raft.raft;
        let voters = raft.prs().iter().filter(|(id, progress)| {
            **id != raft.id && progress.recent_active && !raft.prs().conf().learners().contains(*id)
        });
        if let Some((to, _)) = voters.max_by_key(|(id, progress)| (progress.matched, **id)) {
            let to = *to;
            self.raft.transfer_leader(to);
        }
    }

    pub(super) fn on_abandon(&mut self) {
        self.stopping = true;
        let abandoned = [self.relay.abandon(), self.calls.abandon(), self.reads.abandon()];
        self.answers.extend(abandoned.into_iter().flatten());
    }
}
