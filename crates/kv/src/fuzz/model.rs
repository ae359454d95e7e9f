//! The machine's laws once more, naively: values in a map, every reply kept, time compared one by one.

use std::collections::BTreeMap;

use crate::{
    Command, CommandError, Entry, Limits, Outcome, Proposal, Refusal, Reply, SessionId, SessionKind,
    SetCondition,
};

/// What the machine should do.
#[derive(Debug)]
pub struct Model {
    limits: Limits,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    sessions: BTreeMap<SessionId, Session>,
    clock: u64,
}

#[derive(Debug)]
struct Session {
    kind: SessionKind,
    active: u64,
    floor: u64,
    replies: BTreeMap<u64, Reply>,
}

impl Model {
    /// An empty group's.
    pub fn new(limits: Limits) -> Model {
        Model { limits, values: BTreeMap::new(), sessions: BTreeMap::new(), clock: 0 }
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// The outcomes of an entry's proposals.
    pub fn apply(&mut self, entry: &Entry, proposals: &[Proposal]) -> Vec<Outcome> {
        self.clock = self.clock.max(entry.clock.0);
        let (clock, ttl) = (self.clock, self.limits.session_ttl_ms);
        self.sessions.retain(|_, session| session.active + ttl > clock);
        (0..)
            .zip(proposals)
            .map(|(position, proposal)| self.proposal(entry.index.0 << 16 | position, proposal))
            .collect()
    }

    fn proposal(&mut self, id: u64, proposal: &Proposal) -> Outcome {
        let clock = self.clock;
        let named = match proposal {
            Proposal::Open { kind, .. } => {
                if *kind == SessionKind::Client && self.sessions.len() >= self.limits.sessions_max as usize {
                    return Outcome::Refused(Refusal::TooManySessions);
                }
                let session = Session { kind: *kind, active: clock, floor: 1, replies: BTreeMap::new() };
                self.sessions.insert(SessionId(id), session);
                return Outcome::Opened(SessionId(id));
            }
            Proposal::KeepAlive { session, .. } | Proposal::Close { session, .. } => (session, None),
            Proposal::Once { session, .. } => (session, Some(SessionKind::Client)),
            Proposal::Relay { session, .. } => (session, Some(SessionKind::Relay)),
        };
        let unknown = Outcome::Refused(Refusal::SessionUnknown);
        let Some(session) = self.sessions.get_mut(named.0) else { return unknown };
        session.active = clock;
        if named.1.is_some_and(|kind| kind != session.kind) {
            return unknown;
        }
        match proposal {
            Proposal::Open { .. } => unreachable!("answered above"),
            Proposal::KeepAlive { .. } => Outcome::Done,
            Proposal::Close { session, .. } => {
                self.sessions.remove(session);
                Outcome::Done
            }
            Proposal::Once { session: id, seq, ack, command } => {
                let above = session.floor.max(ack.0).saturating_add(u64::from(self.limits.session_window));
                let outcome = if seq.0 < session.floor {
                    Outcome::Refused(Refusal::Stale)
                } else if let Some(reply) = session.replies.get(&seq.0) {
                    Outcome::Reply(reply.clone())
                } else if seq.0 >= above {
                    Outcome::Refused(Refusal::OutsideWindow)
                } else {
                    let reply = self.execute(command);
                    self.sessions.get_mut(id).expect("it was there").replies.insert(seq.0, reply.clone());
                    Outcome::Reply(reply)
                };
                let session = self.sessions.get_mut(id).expect("it was there");
                session.floor = session.floor.max(ack.0);
                session.replies.retain(|seq, _| *seq >= session.floor);
                outcome
            }
            Proposal::Relay { seq, ack, attempt, command, .. } => {
                session.floor = session.floor.max(ack.0);
                if seq.0 < session.floor || seq.0 == u64::MAX {
                    Outcome::Refused(Refusal::Stale)
                } else if seq.0 > session.floor {
                    Outcome::Refused(Refusal::Gap { attempt: *attempt })
                } else {
                    session.floor += 1;
                    Outcome::Reply(self.execute(command))
                }
            }
        }
    }

    /// The reply to a command.
    pub fn execute(&mut self, command: &Command) -> Reply {
        let max = self.limits.value_bytes_max as usize;
        let get = |values: &BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8]| match values.get(key) {
            Some(value) => Reply::Bytes(value.clone().into()),
            None => Reply::Nil,
        };
        match command {
            Command::Get { key } => get(&self.values, key),
            Command::StrLen { key } => Reply::Integer(self.values.get(&key[..]).map_or(0, Vec::len) as i64),
            Command::Exists { keys } => {
                Reply::Integer(keys.iter().filter(|key| self.values.contains_key(&key[..])).count() as i64)
            }
            Command::MGet { keys } => Reply::Array(keys.iter().map(|key| get(&self.values, key)).collect()),
            Command::Set { key, value, condition, return_old } => {
                if value.len() > max {
                    return Reply::Error(CommandError::ValueTooLarge);
                }
                let old = get(&self.values, key);
                let holds = match condition {
                    SetCondition::Always => true,
                    SetCondition::IfAbsent => old == Reply::Nil,
                    SetCondition::IfPresent => old != Reply::Nil,
                };
                if holds {
                    self.values.insert(key.to_vec(), value.to_vec());
                }
                match (return_old, holds) {
                    (true, _) => old,
                    (false, true) => Reply::Ok,
                    (false, false) => Reply::Nil,
                }
            }
            Command::Append { key, value } => {
                if self.values.get(&key[..]).map_or(0, Vec::len) + value.len() > max {
                    return Reply::Error(CommandError::ValueTooLarge);
                }
                let whole = self.values.entry(key.to_vec()).or_default();
                whole.extend_from_slice(value);
                Reply::Integer(whole.len() as i64)
            }
            Command::Del { keys } => {
                Reply::Integer(keys.iter().filter(|key| self.values.remove(&key[..]).is_some()).count() as i64)
            }
            Command::MSet { pairs } => {
                if pairs.iter().any(|(_, value)| value.len() > max) {
                    return Reply::Error(CommandError::ValueTooLarge);
                }
                self.values.extend(pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
                Reply::Ok
            }
            Command::IncrBy { key, delta } => {
                let text =
                    self.values.get(&key[..]).map_or("0".into(), |value| String::from_utf8_lossy(value));
                match text.parse::<i64>() {
                    Ok(n) if n.to_string() == text => match n.checked_add(*delta) {
                        Some(sum) => {
                            self.values.insert(key.to_vec(), sum.to_string().into());
                            Reply::Integer(sum)
                        }
                        None => Reply::Error(CommandError::Overflow),
                    },
                    _ => Reply::Error(CommandError::NotAnInteger),
                }
            }
            Command::Batch { commands } => {
                Reply::Array(commands.iter().map(|command| self.execute(command)).collect())
            }
        }
    }
}
