//! Limits that all members of a cluster must agree on, because the machine decides by them.

/// Cluster-wide limits; peers compare them when they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A key's length, in bytes.
    pub key_bytes_max: u32,
    /// A value's length, in bytes, also after `APPEND`.
    pub value_bytes_max: u32,
    /// Open sessions; at the cap a client's open is refused and no session is evicted.
    pub sessions_max: u32,
    /// A client session's window: how many requests from `ack` on may be in flight.
    pub session_window: u32,
    /// A session idle for longer, in milliseconds of cluster time, expires.
    pub session_ttl_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            key_bytes_max: 64 << 10,
            value_bytes_max: 16 << 20,
            sessions_max: 100_000,
            session_window: 256,
            session_ttl_ms: 5 * 60 * 1000,
        }
    }
}

impl Limits {
    /// What the keys and values of one command may come to, in bytes. It bounds a log entry.
    pub fn command_bytes_max(&self) -> u64 {
        2 * (u64::from(self.key_bytes_max) + u64::from(self.value_bytes_max))
    }

    /// What a read may reply, in bytes: values and a few bytes for each.
    pub fn read_reply_bytes_max(&self) -> u64 {
        u64::from(self.value_bytes_max).saturating_add(512 << 20)
    }

    /// What all commands of one log entry together may reply, in bytes: every replica holds these in memory at once, and those of
    /// client sessions in its store.
    pub fn entry_reply_bytes_max(&self) -> u64 {
        u64::from(self.value_bytes_max).saturating_add(64 << 20)
    }
}

/// Keys, pairs and commands of one command, all told.
pub const COMMAND_PARTS_MAX: usize = 65_536;

/// A command breaks a limit: it is refused before it is proposed, so surely not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// A key is too long.
    #[error("a key of {bytes} bytes is longer than key-bytes-max ({max})")]
    Key {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// A value is too long.
    #[error("a value of {bytes} bytes is longer than value-bytes-max ({max})")]
    Value {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: u32,
    },
    /// All keys and values together are too long.
    #[error(
        "keys and values of {bytes} bytes are more than one request may carry: twice key-bytes-max + value-bytes-max ({max}); split it"
    )]
    Command {
        /// Their length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Too many keys and commands.
    #[error("{count} keys and commands are more than one request may carry ({max}); split it", max = COMMAND_PARTS_MAX)]
    Parts {
        /// How many.
        count: usize,
    },
    /// A batch within a batch.
    #[error("a batch holds no batch")]
    NestedBatch,
}
