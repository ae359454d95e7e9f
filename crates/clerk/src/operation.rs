//! What can be asked, as commands, and what their replies mean.

use std::sync::Arc;

use bytes::Bytes;
use pontoon_wire::resp::Value;

use crate::{ClerkError, machine::Request};

/// A part of a [batch](crate::Clerk::batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets the key to the value.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Appends to the value; a missing key is empty.
    Append {
        /// The key.
        key: Bytes,
        /// What to append.
        value: Bytes,
    },
    /// Reads the value.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Removes the key.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// What became of an [`Operation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationReply {
    /// Of a put: done.
    Put,
    /// Of an append: the new length in bytes.
    Appended(u64),
    /// Of a get: the value, if there is one.
    Value(Option<Bytes>),
    /// Of a delete: whether there was something to remove.
    Deleted(bool),
    /// It was found wrong and changed nothing; the others of the batch were executed.
    Rejected(String),
}

/// Values up to this size are copied out of the read buffer, which they would otherwise keep in memory as a whole.
const COPIED_BYTES_MAX: usize = 4096;

impl Operation {
    fn words(&self) -> Vec<Bytes> {
        let word = Bytes::from_static;
        match self {
            Operation::Put { key, value } => vec![word(b"SET"), key.clone(), value.clone()],
            Operation::Append { key, value } => vec![word(b"APPEND"), key.clone(), value.clone()],
            Operation::Get { key } => vec![word(b"GET"), key.clone()],
            Operation::Delete { key } => vec![word(b"DEL"), key.clone()],
        }
    }

    fn is_read(&self) -> bool {
        matches!(self, Operation::Get { .. })
    }

    pub(crate) fn request(&self) -> Request {
        request(self.is_read(), self.words().into())
    }

    /// Understands its reply.
    pub(crate) fn reply(&self, value: Value) -> Result<OperationReply, ClerkError> {
        match (self, value) {
            (_, Value::Error(why)) => Ok(OperationReply::Rejected(why.into_owned())),
            (Operation::Put { .. }, Value::Simple(ok)) if ok == "OK" => Ok(OperationReply::Put),
            (Operation::Append { .. }, Value::Integer(length)) if length >= 0 => {
                Ok(OperationReply::Appended(length.cast_unsigned()))
            }
            (Operation::Get { .. }, Value::Null) => Ok(OperationReply::Value(None)),
            (Operation::Get { .. }, Value::Bulk(value)) => Ok(OperationReply::Value(Some(released(value)))),
            (Operation::Delete { .. }, Value::Integer(count @ (0 | 1))) => {
                Ok(OperationReply::Deleted(count == 1))
            }
            (_, other) => Err(strange(&other)),
        }
    }
}

/// `BATCH <count> <words of the first> <word>... <words of the next> ...`
pub(crate) fn batch_request(operations: &[Operation]) -> Request {
    let number = |number: usize| Bytes::from(number.to_string());
    let mut words = vec![Bytes::from_static(b"BATCH"), number(operations.len())];
    for operation in operations {
        let own = operation.words();
        words.push(number(own.len()));
        words.extend(own);
    }
    request(operations.iter().all(Operation::is_read), words.into())
}

pub(crate) fn batch_replies(
    operations: &[Operation],
    value: Value,
) -> Result<Vec<OperationReply>, ClerkError> {
    match value {
        Value::Array(values) if values.len() == operations.len() => {
            operations.iter().zip(values).map(|(operation, value)| operation.reply(value)).collect()
        }
        other => Err(strange(&other)),
    }
}

fn request(is_read: bool, words: Arc<[Bytes]>) -> Request {
    if is_read { Request::Read(words) } else { Request::Write(words) }
}

fn released(value: Bytes) -> Bytes {
    if value.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(&value) } else { value }
}

/// A reply that no Pontoon server gives: whatever was asked, nobody knows what was done.
pub(crate) fn strange(value: &Value) -> ClerkError {
    let kind = match value {
        Value::Simple(_) => "a status",
        Value::Error(_) => "an error",
        Value::Integer(_) => "an integer",
        Value::Bulk(_) => "a string",
        Value::Null => "nil",
        Value::Array(_) => "an array",
        _ => "a reply",
    };
    ClerkError::Unknown { why: format!("the server answered with {kind} that does not fit the request") }
}
