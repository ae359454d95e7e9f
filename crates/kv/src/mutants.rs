//! Bugs planted on purpose, to see whether the tests find them. No normal build contains them: feature `mutants`.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::{
    Command, Outcome, Reader, Refusal, Reply, StoreError,
    execute::execute,
    layout::SESSION,
    machine::Step,
    read::{Budget, read},
    session::Use,
};

/// A bug of this crate or of `replica`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A copy of a request is executed again.
    NoDuplicateCheck = 1,
    /// A copy of a `SET` is executed again.
    NoDuplicateCheckForSet,
    /// A request below the highest recorded one is taken for a copy.
    HighestNumberOnly,
    /// A copy is answered with what would be the reply now.
    CopyAnsweredAnew,
    /// Recorded replies are kept for ever.
    RecordsKept,
    /// Sessions expire by each server's own clock.
    OwnClockExpires,
    /// A request of an expired session is executed.
    ExpiredSessionServed,
    /// An outcome is given to whoever waits at that place, whatever was proposed there.
    WokenByIndex,
    /// What waits is not proposed again when the leader changes.
    LeaderChangeUnnoticed,
    /// Clients that waited long enough are answered and still counted as waiting.
    WaitersLeak,
    /// A new leader answers reads before it has committed in its term.
    ReadBeforeOwnTerm,
    /// All read rounds of a server have one name: an answer to an earlier one counts for a later one.
    RoundsShareAName,
    /// A leader takes any member's question for a majority's confirmation that it still leads.
    QuestionConfirms,
    /// A leader commits entries of earlier terms by counting replicas (Raft paper, figure 8).
    CountsOlderTerms,
}

static PLANTED: AtomicU8 = AtomicU8::new(0);
static CLOCK_AHEAD_MS: AtomicU64 = AtomicU64::new(0);

/// Plants one in this process.
pub fn plant(mutant: Mutant) {
    PLANTED.store(mutant as u8, Ordering::Relaxed);
}

/// Whether this one is planted.
pub fn planted(mutant: Mutant) -> bool {
    PLANTED.load(Ordering::Relaxed) == mutant as u8
}

/// How far the clock of the server that applies next is ahead of the others', for [`Mutant::OwnClockExpires`].
pub fn set_clock_ahead_ms(ahead: u64) {
    CLOCK_AHEAD_MS.store(ahead, Ordering::Relaxed);
}

/// What the server that applies adds to the cluster's time when it expires sessions.
pub(crate) fn clock_ahead_ms() -> u64 {
    if planted(Mutant::OwnClockExpires) { CLOCK_AHEAD_MS.load(Ordering::Relaxed) } else { 0 }
}

/// Whether a store's key is that of a session's record.
pub fn is_session_key(key: &[u8]) -> bool {
    key.first() == Some(&SESSION)
}

impl<R: Reader> Step<'_, '_, R> {
    /// What a mutant makes of a request in a client's session; none: what is right.
    pub(crate) fn mutated_once(
        &mut self,
        request: Use,
        command: &Command,
        budget: &mut Budget,
    ) -> Result<Option<Outcome>, StoreError> {
        let known = self.sessions.recorded(request.session, request.seq);
        let wrong = match known {
            Err(Refusal::SessionUnknown) => planted(Mutant::ExpiredSessionServed),
            Err(_) => planted(Mutant::HighestNumberOnly) && self.sessions.is_below_highest(request),
            Ok(()) => {
                planted(Mutant::NoDuplicateCheck)
                    || planted(Mutant::CopyAnsweredAnew)
                    || planted(Mutant::NoDuplicateCheckForSet) && matches!(command, Command::Set { .. })
            }
        };
        if !wrong {
            return Ok(None);
        }
        if planted(Mutant::CopyAnsweredAnew) || planted(Mutant::HighestNumberOnly) {
            return self.reply_unexecuted(command).map(|reply| Some(Outcome::Reply(reply)));
        }
        execute(self.state, command, self.limits, budget).map(|reply| Some(Outcome::Reply(reply)))
    }

    /// A reply of the right form, from the present state.
    fn reply_unexecuted(&self, command: &Command) -> Result<Reply, StoreError> {
        match command {
            Command::Append { key, .. } => {
                read(self.state, &Command::StrLen { key: key.clone() }, self.limits)
            }
            Command::Set { .. } | Command::MSet { .. } => Ok(Reply::Ok),
            _ => Ok(Reply::Integer(0)),
        }
    }
}
