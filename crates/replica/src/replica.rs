//! The step function: raft-rs, the log's window and the waiting clients, moved by inputs.

use bytes::Bytes;
use pontoon_kv::{
    CallId, Command, Index, NodeId, Outcome, Proposal, Refusal, SessionKind, Term, WaitKey, Block, BlockBuilder,
};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole, eraftpb};

use crate::{
    Config, HardState, Message, MessageKind, Restored, Role, Status,
    calls::Calls,
    convert,
    io::{Answer, Input, LogRead, NotExecuted, Output, Persist, Request, Ticket},
    log::LogWindow,
    persist::{Persists, Released},
    reads::Reads,
    relay::{Heard, Relay},
    trim::Trim,
};

/// A round of ReadIndex without an answer for this long is taken for lost.
const READ_PATIENCE_TICKS: u64 = 4;

/// A pinned view that raft-rs has not asked for in this long is let go.
const PINNED_TICKS_MAX: u64 = 400;

/// One member of one group. See the [crate] for how to drive it.
pub struct Replica {
    config: Config,
    raft: RawNode<LogWindow>,
    /// Ticks since the start.
    now: u64,
    /// The cluster clock as far as this member has seen it, in milliseconds; it moves on while this member leads.
    clock: u64,
    applied: Index,
    nonce: u64,
    stopping: bool,
    relay: Relay,
    /// The call that opens the relay's session or keeps it alive.
    relay_call: Option<CallId>,
    calls: Calls,
    reads: Reads,
    persists: Persists,
    trim: Trim,
    /// Views pinned for followers and not asked for yet, with the tick.
    pinned: Vec<(NodeId, u64)>,
    /// (term, leader, role) after the last turn.
    seen: (u64, u64, StateRole),
    messages: Vec<Message>,
    answers: Vec<(Ticket, Answer)>,
    outputs: Vec<Output>,
}

impl Replica {
    /// A member as its disk remembers it.
    ///
    /// # Panics
    ///
    /// If the log and the state do not fit together, or the configuration is not valid (heartbeats must come more often than
    /// elections): the driver has checked both.
    pub fn new(config: Config, restored: Restored) -> Replica {
        let applied = restored.applied.index;
        let last_clock = restored.entries.last().map_or(0, |entry| entry.clock.0);
        let clock = restored.applied.clock.0.max(last_clock);
        let raft_config = raft::Config {
            id: config.node.0,
            election_tick: config.election_ticks as usize,
            heartbeat_tick: config.heartbeat_ticks as usize,
            applied: applied.0,
            max_size_per_msg: config.append_bytes_max,
            max_inflight_msgs: config.append_inflight_max,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: config.uncommitted_bytes_max,
            max_committed_size_per_ready: 16 << 20,
            ..raft::Config::default()
        };
        let log = LogWindow::new(restored, config.log_bytes_max.map_or(1 << 20, |max| (max / 64).max(1)));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&raft_config, log, &logger).expect("the configuration and the restored state are valid");
        let mut replica = Replica {
            trim: Trim::new(config.log_bytes_max, applied),
            nonce: mix(config.seed),
            config,
            raft,
            now: 0,
            clock,
            applied,
            stopping: false,
            relay: Relay::default(),
            relay_call: None,
            calls: Calls::default(),
            reads: Reads::default(),
            persists: Persists::default(),
            pinned: Vec::new(),
            seen: (0, 0, StateRole::Follower),
            messages: Vec::new(),
            answers: Vec::new(),
            outputs: Vec::new(),
        };
        replica.set_election_timeout();
        replica
    }

    /// Something happened. What is to be done about it comes from [`Replica::outputs`]; a driver that has many inputs steps
    /// them all first, so that one persist, one message and one apply carry them together.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => self.on_tick(),
            Input::Message(message) => self.on_message(message),
            Input::Request(ticket, request) => self.on_request(ticket, request),
            Input::Persisted(number) => {
                let released = self.persists.persisted(number);
                self.release(released);
            }
            Input::Applied { index, outcomes } => self.on_applied(index, outcomes),
            Input::LogRead(read) => self.on_log_read(read),
            Input::StateDurable(index) => self.trim.on_durable(index),
            Input::SnapshotBuilt { to, meta } => {
                self.raft.mut_store().snapshot_built(to, meta);
                self.pinned.push((to, self.now));
                if self.leads() && self.raft.raft.prs().get(to.0).is_some() {
                    self.raft.raft.send_append(to.0);
                }
            }
            Input::SnapshotSent { to, ok } => {
                self.raft.mut_store().snapshot_done(to);
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.raft.report_snapshot(to.0, status);
            }
            Input::SnapshotReceived(message) => self.on_message(message),
            Input::SnapshotInstalled(meta) => self.on_snapshot_installed(meta.index, meta.clock.0),
            Input::Unreachable(node) => self.raft.report_unreachable(node.0),
            Input::Stop => self.on_stop(),
            Input::Abandon => self.on_abandon(),
        }
        // raft-rs draws its own election timeouts whenever its role or term changes; a seed must decide.
        self.set_election_timeout();
    }

    /// What is to be done now. Call it after each batch of steps.
    pub fn outputs(&mut self) -> Vec<Output> {
        self.drain_ready();
        self.open_relay();
        self.propose();
        self.ask_read_index();
        self.drain_ready();
        self.trim_log();
        self.collect_wanted();
        let reads = self.reads.take_ready(self.applied);
        if !reads.is_empty() {
            self.outputs.push(Output::Read(reads));
        }
        if !self.messages.is_empty() {
            self.outputs.push(Output::Send(std::mem::take(&mut self.messages)));
        }
        if !self.answers.is_empty() {
            self.outputs.push(Output::Answer(std::mem::take(&mut self.answers)));
        }
        self.set_election_timeout();
        std::mem::take(&mut self.outputs)
    }

    /// The replica's figures.
    pub fn status(&self) -> Status {
        let raft = &self.raft.raft;
        let learner = raft.prs().conf().learners().contains(&raft.id);
        Status {
            role: match raft.state {
                StateRole::Leader => Role::Leader,
                StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
                StateRole::Follower if learner => Role::Learner,
                StateRole::Follower => Role::Follower,
            },
            term: Term(raft.term),
            leader: self.leader(),
            commit: Index(raft.raft_log.committed),
            applied: self.applied,
            last: self.raft.store().last(),
            trimmed: self.raft.store().trimmed(),
            log_bytes: self.raft.store().bytes(),
            waiting: self.waiting() as u64,
        }
    }

    fn leads(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId(self.raft.raft.leader_id)).filter(|leader| leader.0 != raft::INVALID_ID)
    }

    fn waiting(&self) -> usize {
        self.relay.len() + self.calls.len() + self.reads.len()
    }

    fn call_id(&mut self) -> CallId {
        self.nonce = self.nonce.wrapping_add(1);
        CallId { node: self.config.node, nonce: self.nonce }
    }

    fn set_election_timeout(&mut self) {
        let raft = &mut self.raft.raft;
        let min = u64::from(self.config.election_ticks);
        let drawn = mix(self.config.seed ^ mix(raft.id) ^ mix(raft.term << 2 | raft.state as u64));
        raft.set_randomized_election_timeout((min + drawn % min) as usize);
    }

    // ---- what happened ----

    fn on_tick(&mut self) {
        self.now += 1;
        if self.leads() {
            self.clock += self.config.tick_ms;
        }
        if !self.is_mending() {
            self.raft.tick();
        }
        if !self.leads() {
            // A leader has its proposals in its own log; only what is passed on can vanish.
            let patience = u64::from(self.config.election_ticks) * 2;
            self.relay.tick(self.now, patience);
            self.calls.tick(self.now, patience);
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

    fn on_message(&mut self, message: Message) {
        if message.to != self.config.node || self.is_stale_rejection(&message) {
            return;
        }
        let campaigns = message.kind == MessageKind::TimeoutNow;
        if campaigns && self.is_mending() || message.kind == MessageKind::Snapshot && self.persists.installing() {
            return; // Its sender tries again.
        }
        let mut raft = convert::message_to_raft(message);
        if raft.msg_type == eraftpb::MessageType::MsgPropose {
            if raft.entries.is_empty() || !self.leads() {
                return; // Who passed it on to a former leader proposes it again.
            }
            self.stamp(&mut raft.entries);
        }
        // Errors are of messages that come too late (of removed members, of former leaders): nothing to be done.
        let _ = self.raft.step(raft);
    }

    /// Whether a snapshot is on its way to become the state: its log starts there already, and is not durable yet. Such a member must
    /// not campaign: raft-rs would look through the entries since the last applied one, which are gone, and panic.
    fn is_mending(&self) -> bool {
        self.raft.raft.raft_log.applied < self.raft.store().trimmed().0
    }

    /// raft-rs 0.7.0 takes a rejection that was overtaken by an acknowledgement at its word, and then has `next <= matched`
    /// (fixed upstream, unreleased). A follower never loses what it acknowledged, so such a rejection is old.
    fn is_stale_rejection(&self, message: &Message) -> bool {
        if message.kind != MessageKind::AppendResponse || !message.reject || message.request_snapshot != Index(0) {
            return false;
        }
        let progress = self.raft.raft.prs().get(message.from.0);
        progress.is_some_and(|progress| {
            progress.state != ProgressState::Replicate
                && (message.index.0 <= progress.matched || message.reject_hint.0 < progress.matched)
        })
    }

    fn on_request(&mut self, ticket: Ticket, request: Request) {
        if self.stopping {
            self.answers.push((ticket, Answer::NotExecuted(NotExecuted::Stopping)));
            return;
        }
        let command = match &request {
            Request::Plain(command) | Request::Once { command, .. } => Some(command),
            _ => None,
        };
        if let Some(Err(broken)) = command.map(|command| command.check(&self.config.limits)) {
            let text = Bytes::from(broken.to_string());
            self.answers.push((ticket, Answer::NotExecuted(NotExecuted::TooLarge(text))));
            return;
        }
        let bytes = command.map_or(0, Command::bytes);
        let waiting_bytes = self.relay.bytes() + self.calls.bytes();
        if self.waiting() >= self.config.waiting_max || waiting_bytes + bytes > self.config.waiting_bytes_max {
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

    fn on_applied(&mut self, index: Index, outcomes: Vec<(WaitKey, Outcome)>) {
        for (key, outcome) in outcomes {
            self.on_outcome(key, outcome);
        }
        self.applied = self.applied.max(index);
        self.advance_applied();
    }

    /// Tells raft-rs how far the state is. After a snapshot it must not hear of it before the log starts there durably.
    fn advance_applied(&mut self) {
        let log = &self.raft.raft.raft_log;
        if log.applied < self.applied.0 && self.applied.0 <= log.committed.min(log.persisted) {
            self.raft.advance_apply_to(self.applied.0);
        }
    }

    fn on_outcome(&mut self, key: WaitKey, outcome: Outcome) {
        match key {
            WaitKey::Request(session, seq) if Some(session) == self.relay.session() => {
                match self.relay.on_outcome(seq, outcome, self.now) {
                    Heard::Answer(ticket, answer) => self.answers.push((ticket, answer)),
                    Heard::SessionLost => self.answers.extend(self.relay.session_lost()),
                    Heard::Nothing => {}
                }
            }
            WaitKey::Call(call) if Some(call) == self.relay_call => {
                self.calls.on_outcome(key, &outcome, &mut self.answers);
                self.relay_call = None;
                match outcome {
                    Outcome::Opened(session) => self.relay.opened(session, self.now),
                    Outcome::Refused(Refusal::SessionUnknown) => self.answers.extend(self.relay.session_lost()),
                    _ => {}
                }
            }
            _ => {
                self.calls.on_outcome(key, &outcome, &mut self.answers);
            }
        }
    }

    fn on_log_read(&mut self, read: LogRead) {
        if let Some(context) = self.raft.mut_store().fetched(read.low, read.entries) {
            self.raft.on_entries_fetched(context);
            self.raft.mut_store().drop_fetched();
        }
    }

    fn on_snapshot_installed(&mut self, index: Index, clock: u64) {
        self.applied = index;
        self.clock = self.clock.max(clock);
        self.trim.on_durable(index);
        for persist in self.persists.installed() {
            self.outputs.push(Output::Persist(persist));
        }
        // What this member proposed may have been applied within the snapshot; proposing it again finds out.
        self.relay.snapshot_installed(self.now);
        self.calls.propose_again();
    }

    fn on_stop(&mut self) {
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

    fn on_abandon(&mut self) {
        self.stopping = true;
        let abandoned = [self.relay.abandon(), self.calls.abandon(), self.reads.abandon()];
        self.answers.extend(abandoned.into_iter().flatten());
    }

    // ---- what to do ----

    /// Leads the relay's session through its life: opened as soon as there is a leader, kept alive while idle.
    fn open_relay(&mut self) {
        if self.relay_call.is_some() || self.stopping || self.leader().is_none() {
            return;
        }
        let idle_ticks_max = self.config.limits.session_ttl_ms / 3 / self.config.tick_ms.max(1);
        let session = self.relay.session();
        if session.is_some() && self.now < self.relay.last_activity() + idle_ticks_max {
            return;
        }
        let call = self.call_id();
        self.relay_call = Some(call);
        self.calls.push_own(match session {
            None => Proposal::Open { call, kind: SessionKind::Relay },
            Some(session) => Proposal::KeepAlive { call, session },
        });
        self.relay.touch(self.now);
    }

    /// Hands everything unproposed to Raft, in blocks, about [`Config::append_bytes_max`] in one message.
    fn propose(&mut self) {
        while self.leader().is_some() && self.propose_some() {}
    }

    /// False: there is nothing left, or Raft does not take it now.
    fn propose_some(&mut self) -> bool {
        let mut blocks = Blocks::new(self.config.block_bytes_max, self.config.append_bytes_max as usize);
        let calls = self.calls.unproposed().take_while(|proposal| blocks.push(proposal)).count();
        let writes = self.relay.unproposed().take_while(|proposal| blocks.push(proposal)).count();
        if calls + writes == 0 {
            return false;
        }
        let mut entries = blocks.finish();
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

    fn ask_read_index(&mut self) {
        // raft-rs would drop the question without a word before the leader has committed in its term.
        let answerable = if self.leads() { self.raft.raft.commit_to_current_term() } else { self.leader().is_some() };
        if !answerable || !self.reads.wants_round() {
            return;
        }
        let id = self.call_id();
        let context = Bytes::from([id.node.0.to_le_bytes(), id.nonce.to_le_bytes()].concat());
        self.raft.read_index(context.to_vec());
        self.reads.round_asked(context, self.now);
    }

    fn drain_ready(&mut self) {
        while self.raft.has_ready() {
            self.handle_ready();
        }
        let raft = &self.raft.raft;
        let seen = (raft.term, raft.leader_id, raft.state);
        if seen != self.seen && raft.leader_id != raft::INVALID_ID {
            self.relay.propose_again(self.now);
            self.calls.propose_again();
            self.reads.ask_again(self.now);
        }
        self.seen = seen;
        let settled = self.applied.0.min(self.raft.raft.raft_log.persisted);
        self.raft.mut_store().shrink_window(settled, self.config.window_bytes_max);
    }

    fn handle_ready(&mut self) {
        let mut ready = self.raft.ready();
        let number = ready.number();
        let sync = ready.must_sync();
        self.send(ready.take_messages());
        for state in ready.take_read_states() {
            self.reads.round_confirmed(&state.request_ctx, Index(state.index));
        }
        let hard_state = ready.hs().map(convert::hard_state_from_raft);
        let snapshot = Some(ready.snapshot()).filter(|snapshot| !snapshot.is_empty()).map(convert::snapshot_from_raft);
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
            self.clock = entries.last().map_or(0, |entry| entry.clock.0).max(self.clock);
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

    /// raft-rs holds back all messages of a member that does not lead until the disk has what came with them. Three kinds
    /// claim nothing that the disk must remember, and a slow disk must not delay them: what is passed on to the leader, and
    /// the answer to a heartbeat of a term that is durable.
    fn send_what_needs_no_disk(&mut self, held: Vec<eraftpb::Message>, sync: bool, hard_state: Option<HardState>) -> Vec<Message> {
        let term_pending = self.persists.term_in_flight() || (sync && hard_state.is_some());
        let mut kept = Vec::new();
        for message in held.into_iter().map(convert::message_from_raft) {
            match message.kind {
                MessageKind::Propose | MessageKind::ReadIndex => self.messages.push(message),
                MessageKind::HeartbeatResponse if !term_pending => self.messages.push(message),
                _ => kept.push(message),
            }
        }
        kept
    }

    fn release(&mut self, released: Released) {
        if released.ready > 0 {
            self.raft.on_persist_ready(released.ready);
            self.advance_applied();
        }
        self.messages.extend(released.messages);
    }

    fn send(&mut self, messages: Vec<eraftpb::Message>) {
        for message in messages.into_iter().map(convert::message_from_raft) {
            if message.kind == MessageKind::Snapshot {
                self.pinned.retain(|(to, _)| *to != message.to);
                self.outputs.push(Output::SendSnapshot(message));
            } else {
                self.messages.push(message);
            }
        }
    }

    fn trim_log(&mut self) {
        if self.persists.installing() {
            return;
        }
        if let Some(position) = self.trim.position(self.raft.store(), self.applied) {
            self.raft.mut_store().trim(position);
            if let Some(persist) = self.persists.push(Persist { trim_to: Some(position), ..Persist::default() }) {
                self.outputs.push(Output::Persist(persist));
            }
        }
        if self.trim.wants_flush(self.raft.store(), self.applied) {
            self.outputs.push(Output::FlushState);
        }
    }

    /// What raft-rs asked its storage for and did not get at once.
    fn collect_wanted(&mut self) {
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

/// Proposals on their way into entries, each entry a block of bounded size.
struct Blocks {
    block_bytes_max: usize,
    bytes_left: usize,
    block: BlockBuilder,
    entries: Vec<eraftpb::Entry>,
}

impl Blocks {
    fn new(block_bytes_max: usize, bytes_max: usize) -> Blocks {
        Blocks { block_bytes_max, bytes_left: bytes_max, block: BlockBuilder::new(), entries: Vec::new() }
    }

    /// False: there is no room left. (A single proposal may be larger than all the room there is.)
    fn push(&mut self, proposal: &Proposal) -> bool {
        if self.bytes_left == 0 {
            return false;
        }
        if self.block.bytes() >= self.block_bytes_max || self.block.len() == Block::PROPOSALS_MAX {
            self.seal();
        }
        let before = self.block.bytes();
        self.block.push(proposal);
        self.bytes_left = self.bytes_left.saturating_sub(self.block.bytes() - before);
        true
    }

    fn seal(&mut self) {
        let block = std::mem::replace(&mut self.block, BlockBuilder::new());
        if !block.is_empty() {
            self.entries.push(eraftpb::Entry { data: block.finish(), ..eraftpb::Entry::default() });
        }
    }

    fn finish(mut self) -> Vec<eraftpb::Entry> {
        self.seal();
        self.entries
    }
}

/// The finalizer of splitmix64: spreads a seed over all bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
