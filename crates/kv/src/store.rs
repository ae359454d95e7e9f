//! The boundary to whatever keeps a group's state: a log-structured merge tree in production, an ordered map in the simulator.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{ClusterTime, Index, NodeId, Term};

/// A group's membership, as raft-rs counts it (joint consensus, learners).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfState {
    /// Voters.
    pub voters: Vec<NodeId>,
    /// Learners: they replicate and do not vote.
    pub learners: Vec<NodeId>,
    /// Voters of the outgoing configuration while joint.
    pub voters_outgoing: Vec<NodeId>,
    /// Learners once the joint configuration is left.
    pub learners_next: Vec<NodeId>,
    /// Whether the joint configuration is left automatically.
    pub auto_leave: bool,
}

/// How far a state has got; written in the same batch as the data it speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The last applied entry.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The cluster clock after it.
    pub clock: ClusterTime,
    /// The membership after it.
    pub conf_state: ConfState,
}

/// The store on this machine failed: the replica must stop (it is no reply; other replicas are well).
#[derive(Debug, Clone, thiserror::Error)]
#[error("state store: {0}")]
pub struct StoreError(pub String);

/// A consistent look at a group's keys.
pub trait Reader {
    /// The value at `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits all pairs with `from <= key < to` in key order until `visit` returns false. `to` empty: no upper bound.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError>;
}

/// All that applying some entries changes; each key at most once, `None` deletes. Keys and records are parts of messages, and of
/// memory that is used again: who keeps them copies them.
pub type WriteBatch = BTreeMap<Bytes, Option<Bytes>>;

/// A group's state. One writer; any number of views. Keys have up to [`STORE_KEY_BYTES_MAX`](crate::layout::STORE_KEY_BYTES_MAX)
/// bytes.
///
/// The implementor makes [`Store::write`] visible as a whole to later reads and views, and durable as a whole *some time
/// later*, in order: after a crash it holds exactly the batches up to some index (the Raft log is its write-ahead log and
/// replays the rest). It never blocks for a disk but to hold back a writer that outruns it. After an I/O error it refuses
/// all further writes.
pub trait Store: Reader {
    /// A view that stays as it was while the writer goes on.
    type View: Reader + Send + 'static;

    /// Applies a batch. `index` is the last entry it covers, above all earlier ones; the batch holds the encoded [`Applied`]
    /// record of that index. What is kept of it is copied.
    fn write(&mut self, index: Index, batch: WriteBatch) -> Result<(), StoreError>;

    /// A view of the state as it is now.
    fn view(&self) -> Self::View;
}

/// Visits all pairs with `from <= key < to` in key order until one is refused.
pub(crate) fn try_scan(
    reader: &impl Reader,
    from: &[u8],
    to: &[u8],
    mut visit: impl FnMut(Bytes, Bytes) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    reader.scan(from, to, &mut |key, value| {
        result = visit(key, value);
        result.is_ok()
    })?;
    result
}
