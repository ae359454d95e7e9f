//! Commands that read. [`read`] serves reader threads on a view; the same code serves a batch while it is applied.

use bytes::Bytes;

use crate::{
    Command, CommandError, Limits, Reader, Reply, StoreError,
    layout::{head_key, key_tail},
    record::{Head, Stored},
};

/// Executes a read ([`Command::is_read`]) on a state. Its reply is of at most [`Limits::read_reply_bytes_max`] bytes; beyond
/// that it, or in a batch the command that passes it, is answered with [`CommandError::ReplyTooLarge`].
///
/// Panics if the command is a write.
pub fn read(reader: &impl Reader, command: &Command, limits: &Limits) -> Result<Reply, StoreError> {
    assert!(command.is_read(), "a write came in as a read");
    let mut budget = Budget(limits.read_reply_bytes_max());
    match command {
        Command::Batch { commands } => {
            let replies: Result<Vec<_>, _> =
                commands.iter().map(|command| read_within(reader, command, &mut budget)).collect();
            replies.map(Reply::Array)
        }
        command => read_within(reader, command, &mut budget),
    }
}

/// Executes a read of one key from its record alone, which `known` gives without waiting: `Some(None)` if the key has none. `None` if
/// that does not do, and the state must be [`read`].
///
/// (A value in its head record is short: no budget is needed.)
pub fn read_known(command: &Command, known: impl FnOnce(&[u8]) -> Option<Option<Bytes>>) -> Option<Reply> {
    let Command::Get { key } = command else { return None };
    let Some(record) = known(&head_key(key))? else { return Some(Reply::Nil) };
    match Head::decode(record) {
        Ok((Head { value: Stored::Inline(value), .. }, tail)) if tail == key_tail(key) => {
            Some(Reply::Bytes(value))
        }
        _ => None,
    }
}

/// How many bytes of replies may still be made.
#[derive(Debug)]
pub(crate) struct Budget(pub(crate) u64);

impl Budget {
    /// What a reply without a value counts: it costs memory too, but is never refused.
    const REPLY_BYTES: u64 = 16;

    /// Takes a value of this length, or refuses.
    pub(crate) fn take(&mut self, value_bytes: u64) -> Result<(), CommandError> {
        self.0 = self.0.checked_sub(value_bytes + Budget::REPLY_BYTES).ok_or(CommandError::ReplyTooLarge)?;
        Ok(())
    }
}

/// Executes one read within a budget. Not for batches.
pub(crate) fn read_within(
    reader: &impl Reader,
    command: &Command,
    budget: &mut Budget,
) -> Result<Reply, StoreError> {
    match command {
        Command::Get { key } => value_reply(reader, Head::load(reader, key)?.as_ref(), budget),
        Command::StrLen { key } => {
            Ok(Reply::Integer(Head::load(reader, key)?.map_or(0, |head| head.value.len() as i64)))
        }
        Command::Exists { keys } => {
            let mut found = 0;
            for key in keys {
                found += i64::from(Head::load(reader, key)?.is_some());
            }
            Ok(Reply::Integer(found))
        }
        Command::MGet { keys } => read_many(reader, keys, budget),
        other => unreachable!("{other:?} is not a single read"),
    }
}

/// The value as a reply, if the budget has room for it.
pub(crate) fn value_reply(
    reader: &impl Reader,
    head: Option<&Head>,
    budget: &mut Budget,
) -> Result<Reply, StoreError> {
    let Some(head) = head else { return Ok(Reply::Nil) };
    match budget.take(head.value.len()) {
        Ok(()) => head.value.read(reader).map(Reply::Bytes),
        Err(error) => Ok(Reply::Error(error)),
    }
}

/// All heads first: whether the reply is too large is known before any value is fetched for it.
fn read_many(reader: &impl Reader, keys: &[Bytes], budget: &mut Budget) -> Result<Reply, StoreError> {
    let mut values = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    for key in keys {
        let value = Head::load(reader, key)?.map(|head| head.value);
        bytes += Budget::REPLY_BYTES + value.as_ref().map_or(0, Stored::len);
        values.push(value);
    }
    if let Err(error) = budget.take(bytes) {
        return Ok(Reply::Error(error));
    }
    let replies: Result<Vec<_>, _> = values
        .into_iter()
        .map(|value| value.map_or(Ok(Reply::Nil), |value| value.read(reader).map(Reply::Bytes)))
        .collect();
    replies.map(Reply::Array)
}
