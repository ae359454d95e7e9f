//! What clients did and saw.

use bytes::Bytes;

/// One request of one client on one key: the checker's input is a slice of these, in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Who called. Only shown: a client may have several operations in flight.
    pub client: u64,
    /// The key. Keys are independent of one another.
    pub key: Bytes,
    /// When the request was made. Times are only compared, so any increasing number will do. An operation that returns
    /// at the very time when another is called counts as concurrent with it: number the events rather than read a
    /// coarse clock, or the checker misses what happened within one tick.
    pub call: u64,
    /// What was asked.
    pub action: Action,
    /// How it ended.
    pub end: End,
}

/// What an operation asks of its key, which is absent at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Reads the value. Observes [`Observation::Value`].
    Get,
    /// Replaces the value.
    Put(Bytes),
    /// Adds to the end of the value; an absent key is empty. Observes [`Observation::Length`], the length afterwards.
    Append(Bytes),
    /// Makes the key absent. Observes [`Observation::Removed`].
    Delete,
}

impl Action {
    /// The bytes it writes, if it writes any.
    pub fn written(&self) -> Option<&Bytes> {
        match self {
            Action::Put(value) | Action::Append(value) => Some(value),
            Action::Get | Action::Delete => None,
        }
    }
}

/// How an operation ended, as far as its client knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a result.
    Returned {
        /// When; not before the call.
        at: u64,
        /// What the client learnt.
        result: Observation,
    },
    /// Unknown: it may have taken effect at any time after its call, or never.
    Unknown,
    /// Surely not executed: its bytes may be seen nowhere.
    NotExecuted,
}

/// What a client learns from a result. A result that the action never gives (a `Get` answered by a length) is explained
/// by no state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Nothing but that it took effect.
    Done,
    /// The value, `None` for an absent key.
    Value(Option<Bytes>),
    /// The value's length in bytes after an append.
    Length(u64),
    /// Whether a delete found the key.
    Removed(bool),
}
