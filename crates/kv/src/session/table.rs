//! All sessions of a group, in memory as in the store.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::{Client, Kind, Recorded, Relay, Session, Verdict};
use crate::{
    ClusterTime, Limits, Outcome, Reader, Refusal, Reply, Seq, SessionId, SessionKind, StoreError,
    codec::Encoding,
    layout::{SESSION, damaged, session_key},
    overlay::Overlay,
    record::Chunked,
    store::try_scan,
};

/// The open sessions.
///
/// Invariants:
/// - `by_active` holds exactly (active, id) of each session in `by_id`;
/// - a session is marked dirty exactly if `dirty` names it; between batches none is, and the store holds what is here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    by_active: BTreeSet<(ClusterTime, SessionId)>,
    /// To be written with the batch; may name sessions that have gone since.
    dirty: Vec<SessionId>,
}

/// A use of a session by a request in an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Use {
    pub(crate) session: SessionId,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    /// The cluster time of the entry.
    pub(crate) now: ClusterTime,
}

impl Sessions {
    /// The sessions of a stored state.
    pub(crate) fn load(reader: &impl Reader) -> Result<Sessions, StoreError> {
        let mut sessions = Sessions::default();
        try_scan(reader, &[SESSION], &[SESSION + 1], |key, record| {
            let id = <[u8; 8]>::try_from(&key[1..])
                .map_err(|_| damaged("a session's key", "it is not 9 bytes long"))?;
            let id = SessionId(u64::from_be_bytes(id));
            let session = Session::decode(record).map_err(|error| damaged("a session record", error))?;
            sessions.by_active.insert((session.active, id));
            sessions.by_id.insert(id, session);
            Ok(())
        })?;
        Ok(sessions)
    }

    /// How many are open.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The recorded replies that are in chunks.
    pub(crate) fn chunked_replies(&self) -> impl Iterator<Item = Chunked> {
        let records = self.by_id.values().flat_map(|session| match &session.kind {
            Kind::Client(client) => client.records.iter(),
            Kind::Relay(_) => Default::default(),
        });
        records.filter_map(|record| match &record.reply {
            Recorded::Chunked(chunked) => Some(**chunked),
            _ => None,
        })
    }

    /// Opens one.
    pub(crate) fn open(
        &mut self,
        id: SessionId,
        kind: SessionKind,
        now: ClusterTime,
        limits: &Limits,
    ) -> Outcome {
        // A member's own session is not the clients' to take: without one it could serve no plain client.
        if kind == SessionKind::Client && self.by_id.len() >= limits.sessions_max as usize {
            return Outcome::Refused(Refusal::TooManySessions);
        }
        let kind = match kind {
            SessionKind::Client => Kind::Client(Client::new(limits.session_window)),
            SessionKind::Relay => Kind::Relay(Relay::new()),
        };
        let before = self.by_id.insert(id, Session { active: now, dirty: true, kind });
        assert!(before.is_none(), "session {id} is open already");
        self.by_active.insert((now, id));
        self.dirty.push(id);
        Outcome::Opened(id)
    }

    /// Marks one as active.
    pub(crate) fn keep_alive(&mut self, id: SessionId, now: ClusterTime) -> Outcome {
        let Some((session, _)) = self.touch(id, now) else {
            return Outcome::Refused(Refusal::SessionUnknown);
        };
        if let Kind::Client(client) = &mut session.kind {
            // Who says no more than this is idle.
            client.shrink();
        }
        Outcome::Done
    }

    /// Ends one.
    pub(crate) fn close<R: Reader>(&mut self, id: SessionId, state: &mut Overlay<'_, R>) -> Outcome {
        match self.by_id.get(&id) {
            Some(session) => {
                self.by_active.remove(&(session.active, id));
                self.remove(id, state);
                Outcome::Done
            }
            None => Outcome::Refused(Refusal::SessionUnknown),
        }
    }

    /// Ends those that have been idle for `ttl_ms` or longer, the longest idle first.
    pub(crate) fn expire<R: Reader>(&mut self, now: ClusterTime, ttl_ms: u64, state: &mut Overlay<'_, R>) {
        while let Some(&(active, id)) = self.by_active.first()
            && active.0.saturating_add(ttl_ms) <= now.0
        {
            self.by_active.pop_first();
            self.remove(id, state);
        }
    }

    /// A request in a client's session: `execute` is called if it is new.
    pub(crate) fn once<'s, R: Reader>(
        &mut self,
        request: Use,
        state: &mut Overlay<'s, R>,
        execute: impl FnOnce(&mut Overlay<'s, R>) -> Result<Reply, StoreError>,
    ) -> Result<Outcome, StoreError> {
        let Some((Session { kind: Kind::Client(client), dirty, .. }, list)) =
            self.touch(request.session, request.now)
        else {
            return Ok(Outcome::Refused(Refusal::SessionUnknown));
        };
        let mut changed = false;
        let outcome = match client.judge(request.seq, request.ack) {
            Verdict::Refused(refusal) => Outcome::Refused(refusal),
            Verdict::Recorded(recorded) => Outcome::Reply(recorded.reply(state)?),
            Verdict::Execute => {
                let reply = execute(state)?;
                if request.seq >= request.ack {
                    client.record(request.seq, Recorded::keep(&reply, state));
                }
                changed = true;
                Outcome::Reply(reply)
            }
        };
        changed |= client.acknowledge(request.ack, state);
        if changed {
            mark(request.session, dirty, list);
        }
        Ok(outcome)
    }

    /// Whether a request of a client's session is recorded, and if not, what that would be refused for at worst.
    #[cfg(feature = "mutants")]
    pub(crate) fn recorded(&self, id: SessionId, seq: Seq) -> Result<(), Refusal> {
        match self.by_id.get(&id).map(|session| &session.kind) {
            Some(Kind::Client(client)) if client.records.iter().any(|record| record.seq == seq) => Ok(()),
            Some(_) => Err(Refusal::Stale),
            None => Err(Refusal::SessionUnknown),
        }
    }

    /// Whether a higher request of the session is recorded.
    #[cfg(feature = "mutants")]
    pub(crate) fn is_below_highest(&self, request: Use) -> bool {
        match self.by_id.get(&request.session).map(|session| &session.kind) {
            Some(Kind::Client(client)) => client.records.iter().any(|record| record.seq > request.seq),
            _ => false,
        }
    }

    /// A request in a server's session: `execute` is called if it is the next.
    pub(crate) fn relay<'s, R: Reader>(
        &mut self,
        request: Use,
        attempt: u32,
        state: &mut Overlay<'s, R>,
        execute: impl FnOnce(&mut Overlay<'s, R>) -> Result<Reply, StoreError>,
    ) -> Result<Outcome, StoreError> {
        let Some((Session { kind: Kind::Relay(relay), dirty, .. }, list)) =
            self.touch(request.session, request.now)
        else {
            return Ok(Outcome::Refused(Refusal::SessionUnknown));
        };
        let (verdict, rose) = relay.judge(request.seq, request.ack, attempt);
        if rose {
            mark(request.session, dirty, list);
        }
        match verdict {
            Ok(()) => execute(state).map(Outcome::Reply),
            Err(refusal) => Ok(Outcome::Refused(refusal)),
        }
    }

    /// Puts the records of all changed sessions into the batch: each once, however often it was used.
    pub(crate) fn fold<R: Reader>(&mut self, state: &mut Overlay<'_, R>) {
        for id in self.dirty.drain(..) {
            if let Some(session) = self.by_id.get_mut(&id) {
                session.dirty = false;
                state.put(session_key(id), Some(session.encode()));
            }
        }
    }

    /// A session and the list to enter it in when it changes. It is active now, whatever comes of the use.
    fn touch(&mut self, id: SessionId, now: ClusterTime) -> Option<(&mut Session, &mut Vec<SessionId>)> {
        let session = self.by_id.get_mut(&id)?;
        assert!(session.active <= now, "the cluster clock went back from {} to {now}", session.active);
        if session.active < now {
            self.by_active.remove(&(session.active, id));
            self.by_active.insert((now, id));
            session.active = now;
            mark(id, &mut session.dirty, &mut self.dirty);
        }
        Some((session, &mut self.dirty))
    }

    /// Removes one that is no longer in `by_active`, with its replies.
    fn remove<R: Reader>(&mut self, id: SessionId, state: &mut Overlay<'_, R>) {
        let Entry::Occupied(session) = self.by_id.entry(id) else {
            unreachable!("session {id} is in the order of expiry and not open");
        };
        if let Kind::Client(client) = session.remove().kind {
            for record in client.records {
                if let Recorded::Chunked(chunked) = record.reply {
                    state.discard_chunks(&chunked);
                }
            }
        }
        state.put(session_key(id), None);
    }
}

fn mark(id: SessionId, dirty: &mut bool, list: &mut Vec<SessionId>) {
    if !*dirty {
        *dirty = true;
        list.push(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, MemStore, arena::Arena};

    fn recorded(sessions: &Sessions, id: SessionId) -> (usize, usize) {
        match &sessions.by_id[&id].kind {
            Kind::Client(client) => (client.records.len(), client.records.capacity()),
            Kind::Relay(_) => panic!("not a client's session"),
        }
    }

    #[test]
    fn an_idle_session_holds_no_memory_but_for_what_it_must_remember() {
        let (store, now, id) = (MemStore::new(), ClusterTime(1), SessionId(1));
        let mut arena = Arena::default();
        let mut state = Overlay::new(&store, Index(0), false, &mut arena);
        let mut sessions = Sessions::default();
        sessions.open(id, SessionKind::Client, now, &Limits::default());
        assert_eq!(recorded(&sessions, id), (0, 0));
        let mut once = |sessions: &mut Sessions, seq, ack| {
            let request = Use { session: id, seq: Seq(seq), ack: Seq(ack), now };
            sessions.once(request, &mut state, |_| Ok(Reply::Ok)).unwrap();
        };
        once(&mut sessions, 1, 1);
        assert_eq!(recorded(&sessions, id), (1, 1));
        for seq in 2..=200 {
            once(&mut sessions, seq, 1);
        }
        once(&mut sessions, 201, 201);
        sessions.keep_alive(id, now);
        assert_eq!(recorded(&sessions, id), (1, 1));
    }
}
