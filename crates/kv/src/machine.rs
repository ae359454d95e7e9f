//! The machine: applies the log's committed entries to a store.

use std::mem;

use crate::{
    Applied, Command, ConfState, Entry, Limits, Outcome, Proposal, Reader, Reply, SessionId, Store,
    StoreError, WaitKey,
    arena::Arena,
    codec::Encoding,
    execute::execute,
    layout::{APPLIED_KEY, holds_chunks},
    overlay::Overlay,
    proposal::Block,
    read::{Budget, read},
    session::{Sessions, Use},
};

const POSITION_BITS: u32 = 16;
const _: () = assert!(Block::PROPOSALS_MAX <= 1 << POSITION_BITS, "a position fits a session id");

/// One group's state machine on one replica: a function of the entries that it has applied.
///
/// Invariants between calls:
/// - the store holds exactly the effects of the entries up to `applied.index`, sessions included;
/// - what is kept in memory (`applied`, `sessions`) is what [`Machine::open`] would load.
#[derive(Debug)]
pub struct Machine<S> {
    store: S,
    limits: Limits,
    applied: Applied,
    sessions: Sessions,
    /// Whether the store may hold chunks.
    chunks: bool,
    arena: Arena,
    /// The store failed while entries were applied: memory is ahead of it for good.
    failed: Option<StoreError>,
}

impl<S: Store> Machine<S> {
    /// A machine where the store left off. `initial` is the membership of a store that is empty, and ignored otherwise;
    /// nothing is written.
    pub fn open(store: S, limits: Limits, initial: ConfState) -> Result<Machine<S>, StoreError> {
        let applied = Applied::load(&store)?.unwrap_or(Applied { conf_state: initial, ..Applied::default() });
        let sessions = Sessions::load(&store)?;
        let chunks = holds_chunks(&store)?;
        Ok(Machine { store, limits, applied, sessions, chunks, arena: Arena::default(), failed: None })
    }

    /// Goes on with another store, that of a snapshot, as [`Machine::open`] would; returns the old one. After an error the
    /// machine is as it was.
    pub fn replace(&mut self, store: S) -> Result<S, StoreError> {
        let initial = self.applied.conf_state.clone();
        let before = mem::replace(self, Machine::open(store, self.limits, initial)?);
        Ok(before.store)
    }

    /// How far it has got.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Open sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for what does not change its contents.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// A view of the state as it is now, for [`read`](crate::read()) and snapshots.
    pub fn view(&self) -> S::View {
        self.store.view()
    }

    /// Executes a read on the state as it is now. Panics if the command is a write.
    pub fn read(&self, command: &Command) -> Result<Reply, StoreError> {
        read(&self.store, command, &self.limits)
    }

    /// The membership to be recorded with the next batch.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.applied.conf_state = conf_state;
    }

    /// Applies entries, the first of which is the one after [`Machine::applied`], in one atomic write. Returns an outcome for every
    /// proposal, in order.
    ///
    /// An error is this machine's alone: the replica must stop. All further calls return it again.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<Vec<(WaitKey, Outcome)>, StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.apply_batch(entries);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn apply_batch(&mut self, entries: &[Entry]) -> Result<Vec<(WaitKey, Outcome)>, StoreError> {
        let Some(last) = entries.last() else { return Ok(Vec::new()) };
        let mut outcomes = Vec::new();
        let mut state = Overlay::new(&self.store, self.applied.index, self.chunks, &mut self.arena);
        let mut step = Step {
            limits: &self.limits,
            applied: &mut self.applied,
            sessions: &mut self.sessions,
            state: &mut state,
        };
        for entry in entries {
            step.entry(entry, &mut outcomes)?;
        }
        self.sessions.fold(&mut state);
        self.chunks = state.may_hold_chunks();
        state.put(APPLIED_KEY.into(), Some(self.applied.encode()));
        let batch = state.finish();
        self.store.write(last.index, batch)?;
        Ok(outcomes)
    }
}

/// What an entry changes.
pub(crate) struct Step<'a, 's, R> {
    pub(crate) limits: &'a Limits,
    pub(crate) applied: &'a mut Applied,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) state: &'a mut Overlay<'s, R>,
}

impl<R: Reader> Step<'_, '_, R> {
    fn entry(&mut self, entry: &Entry, outcomes: &mut Vec<(WaitKey, Outcome)>) -> Result<(), StoreError> {
        let next = self.applied.index.0 + 1;
        assert_eq!(entry.index.0, next, "entry {} came to be applied where {next} is next", entry.index);
        assert!(
            entry.term >= self.applied.term,
            "entry {next} is of term {}, older than the one before",
            entry.term
        );
        self.applied.index = entry.index;
        self.applied.term = entry.term;
        self.applied.clock = self.applied.clock.max(entry.clock);
        self.state.begin(entry.index);
        let now = self.applied.clock;
        #[cfg(feature = "mutants")]
        let now = crate::ClusterTime(now.0 + crate::mutants::clock_ahead_ms());
        self.sessions.expire(now, self.limits.session_ttl_ms, self.state);
        if entry.data.is_empty() {
            return Ok(());
        }
        // Not an outcome, and never skipped: other replicas may well read what this one cannot.
        let proposals = Block::decode(entry.data.clone())
            .map_err(|error| StoreError(format!("log entry {} cannot be read: {error}", entry.index)))?;
        let mut budget = Budget(self.limits.entry_reply_bytes_max());
        outcomes.reserve(proposals.len());
        for (position, proposal) in proposals.iter().enumerate() {
            let outcome = self.proposal(position, proposal, &mut budget)?;
            outcomes.push((proposal.wait_key(), outcome));
        }
        Ok(())
    }

    fn proposal(
        &mut self,
        position: usize,
        proposal: &Proposal,
        budget: &mut Budget,
    ) -> Result<Outcome, StoreError> {
        let now = self.applied.clock;
        let limits = self.limits;
        match *proposal {
            Proposal::Open { kind, .. } => {
                let session = SessionId(self.applied.index.0 << POSITION_BITS | position as u64);
                Ok(self.sessions.open(session, kind, now, limits))
            }
            Proposal::KeepAlive { session, .. } => Ok(self.sessions.keep_alive(session, now)),
            Proposal::Close { session, .. } => Ok(self.sessions.close(session, self.state)),
            Proposal::Once { session, seq, ack, ref command } => {
                let request = Use { session, seq, ack, now };
                #[cfg(feature = "mutants")]
                if let Some(outcome) = self.mutated_once(request, command, budget)? {
                    return Ok(outcome);
                }
                self.sessions.once(request, self.state, |state| execute(state, command, limits, budget))
            }
            Proposal::Relay { session, seq, ack, attempt, ref command } => {
                let request = Use { session, seq, ack, now };
                self.sessions
                    .relay(request, attempt, self.state, |state| execute(state, command, limits, budget))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CallId, ClusterTime, Index, MemStore, NodeId, Seq, SessionKind, SetCondition, Term};

    /// Between batches memory is a copy of the store: a restart is of no consequence.
    #[test]
    fn what_is_in_memory_is_what_a_restart_loads() {
        let limits = Limits { sessions_max: 8, session_window: 4, session_ttl_ms: 100, ..Limits::default() };
        let mut machine = Machine::open(MemStore::new(), limits, ConfState::default()).unwrap();
        let mut state = 1_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 33) % bound
        };
        let mut opened = Vec::new();
        let mut seen_max = 0;
        for index in 1..=2000 {
            let call = CallId { node: NodeId(1), nonce: index };
            let session =
                opened.get(below(opened.len() as u64 + 1) as usize).copied().unwrap_or(SessionId(1));
            let (seq, ack) = (Seq(below(12)), Seq(below(8)));
            let (key, value) = ("k".into(), vec![b'v'; below(200) as usize].into());
            let command = Command::Set { key, value, condition: SetCondition::Always, return_old: true };
            let proposal = match below(16) {
                0 => Proposal::Open { call, kind: SessionKind::Client },
                1 => Proposal::Open { call, kind: SessionKind::Relay },
                2 => Proposal::KeepAlive { call, session },
                3 => Proposal::Close { call, session },
                4 | 5 => Proposal::Relay { session, seq, ack, attempt: 1, command },
                _ => Proposal::Once { session, seq, ack, command },
            };
            let clock = ClusterTime(index * 5);
            let data = Block::encode(&[proposal]);
            let outcomes =
                machine.apply(&[Entry { index: Index(index), term: Term(1), clock, data }]).unwrap();
            if let (_, Outcome::Opened(session)) = outcomes[0] {
                opened.push(session);
            }
            if opened.len() > 8 {
                opened.remove(0);
            }
            let reopened = Machine::open(machine.store().clone(), limits, ConfState::default()).unwrap();
            assert_eq!(machine.applied, reopened.applied, "after entry {index}");
            assert_eq!(machine.sessions, reopened.sessions, "after entry {index}");
            seen_max = seen_max.max(machine.sessions());
        }
        assert!(seen_max >= 4, "at most {seen_max} sessions were open at once");
    }
}
