//! What enters the log, and what comes out of applying it.

use bytes::Bytes;

pub use crate::codec::{Block, BlockBuilder};
use crate::{ClusterTime, Command, Index, NodeId, Reply, Seq, SessionId, Term};

/// An entry of a group's log, as the core, the disk and the network pass it on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// The term of the leader that wrote it.
    pub term: Term,
    /// The cluster clock as that leader stamped it.
    pub clock: ClusterTime,
    /// An encoded block of proposals; empty in the entry by which a new leader commits its term.
    pub data: Bytes,
}

/// Names a proposal that belongs to no session, so that its proposer recognizes it when applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    /// Who proposed it.
    pub node: NodeId,
    /// Unique among all that this node ever proposes (it starts at random with each process).
    pub nonce: u64,
}

/// How a session decides what is new. See [`crate::session`] for the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionKind {
    /// A client's: requests of a window in any order, each reply kept until acknowledged.
    Client,
    /// A server's own, for plain Redis clients: strictly in order, no replies kept (the waiting client is on that server).
    Relay,
}

/// One request in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// Opens a session.
    Open { call: CallId, kind: SessionKind },
    /// Marks a session as active now.
    KeepAlive { call: CallId, session: SessionId },
    /// Ends a session.
    Close { call: CallId, session: SessionId },
    /// Executes a command exactly once in a client's session. `ack` is the lowest seq that the client has no answer to yet.
    Once { session: SessionId, seq: Seq, ack: Seq, command: Command },
    /// Executes a command exactly once and in order in a server's session. `ack` is the lowest seq that the server still waits
    /// for (lower ones that were not executed never will be); `attempt` counts how often it proposed anew, so that a refusal of
    /// an older copy is told from one of the newest.
    Relay { session: SessionId, seq: Seq, ack: Seq, attempt: u32, command: Command },
}

/// Who may be waiting for a proposal's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitKey {
    /// The caller of an open, keep-alive or close.
    Call(CallId),
    /// Whoever sent this request of this session, however often.
    Request(SessionId, Seq),
}

impl Proposal {
    /// Who may be waiting for its outcome.
    pub fn wait_key(&self) -> WaitKey {
        match *self {
            Proposal::Open { call, .. } | Proposal::KeepAlive { call, .. } | Proposal::Close { call, .. } => {
                WaitKey::Call(call)
            }
            Proposal::Once { session, seq, .. } | Proposal::Relay { session, seq, .. } => {
                WaitKey::Request(session, seq)
            }
        }
    }
}

/// What applying one proposal came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Executed, now or when it was first applied: the reply of that one execution.
    Reply(Reply),
    /// A session is open.
    Opened(SessionId),
    /// A session was kept alive or closed.
    Done,
    /// This copy was not executed.
    Refused(Refusal),
}

/// Why a copy of a proposal was not executed. Every replica reaches it alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such session: never opened, closed, or idle for too long.
    #[error("the session is unknown or expired")]
    SessionUnknown,
    /// `seq` is below the session's floor: the client has declared that it has this answer (or does not want it).
    #[error("the request is older than the session's acknowledged floor")]
    Stale,
    /// `seq` is at or above `ack + window`.
    #[error("the request is outside of the session's window")]
    OutsideWindow,
    /// A relayed request whose predecessor has not been executed; the server proposes again from there.
    #[error("an earlier request of the server's session is missing")]
    Gap {
        /// The attempt that was refused.
        attempt: u32,
    },
    /// The cap on open sessions is reached.
    #[error("too many open sessions")]
    TooManySessions,
}
