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
            Command::Set { key, value, .. } | Command::Append { key, value } => (key.len() + value.len()) as u64,
            Command::MSet { pairs } => pairs.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum(),
            Command::Batch { commands } => commands.iter().map(Command::bytes).sum(),
        }
    }

    /// Whether the command may be proposed. What passes also passes on every other member, for they agree on the limits.
    pub fn check(&self, limits: &Limits) -> Result<(), LimitExceeded> {
        let mut size = Size::default();
        self.measure(limits, &mut size)?;
        if size.parts > COMMAND_PARTS_MAX {
            return Err(LimitExceeded::Parts { count: size.parts });
        }
        let max = limits.command_bytes_max();
        if size.bytes > max {
            return Err(LimitExceeded::Command { bytes: size.bytes, max });
        }
        Ok(())
    }

    fn measure(&self, limits: &Limits, size: &mut Size) -> Result<(), LimitExceeded> {
        match self {
            Command::Get { key } | Command::StrLen { key } | Command::IncrBy { key, .. } => {
                size.key(key, limits)
            }
            Command::Exists { keys } | Command::MGet { keys } | Command::Del { keys } => {
                keys.iter().try_for_each(|key| size.key(key, limits))
            }
            Command::Set { key, value, .. } | Command::Append { key, value } => {
                size.key(key, limits)?;
                size.value(value, limits)
            }
            Command::MSet { pairs } => pairs.iter().try_for_each(|(key, value)| {
                size.key(key, limits)?;
                size.value(value, limits)
            }),
            Command::Batch { commands } => commands.iter().try_for_each(|command| {
                size.parts += 1;
                match command {
                    Command::Batch { .. } => Err(LimitExceeded::NestedBatch),
                    command => command.measure(limits, size),
                }
            }),
        }
    }
}

#[derive(Default)]
struct Size {
    parts: usize,
    bytes: u64,
}

impl Size {
    fn key(&mut self, key: &Bytes, limits: &Limits) -> Result<(), LimitExceeded> {
        self.parts += 1;
        self.bytes += key.len() as u64;
        if key.len() as u64 > u64::from(limits.key_bytes_max) {
            return Err(LimitExceeded::Key { bytes: key.len(), max: limits.key_bytes_max });
        }
        Ok(())
    }

    fn value(&mut self, value: &Bytes, limits: &Limits) -> Result<(), LimitExceeded> {
        self.bytes += value.len() as u64;
        if value.len() as u64 > u64::from(limits.value_bytes_max) {
            return Err(LimitExceeded::Value { bytes: value.len(), max: limits.value_bytes_max });
        }
        Ok(())
    }
}
