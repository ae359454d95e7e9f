//! The way between members: messages of the groups, and snapshots on connections of their own.
//!
//! ```text
//!                 Peers::send          ┌─ pipe ─ (queue ─► outgoing task) ─ messages ─► the member's Incoming
//!   core thread ──────────────────────►┤  (one of each per member)
//!                                      └─ pipe ─ (queue ─► outgoing task) ─ messages ─► ...
//!                 Peers::send_snapshot ──────────► snapshot_out task ─ snapshot ──► ... ─► snapshot_in ─► SnapshotSink
//!                                                                                  │
//!   PeerSink ◄──────── Messages, Unreachable, SnapshotReceived, SnapshotSent ◄─────┘
//! ```
//!
//! - A member opens one connection to each other member and *sends* its messages there; it receives on those that they open.
//! - Nothing is parsed before the [handshake](pontoon_wire::handshake) has proved who is at the other end.
//! - The core thread writes what the socket takes at once; the task writes the rest.
//! - Sending never waits: what finds no connection or no room is dropped, as Raft allows, and reported as
//!   [`PeerEvent::Unreachable`].
//! - Receiving waits: a connection whose events find no room in the [`PeerSink`] is not read on, so memory stays bounded.
//! - A snapshot never delays a heartbeat: it has its own connection, and its files are read and written on blocking threads.

mod context;
mod events;
mod inbox;
mod incoming;
mod outgoing;
mod peers;
mod pipe;
mod queue;
mod quiet;
mod route;
mod snapshot_in;
mod snapshot_out;
mod socket;
mod transfers;

pub use events::{PeerEvent, PeerSink, SnapshotSink, SnapshotSource, SnapshotStage, Undelivered};
pub use inbox::GroupInbox;
pub use peers::{BindError, Peers};
