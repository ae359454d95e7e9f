//! The step function: raft-rs, the log's window and the waiting clients, moved by inputs.

mod due;
mod happened;
#[cfg(feature = "mutants")]
mod mutants;
#[cfg(test)]
mod tests;

use pontoon_kv::{CallId, Entry, Index, NodeId, Term};
use raft::{RawNode, SnapshotStatus, StateRole};

use crate::{
    Config, Message, Restored, Role, Status,
    calls::Calls,
    confirmers::Confirmers,
    io::{Answer, Input, Output, Ticket},
    log::LogWindow,
    news::News,
    passed_on::PassedOn,
    persist::Persists,
    reads::Reads,
    relay::Relay,
    trim::Trim,
};

/// A round of ReadIndex without an answer for this long is taken for lost. It may take three times the way to the leader and back: to
/// ask it, to wait for a place among its rounds, and for the round.
const READ_PATIENCE_TICKS: u64 = 12;

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
    /// What other members passed on to this one as their leader, and is not in the log yet.
    passed_on: PassedOn,
    news: News,
    reads: Reads,
    confirmers: Confirmers,
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
        let clock = restored.applied.clock.0.max(latest_clock(&restored.entries));
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
            skip_bcast_commit: true,
            ..raft::Config::default()
        };
        let log = LogWindow::new(restored, config.log_bytes_max.map_or(1 << 20, |max| (max / 64).max(1)));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&raft_config, log, &logger)
            .expect("the configuration and the restored state are valid");
        let mut replica = Replica {
            trim: Trim::new(config.node, config.log_bytes_max, applied),
            nonce: mix(config.seed),
            passed_on: PassedOn::new(config.uncommitted_bytes_max),
            news: News::default(),
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
            confirmers: Confirmers::default(),
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
            Input::Unreachable(node) => self.on_unreachable(node),
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
        self.tell_news();
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
            window_bytes: self.raft.store().window_bytes(),
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
}

/// The latest time that entries are stamped with. It need not be the last one's: that of a new leader has no stamp.
fn latest_clock(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.clock.0).max().unwrap_or_default()
}

/// The finalizer of splitmix64: spreads a seed over all bits.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
