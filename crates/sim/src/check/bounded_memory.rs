//! Bounded memory: once a cluster is at rest, nobody waits, every queue is empty, and no session is open but those in use
//! (`docs/testing.md`; bugs 6, 7 and 15 of its list: waiters and records that are never removed).

use super::Violation;

/// What a server holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Requests that wait, as the replica counts them.
    pub waiting: u64,
    /// Tickets without an answer, as its driver counts them.
    pub tickets: usize,
    /// Inputs, persists and batches that nobody has taken. (A persist that is not synced may wait for the next that is.)
    pub queued: usize,
    /// Snapshots that were received and not installed, views pinned and not sent.
    pub snapshots: usize,
}

impl Held {
    /// Whether it is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Held::default()
    }
}

/// Holds the number of open sessions against that of those who use one.
///
/// # Errors
///
/// There are more.
pub fn check_sessions(open: usize, users: usize) -> Result<(), Violation> {
    if open <= users {
        return Ok(());
    }
    Err(Violation::new("bounded memory", format!("{open} sessions are open, and {users} are used")))
}
