//! Bytes as a log.

use std::iter;

use bytes::Bytes;

use crate::{
    Block, CallId, ClusterTime, Command, Entry, Index, Limits, NodeId, Proposal, Seq, SessionId, SessionKind,
    SetCondition, Term,
};

/// Limits so small that short logs reach them.
pub const LIMITS: Limits = Limits {
    key_bytes_max: 64,
    value_bytes_max: 30_000,
    sessions_max: 6,
    session_window: 8,
    session_ttl_ms: 500,
};

/// The keys that the commands are about.
pub const KEYS: [&str; 5] = ["", "a", "b", "ab", "c\0"];

const CALL: CallId = CallId { node: NodeId(1), nonce: 7 };

/// An entry, and what is done after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The entry.
    pub entry: Entry,
    /// What it holds.
    pub proposals: Vec<Proposal>,
    /// What comes next.
    pub then: Then,
}

/// What may come between two entries and must not change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Only the next entry.
    Next,
    /// The machine is opened anew.
    Restart,
    /// The machine goes on from its own snapshot.
    Restore,
}

/// Makes a log that stumbles over every rule: copies, late requests, gaps, idle sessions, sessions that never were. Each decision
/// is a byte of the data, and the log ends with it.
#[derive(Debug)]
pub struct Author<'a> {
    choices: Choices<'a>,
    index: u64,
    clock: u64,
    /// Sessions that may be open, with the highest seq used.
    sessions: Vec<(SessionId, SessionKind, u64)>,
}

impl<'a> Author<'a> {
    /// Writes the log that these bytes stand for.
    pub fn new(data: &'a [u8]) -> Author<'a> {
        Author { choices: Choices(data), index: 0, clock: 1000, sessions: Vec::new() }
    }

    fn step(&mut self) -> Step {
        self.index += 1;
        // Now and then time leaps, so that sessions expire; and sometimes a new leader's clock is behind.
        self.clock = match self.choices.below(20) {
            0 => self.clock + 200,
            1 => self.clock.saturating_sub(100),
            leap => self.clock + leap,
        };
        let count = self.choices.below(6);
        let proposals: Vec<_> =
            (0..count).map(|position| self.proposal(self.index << 16 | position)).collect();
        let data = if proposals.is_empty() { Bytes::new() } else { Block::encode(&proposals) };
        let (index, term) = (Index(self.index), Term(1 + self.index / 50));
        let entry = Entry { index, term, clock: ClusterTime(self.clock), data };
        let then = match self.choices.below(16) {
            14 => Then::Restart,
            15 => Then::Restore,
            _ => Then::Next,
        };
        Step { entry, proposals, then }
    }

    fn proposal(&mut self, id: u64) -> Proposal {
        if self.sessions.is_empty() || self.choices.one_in(20) {
            let kind = if self.choices.one_in(2) { SessionKind::Client } else { SessionKind::Relay };
            // Entered although it may be refused: then it is a session that never was.
            self.sessions.push((SessionId(id), kind, 0));
            return Proposal::Open { call: CALL, kind };
        }
        let at = self.choices.below(self.sessions.len() as u64) as usize;
        let (session, kind, last) = self.sessions[at];
        match self.choices.below(40) {
            0 => return Proposal::Close { call: CALL, session },
            1 => return Proposal::KeepAlive { call: CALL, session },
            2 => drop(self.sessions.remove(at)),
            _ => (),
        }
        let seq = self.seq(last);
        // The greatest numbers are an episode: a session that counted on from them would do nothing else.
        if let Some(entry) = self.sessions.get_mut(at).filter(|entry| entry.0 == session && seq < 1 << 32) {
            entry.2 = last.max(seq);
        }
        // Rarely so low that the window is passed, rarely above seq itself.
        let behind = if self.choices.one_in(20) { 12 } else { 6 };
        let ack = seq.saturating_sub(self.choices.below(behind));
        let ack = Seq(ack.saturating_add(u64::from(self.choices.one_in(30))));
        let (seq, other_kind) = (Seq(seq), self.choices.one_in(50));
        let attempt = self.choices.below(9) as u32;
        let command = self.command(true);
        match (kind, other_kind) {
            (SessionKind::Client, false) | (SessionKind::Relay, true) => {
                Proposal::Once { session, seq, ack, command }
            }
            _ => Proposal::Relay { session, seq, ack, attempt, command },
        }
    }

    fn seq(&mut self, last: u64) -> u64 {
        match self.choices.below(24) {
            0..4 => last.saturating_sub(self.choices.below(5)),
            4..8 => last + self.choices.below(12),
            8 if self.choices.one_in(4) => u64::MAX - self.choices.below(3),
            _ => last + 1,
        }
    }

    fn command(&mut self, batch: bool) -> Command {
        match self.choices.below(if batch { 12 } else { 10 }) {
            0 => Command::Get { key: self.key() },
            1 => Command::StrLen { key: self.key() },
            2 => Command::MGet { keys: self.keys() },
            3 => Command::Exists { keys: self.keys() },
            4 | 5 => Command::Set {
                key: self.key(),
                value: self.value(),
                condition: [SetCondition::Always, SetCondition::IfAbsent, SetCondition::IfPresent]
                    [self.choices.below(3) as usize],
                return_old: self.choices.one_in(2),
            },
            6 => Command::Append { key: self.key(), value: self.value() },
            7 => Command::Del { keys: self.keys() },
            8 => Command::MSet {
                pairs: (0..self.choices.below(4)).map(|_| (self.key(), self.value())).collect(),
            },
            9 => Command::IncrBy {
                key: self.key(),
                delta: match self.choices.below(4) {
                    0 => i64::MAX,
                    1 => i64::MIN,
                    _ => i64::from(self.choices.byte() as i8),
                },
            },
            _ => {
                Command::Batch { commands: (0..self.choices.below(5)).map(|_| self.command(false)).collect() }
            }
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(KEYS[self.choices.below(5) as usize].as_bytes())
    }

    fn keys(&mut self) -> Vec<Bytes> {
        (0..self.choices.below(4)).map(|_| self.key()).collect()
    }

    /// A number, or bytes; of the lengths around a chunk's most of all.
    fn value(&mut self) -> Bytes {
        let len = match self.choices.below(8) {
            0 => self.choices.below(20_000),
            1 => 4090 + self.choices.below(10),
            2 => 4096 * (1 + self.choices.below(3)),
            3 => 0,
            4 => return self.choices.below(100).to_string().into(),
            _ => self.choices.below(100),
        };
        let first = self.choices.byte();
        // No two chunks are alike.
        (0..len).map(|at| first.wrapping_add((at % 251) as u8)).collect()
    }
}

impl Iterator for Author<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        (!self.choices.0.is_empty()).then(|| self.step())
    }
}

/// Bytes as decisions; zeros when they have come to their end.
#[derive(Debug)]
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    /// A number below `bound`, of as few bytes as it takes.
    fn below(&mut self, bound: u64) -> u64 {
        let bytes = iter::repeat_with(|| self.byte()).take(if bound <= 256 { 1 } else { 2 });
        bytes.fold(0, |number, byte| number << 8 | u64::from(byte)) % bound
    }

    /// True in one of `n`, and not for a zero.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }
}
