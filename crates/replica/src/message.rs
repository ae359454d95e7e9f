//! What members of a group say to one another, and what each must remember, free of raft-rs's own types
//! (`wire` and `storage` own the bytes; nothing but this crate knows raft-rs).

use bytes::Bytes;
use pontoon_kv::{ClusterTime, ConfState, Entry, Index, NodeId, Term};

/// What a member must not forget (Raft paper, figure 2: persistent state).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The latest term seen.
    pub term: Term,
    /// Who got this member's vote in that term; node 0: nobody.
    pub vote: NodeId,
    /// Known to be committed. It may lag behind; it is not synced for its own sake.
    pub commit: Index,
}

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot covers.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The cluster clock after it.
    pub clock: ClusterTime,
    /// The membership after it.
    pub conf_state: ConfState,
}

/// The kinds of messages between members (raft-rs's `MessageType` without its local ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// Proposals passed on to the leader: `entries`, with neither index nor term.
    Propose = 1,
    /// AppendEntries (Raft paper, 5.3): `index` and `log_term` of the entry before, `entries`, `commit`.
    Append = 2,
    /// Its answer: `index` of the last entry held, or `reject` with `reject_hint` and `log_term`; `commit`.
    AppendResponse = 3,
    /// `commit`, and the `context` of a ReadIndex round.
    Heartbeat = 4,
    /// The `context` of the heartbeat; `commit`.
    HeartbeatResponse = 5,
    /// RequestVote (5.2): `index` and `log_term` of the last entry; `context` says if it is a leadership transfer.
    RequestVote = 6,
    /// Its answer: `reject`, `commit`, `commit_term`.
    RequestVoteResponse = 7,
    /// As a RequestVote for the next term, changing nothing (thesis, 9.6).
    RequestPreVote = 8,
    /// Its answer.
    RequestPreVoteResponse = 9,
    /// InstallSnapshot (section 7): `snapshot` says of what; its contents come by another way and *first*.
    Snapshot = 10,
    /// A follower asks the leader to hand over to `from`.
    TransferLeader = 11,
    /// The leader tells a follower to campaign at once.
    TimeoutNow = 12,
    /// A follower asks the leader of its term for a read index; `entries[0].data` names the round (thesis, 6.4).
    ReadIndex = 13,
    /// `index` is the read index of the round named by `entries[0].data`.
    ReadIndexResponse = 14,
}

/// A message between two members of a group. A field that its kind does not name is zero or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's term; 0 in proposals, which are passed on regardless of terms.
    pub term: Term,
    /// A term of a log position, see [`MessageKind`].
    pub log_term: Term,
    /// A log position, see [`MessageKind`].
    pub index: Index,
    /// Entries, see [`MessageKind`].
    pub entries: Vec<Entry>,
    /// Up to where the sender knows the log to be committed.
    pub commit: Index,
    /// The term of the entry at `commit`; 0 if unknown.
    pub commit_term: Term,
    /// What a snapshot is of; in [`MessageKind::Snapshot`] only.
    pub snapshot: Option<SnapshotMeta>,
    /// In a rejection: the follower asks for a snapshot of at least this index; 0: it does not.
    pub request_snapshot: Index,
    /// The answer is no.
    pub reject: bool,
    /// In a rejection: where the logs may agree.
    pub reject_hint: Index,
    /// An opaque note, handed back as it came.
    pub context: Bytes,
    /// Election priority; 0 by default.
    pub priority: i64,
}
