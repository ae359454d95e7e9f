//! Redis clients: their connections, their commands, their replies.
//!
//! ```text
//!  socket ─► RequestParser ─► command ─► Pipeline ─► Port::submit ─► Desk ─► core
//!  socket ◄─ resp::encode ◄─── reply ◄── Pipeline ◄── Answers ◄───── Desk ◄─ core
//! ```
//!
//! - [`Listener`] accepts connections, each of which is a task on one of the [network threads](crate::network).
//! - `connection` moves bytes: it reads what there is, hands all of it on as one batch and writes replies once per wake-up.
//! - `command` says what a request means: a table of commands.
//! - `pipeline` keeps a connection's replies in the order of its requests, and what is in flight within bounds.
//! - `order` keeps reads and writes of one key in the order in which one connection sent them.
//! - `memory` bounds what all connections hold together, `room` (of the server) what of it is large writes in the core.
//! - `reply` says in Redis's words what came of it; `info` what the server says of itself.

mod caller;
mod command;
mod connection;
mod info;
mod listener;
mod memory;
mod order;
mod pipeline;
mod reply;
mod service;

pub use listener::{BindError, Listener};
pub use service::{Digest, DigestFuture};
