//! Between our messages and raft-rs's. Entries share their bytes.

use bytes::Bytes;
use pontoon_kv::{ClusterTime, ConfState, Entry, Index, NodeId, Term};
use raft::eraftpb;

use crate::message::{HardState, Message, MessageKind, SnapshotMeta};

/// The cluster clock as it rides in an entry's context.
pub(crate) fn clock_bytes(clock: ClusterTime) -> Bytes {
    Bytes::copy_from_slice(&clock.0.to_le_bytes())
}

fn clock_of(bytes: &[u8]) -> ClusterTime {
    // raft-rs's own empty entries carry none: zero, which the machine takes for "not later than the last".
    ClusterTime(bytes.try_into().map_or(0, u64::from_le_bytes))
}

pub(crate) fn entry_from_raft(entry: eraftpb::Entry) -> Entry {
    assert_eq!(
        entry.entry_type,
        eraftpb::EntryType::EntryNormal,
        "membership entries are not written by this version"
    );
    Entry {
        index: Index(entry.index),
        term: Term(entry.term),
        clock: clock_of(&entry.context),
        data: entry.data,
    }
}

pub(crate) fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    let mut raft =
        eraftpb::Entry { index: entry.index.0, term: entry.term.0, data: entry.data, ..Default::default() };
    if entry.clock != ClusterTime(0) {
        raft.context = clock_bytes(entry.clock);
    }
    raft
}

pub(crate) fn hard_state_from_raft(state: &eraftpb::HardState) -> HardState {
    HardState { term: Term(state.term), vote: NodeId(state.vote), commit: Index(state.commit) }
}

pub(crate) fn hard_state_to_raft(state: HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term.0,
        vote: state.vote.0,
        commit: state.commit.0,
        ..Default::default()
    }
}

pub(crate) fn conf_state_from_raft(state: &eraftpb::ConfState) -> ConfState {
    let ids = |ids: &[u64]| ids.iter().map(|&id| NodeId(id)).collect();
    ConfState {
        voters: ids(&state.voters),
        learners: ids(&state.learners),
        voters_outgoing: ids(&state.voters_outgoing),
        learners_next: ids(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

pub(crate) fn conf_state_to_raft(state: &ConfState) -> eraftpb::ConfState {
    let ids = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect::<Vec<u64>>();
    eraftpb::ConfState {
        voters: ids(&state.voters),
        learners: ids(&state.learners),
        voters_outgoing: ids(&state.voters_outgoing),
        learners_next: ids(&state.learners_next),
        auto_leave: state.auto_leave,
        ..Default::default()
    }
}

pub(crate) fn snapshot_from_raft(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let metadata = snapshot.get_metadata();
    SnapshotMeta {
        index: Index(metadata.index),
        term: Term(metadata.term),
        clock: clock_of(&snapshot.data),
        conf_state: conf_state_from_raft(metadata.get_conf_state()),
    }
}

pub(crate) fn snapshot_to_raft(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot { data: clock_bytes(meta.clock), ..Default::default() };
    let metadata = snapshot.mut_metadata();
    metadata.index = meta.index.0;
    metadata.term = meta.term.0;
    metadata.set_conf_state(conf_state_to_raft(&meta.conf_state));
    snapshot
}

fn kind_from_raft(kind: eraftpb::MessageType) -> MessageKind {
    use eraftpb::MessageType as Raft;
    match kind {
        Raft::MsgPropose => MessageKind::Propose,
        Raft::MsgAppend => MessageKind::Append,
        Raft::MsgAppendResponse => MessageKind::AppendResponse,
        Raft::MsgHeartbeat => MessageKind::Heartbeat,
        Raft::MsgHeartbeatResponse => MessageKind::HeartbeatResponse,
        Raft::MsgRequestVote => MessageKind::RequestVote,
        Raft::MsgRequestVoteResponse => MessageKind::RequestVoteResponse,
        Raft::MsgRequestPreVote => MessageKind::RequestPreVote,
        Raft::MsgRequestPreVoteResponse => MessageKind::RequestPreVoteResponse,
        Raft::MsgSnapshot => MessageKind::Snapshot,
        Raft::MsgTransferLeader => MessageKind::TransferLeader,
        Raft::MsgTimeoutNow => MessageKind::TimeoutNow,
        Raft::MsgReadIndex => MessageKind::ReadIndex,
        Raft::MsgReadIndexResp => MessageKind::ReadIndexResponse,
        Raft::MsgHup | Raft::MsgBeat | Raft::MsgUnreachable | Raft::MsgSnapStatus | Raft::MsgCheckQuorum => {
            panic!("raft-rs never sends its local message {kind:?}")
        }
    }
}

fn kind_to_raft(kind: MessageKind) -> eraftpb::MessageType {
    use eraftpb::MessageType as Raft;
    match kind {
        MessageKind::Propose => Raft::MsgPropose,
        MessageKind::Append => Raft::MsgAppend,
        MessageKind::AppendResponse => Raft::MsgAppendResponse,
        MessageKind::Heartbeat => Raft::MsgHeartbeat,
        MessageKind::HeartbeatResponse => Raft::MsgHeartbeatResponse,
        MessageKind::RequestVote => Raft::MsgRequestVote,
        MessageKind::RequestVoteResponse => Raft::MsgRequestVoteResponse,
        MessageKind::RequestPreVote => Raft::MsgRequestPreVote,
        MessageKind::RequestPreVoteResponse => Raft::MsgRequestPreVoteResponse,
        MessageKind::Snapshot => Raft::MsgSnapshot,
        MessageKind::TransferLeader => Raft::MsgTransferLeader,
        MessageKind::TimeoutNow => Raft::MsgTimeoutNow,
        MessageKind::ReadIndex => Raft::MsgReadIndex,
        MessageKind::ReadIndexResponse => Raft::MsgReadIndexResp,
    }
}

pub(crate) fn message_from_raft(mut raft: eraftpb::Message) -> Message {
    Message {
        kind: kind_from_raft(raft.msg_type),
        from: NodeId(raft.from),
        to: NodeId(raft.to),
        term: Term(raft.term),
        log_term: Term(raft.log_term),
        index: Index(raft.index),
        entries: raft.take_entries().into_iter().map(entry_from_raft).collect(),
        commit: Index(raft.commit),
        commit_term: Term(raft.commit_term),
        snapshot: raft.snapshot.as_ref().map(snapshot_from_raft),
        request_snapshot: Index(raft.request_snapshot),
        reject: raft.reject,
        reject_hint: Index(raft.reject_hint),
        context: raft.context,
        priority: raft.priority,
    }
}

pub(crate) fn message_to_raft(message: Message) -> eraftpb::Message {
    let mut raft = eraftpb::Message {
        msg_type: kind_to_raft(message.kind),
        from: message.from.0,
        to: message.to.0,
        term: message.term.0,
        log_term: message.log_term.0,
        index: message.index.0,
        entries: message.entries.into_iter().map(entry_to_raft).collect(),
        commit: message.commit.0,
        commit_term: message.commit_term.0,
        request_snapshot: message.request_snapshot.0,
        reject: message.reject,
        reject_hint: message.reject_hint.0,
        context: message.context,
        priority: message.priority,
        ..Default::default()
    };
    if let Some(meta) = &message.snapshot {
        raft.set_snapshot(snapshot_to_raft(meta));
    }
    raft
}
