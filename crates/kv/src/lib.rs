//! The laws of the data: what a request means, deterministically, on every replica.
//!
//! This crate is floor 0. It has no clock, no I/O, no threads, no randomness, no `HashMap` iteration and no `async`:
//! the same entries give the same bytes on every replica, for ever.
//!
//! The story, in the order of a write:
//!
//! 1. A client's request is a [`Command`]. [`Command::check`] holds it against the cluster's [`Limits`]. A read
//!    ([`Command::is_read`]) never enters the log: [`read()`] executes it on a view of the state.
//! 2. A server wraps a write into a [`Proposal`], which says on whose behalf it is executed *exactly once*: a client's
//!    [session] (`ONCE`) or the server's own ordered session (plain Redis clients).
//! 3. Proposals travel in blocks ([`proposal::Block`]), one block an [`Entry`] of the Raft log. [`codec`] has the bytes.
//! 4. The [`Machine`] applies committed entries to a [`Store`]: sessions, data and the [`Applied`] record change in one
//!    atomic [`WriteBatch`], and each proposal yields an [`Outcome`].
//! 5. In the store a value is a head record and, if it is long, chunks ([`layout`]), so that an append costs what it appends.
//! 6. A [snapshot] is the store's sorted contents in checksummed blocks behind a [`snapshot::Header`].
//!
//! ```text
//!            Command ── Proposal ── Block ── Entry
//!                                              │  Machine::apply
//!   sessions ◄── seen before? floor, window ───┤
//!                                              │  new: execute
//!       Overlay = what the batch changes ──────┤
//!          over the Store                      ▼
//!                      one WriteBatch: Applied, sessions, heads, chunks   and   (WaitKey, Outcome) per proposal
//! ```
//!
//! What is decided here is decided alike everywhere, so a failure that all replicas reach is a reply ([`CommandError`]) or a
//! [`Refusal`]. A failure of this machine, a damaged record say, is a [`StoreError`] and stops this replica. [`state_hash()`]
//! says whether two replicas' states are equal, [`verify()`] whether one is whole.
//!
//! Bounds: a session remembers at most [`Limits::session_window`] replies, there are at most [`Limits::sessions_max`] of clients',
//! and what one entry replies is at most [`Limits::entry_reply_bytes_max`]; a decoder allocates in proportion to its input.

mod arena;
pub mod codec;
pub mod command;
mod execute;
#[doc(hidden)]
pub mod fuzz;
mod ids;
pub mod layout;
pub mod limits;
mod machine;
pub mod mem;
#[cfg(feature = "mutants")]
pub mod mutants;
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
pub use read::{read, read_known};
pub use reply::{CommandError, Reply};
pub use snapshot::{SnapshotError, SnapshotReader, SnapshotWriter};
pub use state_hash::state_hash;
pub use store::{Applied, ConfState, Reader, Store, StoreError, WriteBatch};
pub use verify::verify;
