//! What is due after a batch of inputs: proposals, questions, and whatever raft-rs wants done.

use bytes::Bytes;
#[cfg(feature = "mutants")]
use pontoon_kv::mutants::{Mutant, planted};
use pontoon_kv::{Index, NodeId, Proposal, SessionKind, Term};
use raft::{ProgressState, eraftpb};

use super::{Replica, latest_clock};
use crate::{
    HardState, Message, MessageKind,
    blocks::Blocks,
    convert,
    io::{Output, Persist},
    persist::Released,
    reads::Question,
    trim::Needed,
};

impl Replica {
    /// Leads the relay's session through its life: opened as soon as there is a leader, kept alive while idle.
    pub(super) fn open_relay(&mut self) {
        if self.relay_call.is_some() || self.stopping || self.leader().is_none() {
            return;
        }
        let idle_ticks_max = self.config.limits.session_ttl_ms / 3 / self.config.tick_ms.max(1);
        let session = self.relay.session();
        if session.is_some() && self.now < self.relay.last_use() + idle_ticks_max {
            return;
        }
        let call = self.call_id();
        self.relay_call = Some(call);
        self.calls.push_own(match session {
            None => Proposal::Open { call, kind: SessionKind::Relay },
            Some(session) => Proposal::KeepAlive { call, session },
        });
        self.relay.keep_alive(self.now);
    }

    /// Hands everything unproposed to Raft, in blocks, about [`Config::append_bytes_max`](crate::Config::append_bytes_max) of its own in
    /// one message.
    ///
    /// A leader whose disk is at work lets all that comes in meanwhile wait for it and share the next append: on its own disk that
    /// takes no longer, and a batch costs about the same whatever is in it (group commit: DeWitt et al., SIGMOD 1984). It waits for no
    /// disk that is slower than those of a majority.
    pub(super) fn propose(&mut self) {
        if self.leader().is_none() || self.leads() && self.append_in_flight() {
            return;
        }
        while self.propose_some() {}
    }

    /// Whether the log has entries that are neither durable here nor committed.
    fn append_in_flight(&self) -> bool {
        let log = &self.raft.raft.raft_log;
        log.last_index() > log.persisted.max(log.committed)
    }

    /// False: there is nothing left, or Raft does not take it now.
    fn propose_some(&mut self) -> bool {
        let mut blocks = Blocks::new(self.config.block_bytes_max, self.config.append_bytes_max as usize);
        let calls = self.calls.unproposed().take_while(|proposal| blocks.push(proposal)).count();
        let writes = self.relay.unproposed().take_while(|proposal| blocks.push(proposal)).count();
        if calls + writes + self.passed_on.entries().len() == 0 {
            return false;
        }
        let mut entries = blocks.finish();
        entries.extend_from_slice(self.passed_on.entries());
        if self.leads() {
            self.stamp(&mut entries);
        }
        let message = eraftpb::Message {
            msg_type: eraftpb::MessageType::MsgPropose,
            from: self.config.node.0,
            entries: entries.into(),
            ..eraftpb::Message::default()
        };
        // Dropped while leadership is being handed over, or by too much that is uncommitted: it stays unproposed.
        let taken = self.raft.step(message).is_ok();
        if taken {
            self.calls.mark_proposed(calls, self.now);
            self.relay.mark_proposed(writes, self.now);
            for member in self.passed_on.from() {
                self.news.want(member, Index(self.raft.raft.raft_log.last_index()));
            }
            self.passed_on.clear();
        }
        taken
    }

    /// Puts the cluster clock into entries: only the leader that appends them does.
    fn stamp(&self, entries: &mut [eraftpb::Entry]) {
        let clock = convert::clock_bytes(pontoon_kv::ClusterTime(self.clock));
        for entry in entries {
            entry.context = clock.clone();
        }
    }

    pub(super) fn ask_read_index(&mut self) {
        // raft-rs would drop the question without a word before the leader has committed in its term.
        let answerable =
            if self.leads() { self.raft.raft.commit_to_current_term() } else { self.leader().is_some() };
        #[cfg(feature = "mutants")]
        if self.reads_too_early() {
            return;
        }
        if !answerable || !self.reads.wants_round() {
            return;
        }
        let id = self.call_id();
        #[cfg(feature = "mutants")]
        let id = self.round_name(id);
        let context = Bytes::from([id.node.0.to_le_bytes(), id.nonce.to_le_bytes()].concat());
        let lone = self.reads.is_lone();
        self.raft.read_index(context.to_vec());
        self.confirmers.asked(context.clone(), lone, &mut self.raft.raft.msgs);
        self.reads.round_asked(context, self.now);
    }

    fn on_round_confirmed(&mut self, context: &[u8], index: Index) {
        self.confirmers.confirmed(context);
        let questions = self.reads.round_confirmed(context, index);
        if !self.leads() {
            return; // Its term is over; who asked asks again.
        }
        for question in questions {
            self.answer_question(question, index);
        }
    }

    pub(super) fn answer_question(&mut self, Question { from, context }: Question, index: Index) {
        let answer = eraftpb::Message {
            msg_type: eraftpb::MessageType::MsgReadIndexResp,
            from: self.config.node.0,
            to: from.0,
            term: self.raft.raft.term,
            index: index.0,
            entries: vec![eraftpb::Entry { data: context, ..eraftpb::Entry::default() }].into(),
            ..eraftpb::Message::default()
        };
        self.messages.push(convert::message_from_raft(answer));
        // Who has the entry commits it by this answer. To who does not, something was lost: an append finds out.
        let has_it = self.raft.raft.prs().get(from.0).is_some_and(|progress| progress.matched >= index.0);
        if !has_it {
            self.news.want(from, index);
        }
    }

    /// Sends what members wait for to know.
    pub(super) fn tell_news(&mut self) {
        let due = self.news.due(Index(self.raft.raft.raft_log.committed));
        if due.is_empty() {
            return;
        }
        for NodeId(member) in due {
            if self.raft.raft.prs().get(member).is_some() {
                self.raft.raft.send_append(member);
            }
        }
        self.drain_ready();
    }

    pub(super) fn drain_ready(&mut self) {
        while self.raft.has_ready() {
            self.handle_ready();
        }
        let raft = &self.raft.raft;
        let seen = (raft.term, raft.leader_id, raft.state);
        let changed = seen != self.seen && raft.leader_id != raft::INVALID_ID;
        #[cfg(feature = "mutants")]
        let changed = changed && !planted(Mutant::LeaderChangeUnnoticed);
        if changed {
            self.relay.propose_again(self.now);
            self.calls.propose_again();
            self.reads.ask_again(self.now);
        }
        self.seen = seen;
        if !self.leads() {
            self.passed_on.clear();
            self.news.clear();
            self.reads.forget_questions();
        }
        let settled = self.applied.0.min(self.raft.raft.raft_log.persisted);
        self.raft.mut_store().shrink_window(settled, self.config.window_bytes_max);
    }

    fn handle_ready(&mut self) {
        let mut ready = self.raft.ready();
        let number = ready.number();
        let sync = ready.must_sync();
        self.send(ready.take_messages());
        for state in ready.take_read_states() {
            self.on_round_confirmed(&state.request_ctx, Index(state.index));
        }
        let hard_state = ready.hs().map(convert::hard_state_from_raft);
        let snapshot =
            Some(ready.snapshot()).filter(|snapshot| !snapshot.is_empty()).map(convert::snapshot_from_raft);
        let committed = ready.take_committed_entries();
        let entries = ready.take_entries();
        let held = ready.take_persisted_messages();
        let reset_to = snapshot.as_ref().map(|meta| (meta.index, meta.term));
        if let Some(position) = reset_to {
            self.raft.mut_store().reset(position);
        }
        // raft-rs reads these back from now on, before the disk has them.
        self.raft.mut_store().append(entries.clone());
        self.raft.advance_append_async(ready);

        if let Some(meta) = snapshot {
            self.persists.install();
            self.outputs.push(Output::InstallSnapshot(meta));
        }
        let held = self.send_what_needs_no_disk(held, sync, hard_state);
        self.persist(number, sync, reset_to, hard_state, entries, held);
        if !committed.is_empty() {
            let committed: Vec<_> = committed.into_iter().map(convert::entry_from_raft).collect();
            self.outputs.push(Output::Apply(committed));
        }
    }

    fn persist(
        &mut self,
        ready: u64,
        sync: bool,
        reset_to: Option<(Index, Term)>,
        hard_state: Option<HardState>,
        entries: Vec<eraftpb::Entry>,
        held: Vec<Message>,
    ) {
        let own = sync || reset_to.is_some() || !entries.is_empty();
        if own {
            let entries: Vec<_> = entries.into_iter().map(convert::entry_from_raft).collect();
            self.clock = latest_clock(&entries).max(self.clock);
            let persist = Persist { sync: true, reset_to, hard_state, entries, ..Persist::default() };
            if let Some(persist) = self.persists.push(persist) {
                self.outputs.push(Output::Persist(persist));
            }
        } else if let Some(hard_state) = hard_state {
            self.persists.note_hard_state(hard_state);
        }
        if let Some(released) = self.persists.hold(ready, held, own, own && hard_state.is_some()) {
            self.release(released);
        }
    }

    /// raft-rs holds back all messages of a member that does not lead until the disk has what came with them. Some kinds
    /// claim nothing that the disk must remember, and a slow disk must not delay them: what is passed on to the leader, a question for a
    /// read index, and the answer to a heartbeat of a term that is durable. (The question says that this member is in no later term. A
    /// later one in which it voted is durable before the vote is sent, so a restart does not make that untrue.) A snapshot is of a leader
    /// that has stepped down since it was to send it; it goes its own way all the same.
    fn send_what_needs_no_disk(
        &mut self,
        held: Vec<eraftpb::Message>,
        sync: bool,
        hard_state: Option<HardState>,
    ) -> Vec<Message> {
        let term_pending = self.persists.term_in_flight() || (sync && hard_state.is_some());
        let mut kept = Vec::new();
        for message in held.into_iter().map(convert::message_from_raft) {
            match message.kind {
                MessageKind::Propose => self.messages.push(message),
                MessageKind::ReadIndex => {
                    self.messages.push(Message { term: Term(self.raft.raft.term), ..message });
                }
                MessageKind::HeartbeatResponse if !term_pending => self.messages.push(message),
                MessageKind::Snapshot => self.send_one(message),
                _ => kept.push(message),
            }
        }
        kept
    }

    pub(super) fn release(&mut self, released: Released) {
        if released.ready > 0 {
            self.raft.on_persist_ready(released.ready);
            self.advance_applied();
        }
        self.messages.extend(released.messages);
    }

    fn send(&mut self, messages: Vec<eraftpb::Message>) {
        messages.into_iter().map(convert::message_from_raft).for_each(|message| self.send_one(message));
    }

    fn send_one(&mut self, message: Message) {
        if message.kind == MessageKind::Snapshot {
            self.pinned.retain(|(to, _)| *to != message.to);
            self.outputs.push(Output::SendSnapshot(message));
        } else {
            self.news.sent(&message);
            self.messages.push(message);
        }
    }

    pub(super) fn trim_log(&mut self) {
        if self.persists.installing() {
            return;
        }
        if self.trim.wants_flush(self.raft.store(), self.applied) {
            self.outputs.push(Output::FlushState);
        }
        if self.trim.outgrown(self.raft.store()).is_none() {
            return;
        }
        let needed = self.needed_by_followers();
        if let Some(position) = self.trim.position(self.raft.store(), self.applied, needed) {
            self.raft.mut_store().trim(position);
            if let Some(persist) =
                self.persists.push(Persist { trim_to: Some(position), ..Persist::default() })
            {
                self.outputs.push(Output::Persist(persist));
            }
        }
    }

    /// What followers need of this leader's log. (Of one that has not answered this leader yet nothing is known; one that needs what is
    /// trimmed gets a snapshot in any case, and needs what follows that once it is on its way. A transfer that makes no progress ends.)
    pub(super) fn needed_by_followers(&self) -> Needed {
        let mut needed = Needed::default();
        if !self.leads() {
            return needed;
        }
        let (raft, trimmed) = (&self.raft.raft, self.raft.store().trimmed());
        for (id, progress) in raft.prs().iter().filter(|(id, _)| **id != raft.id) {
            let has = Index(match progress.state {
                ProgressState::Probe => progress.next_idx - 1,
                ProgressState::Replicate => progress.matched,
                ProgressState::Snapshot => progress.pending_snapshot,
            });
            if has < trimmed {
                continue;
            }
            let answers =
                progress.state == ProgressState::Snapshot || self.trim.answers(NodeId(*id), self.now);
            let slowest = if answers { &mut needed.answering } else { &mut needed.silent };
            *slowest = Some(slowest.map_or(has, |other| other.min(has)));
        }
        needed
    }

    /// What raft-rs asked its storage for and did not get at once.
    pub(super) fn collect_wanted(&mut self) {
        let wanted = self.raft.mut_store().take_wanted();
        for (low, high, bytes_max) in wanted.reads {
            self.outputs.push(Output::ReadLog { low: Index(low), high: Index(high), bytes_max });
        }
        for to in wanted.snapshots.into_iter().map(NodeId) {
            if self.trim.may_build(to, self.now) {
                self.outputs.push(Output::BuildSnapshot { to });
            }
        }
    }
}
