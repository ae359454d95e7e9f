//! What happens to a replica, and what it wants done.

use bytes::Bytes;
use pontoon_kv::{Command, Entry, Index, NodeId, Outcome, Refusal, Reply, Seq, SessionId, Term, WaitKey};

use crate::message::{HardState, Message, SnapshotMeta};

/// Names a waiting client to the driver. Never used twice in a replica's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a client asks of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A command without a session. A write is passed on under the server's own session, after all such writes before it.
    Plain(Command),
    /// A command to be executed exactly once in a client's session (`ONCE`). A read is answered by ReadIndex all the same and
    /// is not recorded: reading twice does no harm.
    Once {
        /// The session, from [`Answer::Opened`].
        session: SessionId,
        /// The request's number in it, from 1.
        seq: Seq,
        /// The lowest number that the client has no answer to yet.
        ack: Seq,
        /// What to execute.
        command: Command,
    },
    /// `SESSION OPEN`
    OpenSession,
    /// `SESSION KEEPALIVE`
    KeepAliveSession(SessionId),
    /// `SESSION CLOSE`
    CloseSession(SessionId),
}

impl Request {
    /// The command in it, if it has one.
    pub fn command(&self) -> Option<&Command> {
        match self {
            Request::Plain(command) | Request::Once { command, .. } => Some(command),
            Request::OpenSession | Request::KeepAliveSession(_) | Request::CloseSession(_) => None,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A tick of the driver's clock has passed ([`Config::tick_ms`](crate::Config)).
    Tick,
    /// A message of another member arrived.
    Message(Message),
    /// A client asks. Its answer comes as [`Output::Answer`] or from the performer of [`Output::Read`], within the request
    /// timeout.
    Request(Ticket, Request),
    /// All [`Persist`]s up to this number are durable.
    Persisted(u64),
    /// The entries up to `index` are applied; `outcomes` are those of their proposals, in order.
    Applied {
        /// The last applied entry.
        index: Index,
        /// One per proposal.
        outcomes: Vec<(WaitKey, Outcome)>,
    },
    /// The answer to [`Output::ReadLog`].
    LogRead(LogRead),
    /// The state up to this index is durable without the log.
    StateDurable(Index),
    /// A view of the state was pinned: the answer to [`Output::BuildSnapshot`].
    SnapshotBuilt {
        /// The follower that it is for.
        to: NodeId,
        /// What it is of.
        meta: SnapshotMeta,
    },
    /// Streaming a snapshot ended.
    SnapshotSent {
        /// The follower that it was for.
        to: NodeId,
        /// Whether the follower has all of it.
        ok: bool,
    },
    /// A whole snapshot arrived, is durable and waits to be installed; this is the message that announced it. (If it is not
    /// wanted any more, nothing comes of it, and the driver drops what it received when it receives the next.)
    SnapshotReceived(Message),
    /// The snapshot of [`Output::InstallSnapshot`] is now the state.
    SnapshotInstalled(SnapshotMeta),
    /// A member cannot be reached right now.
    Unreachable(NodeId),
    /// Hand leadership over, if this is the leader: the server is about to stop. Requests are refused from now on.
    Stop,
    /// The server stops now: answer whatever still waits.
    Abandon,
}

/// Entries of the log's older part, from the disk.
#[derive(Debug)]
pub struct LogRead {
    /// Where they start.
    pub low: Index,
    /// What the disk had, from `low` on; empty if it has been trimmed in the meantime.
    pub entries: Vec<Entry>,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Send these. Losing, delaying, duplicating or reordering them is allowed; members of one destination in order is fastest.
    Send(Vec<Message>),
    /// Make this durable, then say [`Input::Persisted`]. **In order.**
    Persist(Persist),
    /// Apply these entries, in order and after those of earlier `Apply`s, then say [`Input::Applied`].
    Apply(Vec<Entry>),
    /// Execute these reads on the state as it is now (or later) and answer the tickets: the replica is done with them.
    Read(Vec<(Ticket, Command)>),
    /// Answer these tickets.
    Answer(Vec<(Ticket, Answer)>),
    /// Read entries from the disk: from `low` to below `high`, at least one, not many more than `bytes_max` bytes.
    ReadLog {
        /// From here; to be handed back in [`LogRead`].
        low: Index,
        /// To below here.
        high: Index,
        /// About as many bytes.
        bytes_max: u64,
    },
    /// Pin a view of the state for this follower (dropping an earlier one for it), then say [`Input::SnapshotBuilt`].
    BuildSnapshot {
        /// The follower.
        to: NodeId,
    },
    /// Let go of the view pinned for this follower: it is not needed after all.
    ReleaseSnapshot {
        /// The follower.
        to: NodeId,
    },
    /// Stream the pinned view to the follower, with this message ahead; then say [`Input::SnapshotSent`]. Its driver says
    /// [`Input::SnapshotReceived`] once it has all.
    SendSnapshot(Message),
    /// Replace the state by the snapshot that was received, durably, after all earlier `Apply`s; then say
    /// [`Input::SnapshotInstalled`].
    InstallSnapshot(SnapshotMeta),
    /// Make the state durable up to what is applied now, then say [`Input::StateDurable`].
    FlushState,
}

/// A step of the log's and the hard state's life, durable as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Persist {
    /// Counts up from 1; to be handed back in [`Input::Persisted`].
    pub number: u64,
    /// Whether anything waits for the disk. If not, this may be written whenever something else is.
    pub sync: bool,
    /// The log is to be empty and to start after this position: a snapshot was installed. Comes before `entries`.
    pub reset_to: Option<(Index, Term)>,
    /// The hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Entries to append, after removing whatever the log has from the first one's index on.
    pub entries: Vec<Entry>,
    /// Entries up to this one (of this term) are no longer needed. After `entries`.
    pub trim_to: Option<(Index, Term)>,
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was executed, exactly once; this is the reply of that execution.
    Reply(Reply),
    /// A session is open.
    Opened(SessionId),
    /// The session was kept alive or closed.
    Done,
    /// It was surely not executed and never will be.
    NotExecuted(NotExecuted),
    /// It may have been executed, or may yet be. A retry is safe in a session and only there.
    Unknown(Unknown),
}

/// Why a request was surely not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotExecuted {
    /// No majority could be reached in time.
    NotReady,
    /// Too many requests wait here; try again later or elsewhere.
    Busy,
    /// The server is stopping; try another.
    Stopping,
    /// The state machine refused it.
    Refused(Refusal),
    /// The request breaks a limit; the text says which.
    TooLarge(Bytes),
}

/// Why it is not known whether a request was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// No outcome before the request timeout.
    TimedOut,
    /// It was executed while this server caught up from a snapshot, which holds no replies.
    Missed,
    /// The server stopped before there was an outcome.
    Stopping,
}
