//! What a server says of itself (`INFO`, `pontoon status`).

pub use pontoon_replica::Role;

/// One group's figures on this server, as its threads publish them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The replica's own.
    pub replica: pontoon_replica::Status,
    /// Open sessions.
    pub sessions: u64,
    /// Bytes of the state on the disk.
    pub state_bytes: u64,
}
