//! What a replica says of itself.

use pontoon_kv::{Index, NodeId, Term};

/// A member's part in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Campaigns (also: pre-campaigns).
    Candidate,
    /// Leads.
    Leader,
    /// Replicates without a vote.
    Learner,
}

impl Role {
    /// Lower case, as in `INFO`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Learner => "learner",
        }
    }
}

/// A replica's figures at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// This member's part.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// Committed up to here.
    pub commit: Index,
    /// Applied up to here.
    pub applied: Index,
    /// The log's last entry.
    pub last: Index,
    /// The log is trimmed up to here: older entries are in the state only.
    pub trimmed: Index,
    /// Bytes of entries in the log.
    pub log_bytes: u64,
    /// Of these, bytes that are in memory.
    pub window_bytes: u64,
    /// Requests that wait for an answer.
    pub waiting: u64,
}
