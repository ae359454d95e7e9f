//! What all client connections of a server share.

use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use super::memory::Memory;
use crate::{Gateway, Settings, room::Room};

/// A hash of the whole state in hexadecimal, or why there is none.
pub type DigestFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// What answers `DEBUG DIGEST`.
pub type Digest = Arc<dyn Fn() -> DigestFuture + Send + Sync>;

/// The server, as its connections see it.
pub(crate) struct Service {
    pub(crate) settings: Settings,
    pub(crate) gateway: Gateway,
    pub(crate) digest: Digest,
    pub(crate) counters: Counters,
    pub(crate) memory: Memory,
    pub(crate) room: Room,
    pub(crate) started: Instant,
    /// The port that clients connect to.
    pub(crate) port: u16,
}

/// Since the server's start, unless they say otherwise.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections open now.
    pub(crate) connected: AtomicU64,
    /// Connections accepted.
    pub(crate) accepted: AtomicU64,
    /// Connections refused because of `connections_max`.
    pub(crate) rejected: AtomicU64,
    /// Requests read.
    pub(crate) commands: AtomicU64,
}
