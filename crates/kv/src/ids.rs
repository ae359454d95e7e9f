//! Numbers with different meanings are different types.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A Raft group. Every message, log record and stored key belongs to one.
    GroupId
}
number! {
    /// A server. Never 0, never reused: a server that lost its disk joins under a new id.
    NodeId
}
number! {
    /// A position in a group's log, from 1. 0 stands for "before the first entry".
    Index
}
number! {
    /// A Raft term. 0 stands for "before the first election".
    Term
}
number! {
    /// A session: `log index << 16 | position in the block` of the entry that opened it, so unique without coordination.
    SessionId
}
number! {
    /// A request's number within its session, from 1.
    Seq
}
number! {
    /// The cluster clock, in milliseconds: stamped by leaders into entries, never going back. Its zero is the
    /// group's first leader; it advances only while there is a leader.
    ClusterTime
}
