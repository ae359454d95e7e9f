//! The laws of the data: what a request means, deterministically, on every replica.
//!
//! This crate is floor 0. It has no clock, no I/O, no threads, no randomness, no `HashMap` iteration and no `async`:
//! the same entries give the same bytes on every replica, for ever.
//!
//! The story, in the order of a write:
//!
//! 1. A client's request is a [`Command`]. A read ([`Command::is_read`]) never enters the log.
//! 2. A server wraps it into a [`Proposal`], which says on whose behalf it is executed *exactly once*: a client's
//!    [session](session) (`ONCE`) or the server's own ordered session (plain Redis clients).
//! 3. Proposals travel in blocks ([`proposal::Block`]), one block an [`Entry`] of the Raft log.
//! 4. The [`Machine`] applies committed entries to a [`Store`]: sessions, data and the [`Applied`] record change in one
//!    atomic [`WriteBatch`], and each proposal yields an [`Outcome`].
//! 5. A snapshot is the store's sorted contents behind a [`snapshot::Header`].

pub mod codec;
pub mod command;
mod execute;
mod ids;
pub mod layout;
pub mod limits;
mod machine;
pub mod mem;
mod overlay;
pub mod proposal;
mod read;
mod record;
mod reply;
pub mod session;
pub mod snapshot;
mod state_hash;
pub mod store;
mod verify;

pub use codec::{DecodeError, Encoding};
pub use command::{Command, SetCondition};
pub use ids::{ClusterTime, GroupId, Index, NodeId, Seq, SessionId, Term};
pub use limits::{LimitExceeded, Limits};
pub use machine::Machine;
pub use mem::MemStore;
pub use proposal::{Block, BlockBuilder, CallId, Entry, Outcome, Proposal, Refusal, SessionKind, WaitKey};
pub use read::read;
pub use reply::{CommandError, Reply};
pub use snapshot::{SnapshotError, SnapshotReader, SnapshotWriter};
pub use state_hash::state_hash;
pub use store::{Applied, ConfState, Reader, Store, StoreError, WriteBatch};
pub use verify::verify;
