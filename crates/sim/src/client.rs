//! What a client decides, apart from any network: which server to ask, when to ask again, what an outcome means.

mod clerk;
mod plain;
mod session;

use pontoon_kv::{Command, Reply};
use pontoon_replica::{Answer, Request};

use crate::world::Server;

pub use clerk::ClerkCaller;
pub use plain::PlainCaller;
pub use session::SessionCaller;

/// Names an operation to whoever called it.
pub type Op = u64;

/// Names one sending of one request; never used twice by a client.
pub type Attempt = u64;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Executed, with this reply.
    Reply(Reply),
    /// It may have been executed or may yet be.
    Unknown,
    /// Surely never executed.
    NotExecuted,
}

/// What a caller wants done.
#[derive(Debug)]
pub enum Act {
    /// Send this to that server; the answer (or none, if it fails) comes back with the attempt.
    Send {
        /// To whom.
        server: Server,
        /// Hands the answer back.
        attempt: Attempt,
        /// What.
        request: Request,
    },
    /// An operation has ended.
    End(Op, Ending),
    /// Call [`Caller::on_wake`] at this time.
    WakeAt(u64),
}

/// A client's decisions. Times are virtual, in microseconds.
pub trait Caller: std::fmt::Debug {
    /// The client wants this executed. Any number may be under way.
    fn call(&mut self, now: u64, op: Op, command: Command);

    /// An attempt was answered; none: it failed, and nobody can say if it was executed.
    fn on_answer(&mut self, now: u64, attempt: Attempt, answer: Option<Answer>);

    /// It is time.
    fn on_wake(&mut self, now: u64);

    /// Ask these servers from now on.
    fn set_servers(&mut self, servers: Vec<Server>);

    /// What to do now; call it until there is nothing, after each of the others.
    fn poll(&mut self) -> Option<Act>;
}
