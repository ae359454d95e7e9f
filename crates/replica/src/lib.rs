//! One member of one Raft group, as a function of its inputs.
//!
//! This crate is floor 1: no clock, no I/O, no threads, no randomness (a seed is handed in), no `async`.
//!
//! [`Replica::step`] takes an [`Input`], named for what happened, and changes the replica; [`Replica::outputs`] hands out what
//! is to be done about it, as [`Output`]s. A driver (threads and sockets in the server; virtual time in the simulator) performs
//! them, in any order and as parallel as it likes, but for [`Output::Persist`], which keep theirs.
//!
//! ```text
//!   Tick, Message, Request, Persisted, Applied, ...            Send, Persist, Apply, Read, Answer, ...
//!        driver ───────────────► Replica::step ──► Replica::outputs ───────────────► driver
//!                                     │  ▲
//!                                 raft-rs, the log's window in memory, the clients that wait
//! ```
//!
//! **Durability is an input.** Whatever may only be said once the disk has it (a vote, an acknowledgement of an append) stays
//! inside until [`Input::Persisted`] comes in.

mod blocks;
mod calls;
mod config;
mod confirmers;
mod convert;
pub mod io;
mod log;
pub mod message;
mod news;
mod passed_on;
mod patience;
mod persist;
mod reads;
mod relay;
mod replica;
mod status;
mod trim;

pub use config::{Config, Restored};
pub use io::{Answer, Input, LogRead, NotExecuted, Output, Persist, Request, Ticket, Unknown};
pub use message::{HardState, Message, MessageKind, SnapshotMeta};
pub use replica::Replica;
pub use status::{Role, Status};
