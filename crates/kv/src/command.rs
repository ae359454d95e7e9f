//! What a client asks of the data.

use bytes::Bytes;

/// When a [`Command::Set`] writes (Redis `SET ... NX|XX`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SetCondition {
    /// Whatever is there.
    #[default]
    Always,
    /// Only if the key is absent (`NX`).
    IfAbsent,
    /// Only if the key is present (`XX`).
    IfPresent,
}

/// A request to the data, as the log stores it. Semantics and replies are those of the Redis command of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The value, or nil.
    Get { key: Bytes },
    /// The value's length in bytes, 0 for a missing key.
    StrLen { key: Bytes },
    /// How many of the keys exist; a key named twice counts twice.
    Exists { keys: Vec<Bytes> },
    /// The values in order, nil for a missing key.
    MGet { keys: Vec<Bytes> },
    /// Sets the key. Replies `Ok`, or `Nil` if the condition did not hold; with `return_old` the old value or `Nil`
    /// (whether or not it was set).
    Set { key: Bytes, value: Bytes, condition: SetCondition, return_old: bool },
    /// Appends; a missing key is empty. Replies with the new length.
    Append { key: Bytes, value: Bytes },
    /// Removes the keys. Replies with how many there were.
    Del { keys: Vec<Bytes> },
    /// Sets all pairs; of a key named twice the last wins. Replies `Ok`.
    MSet { pairs: Vec<(Bytes, Bytes)> },
    /// Adds to the decimal integer at key (missing: 0). Replies with the sum.
    IncrBy { key: Bytes, delta: i64 },
    /// All commands, atomically and in order, each seeing the ones before. An error reply of one does not undo or stop the
    /// others (as in a Redis transaction). Replies with an array. A batch holds no batch.
    Batch { commands: Vec<Command> },
}

impl Command {
    /// Whether the command changes nothing, whatever the state: it is answered by ReadIndex, without a log entry.
    pub fn is_read(&self) -> bool {
        match self {
            Command::Get { .. } | Command::StrLen { .. } | Command::Exists { .. } | Command::MGet { .. } => true,
            Command::Batch { commands } => commands.iter().all(Command::is_read),
            _ => false,
        }
    }
}
