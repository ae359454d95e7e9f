//! What a client asks of the data.

use bytes::Bytes;

use crate::{
    Limits,
    limits::{COMMAND_PARTS_MAX, LimitExceeded},
};

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
            Command::Get { .. } | Command::StrLen { .. } | Command::Exists { .. } | Command::MGet { .. } => {
                true
            }
            Command::Batch { commands } => commands.iter().all(Command::is_read),
            _ => false,
        }
    }

    /// Bytes of its keys and values: about what it costs to keep and to pass on.
    pub fn bytes(&self) -> u64 {
        let sum = |keys: &[Bytes]| keys.iter().map(|key| key.len() as u64).sum();
        match self {
            Command::Get { key } | Command::StrLen { key } | Command::IncrBy { key, .. } => key.len() as u64,
            Command::Exists { keys } | Command::MGet { keys } | Command::Del { keys } => sum(keys),
            Command::Set { key, value, .. } | Command::Append { key, value } => {
                (key.len() + value.len()) as u64
            }
            Command::MSet { pairs } => {
                pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
            }
            Command::Batch { commands } => commands.iter().map(Command::bytes).sum(),
        }
    }

    /// Whether the command may be proposed. What passes also passes on every other member, for they agree on the limits.
    pub fn check(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        let count = match self {
            Command::Batch { commands } => {
                let mut count = commands.len();
                for command in commands {
                    count += command.check_parts(limits)?;
                }
                count
            }
            single => single.check_parts(limits)?,
        };
        if count > COMMAND_PARTS_MAX {
            return Err(LimitExceeded::Parts { count });
        }
        let (bytes, max) = (self.bytes(), limits.command_bytes_max());
        if bytes > max {
            return Err(LimitExceeded::Command { bytes, max });
        }
        Ok(())
    }

    /// Checks each key and value; returns the number of keys.
    fn check_parts(&self, limits: &Limits) -> Result<usize, LimitExceeded> {
        match self {
            Command::Get { key } | Command::StrLen { key } | Command::IncrBy { key, .. } => {
                check_key(key, limits)?;
                Ok(1)
            }
            Command::Exists { keys } | Command::MGet { keys } | Command::Del { keys } => {
                keys.iter().try_for_each(|key| check_key(key, limits))?;
                Ok(keys.len())
            }
            Command::Set { key, value, .. } | Command::Append { key, value } => {
                check_key(key, limits)?;
                check_value(value, limits)?;
                Ok(1)
            }
            Command::MSet { pairs } => {
                for (key, value) in pairs {
                    check_key(key, limits)?;
                    check_value(value, limits)?;
                }
                Ok(pairs.len())
            }
            Command::Batch { .. } => Err(LimitExceeded::NestedBatch),
        }
    }
}

fn check_key(key: &[u8], limits: &Limits) -> Result<(), LimitExceeded> {
    let max = limits.key_bytes_max;
    if key.len() as u64 > u64::from(max) { Err(LimitExceeded::Key { bytes: key.len(), max }) } else { Ok(()) }
}

fn check_value(value: &[u8], limits: &Limits) -> Result<(), LimitExceeded> {
    let max = limits.value_bytes_max;
    if value.len() as u64 > u64::from(max) {
        Err(LimitExceeded::Value { bytes: value.len(), max })
    } else {
        Ok(())
    }
}
