//! What a command answers.

use bytes::Bytes;

/// A result of a [`Command`](crate::Command), alike on every replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Ok,
    /// No such key, or the condition did not hold.
    Nil,
    /// A count, a length, a sum.
    Integer(i64),
    /// A value.
    Bytes(Bytes),
    /// One reply per key or command.
    Array(Vec<Reply>),
    /// The command was executed and found to be wrong; it changed nothing.
    Error(CommandError),
}

/// Why a command that was executed changed nothing. Every replica reaches it alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The value is no decimal 64-bit integer.
    #[error("value is not an integer or out of range")]
    NotAnInteger,
    /// The sum does not fit 64 bits.
    #[error("increment or decrement would overflow")]
    Overflow,
    /// The value would outgrow `value_bytes_max`.
    #[error("string exceeds maximum allowed size (value-bytes-max)")]
    ValueTooLarge,
    /// The reply would outgrow what a reply may be (several large values in one command).
    #[error("reply exceeds maximum allowed size (reply-bytes-max); ask for fewer keys at once")]
    ReplyTooLarge,
}
