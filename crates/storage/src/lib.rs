//! Bytes on disk: the Raft log, the state of each group, and the folder that holds them.
//!
//! This crate is floor 2: files and threads, no sockets. Three parts, each usable by itself:
//!
//! - [`folder`]: the data folder. It belongs to one server of one cluster, and one process at a time uses it.
//! - [`log`]: the Raft log of all groups. What is acknowledged is durable here first.
//! - [`state`]: a group's state, a tree that trails the log. The log is its write-ahead log: it is trimmed only up to where the
//!   state is durable.
//!
//! At a start, a group's state reopens at some batch that it had flushed, and the log holds at least the entries after it:
//!
//! ```text
//!            trimmed          durable state           last entry
//! log           └───────────────────┼──────────────────────┘
//! state  ───────────────────────────┘ └── replayed ──► applied again
//! ```
//!
//! All that is stored carries a checksum and a format version; `docs/formats.md` describes the bytes. Damage is named and
//! refused, and a refusal changes nothing on disk. After a failed write or sync nothing more is written.

mod disk;
pub mod folder;
pub mod log;
pub mod state;

/// What to do about damage: the end of each refusal.
pub const AFTER_DAMAGE: &str = "Bring back the same bytes from this disk (never an older copy), or leave this server off and go on \
                                with the others: see \"Damage\" in docs/operations.md";

pub use folder::{DataFolder, FolderError};
pub use log::{Log, LogOptions, RestoredLog, WriteError};
pub use state::{StateOptions, StateStore};
