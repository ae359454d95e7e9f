//! Random logs: the machine does what a naive model does, and where batches end or restarts happen makes no difference.

mod common;
#[path = "common/model.rs"]
mod model;

use ::bytes::Bytes;
use common::*;
use model::Model;
use pontoon_kv::{
    Block, ClusterTime, Command, Entry, Index, Limits, MemStore, Outcome, Proposal, Reply, SessionId,
    SessionKind, SetCondition, Store, Term, state_hash, verify,
};

const LIMITS: Limits = Limits {
    key_bytes_max: 64,
    value_bytes_max: 30_000,
    sessions_max: 6,
    session_window: 8,
    session_ttl_ms: 500,
};
const ENTRIES: u64 = 150;

/// Makes a log that stumbles over every rule: copies, late requests, gaps, idle sessions, sessions that never were.
struct Author {
    random: Random,
    clock: u64,
    /// Sessions that may be open, with the highest seq used.
    sessions: Vec<(SessionId, SessionKind, u64)>,
}

impl Author {
    fn entry(&mut self, index: u64) -> (Entry, Vec<Proposal>) {
        // Now and then time leaps, so that sessions expire; and sometimes a new leader's clock is behind.
        self.clock = match self.random.below(20) {
            0 => self.clock + 200,
            1 => self.clock.saturating_sub(100),
            _ => self.clock + self.random.below(30),
        };
        let count = if self.random.one_in(10) { 0 } else { self.random.within(1..6) };
        let proposals: Vec<_> = (0..count).map(|position| self.proposal(index << 16 | position)).collect();
        let data = if proposals.is_empty() { Bytes::new() } else { Block::encode(&proposals) };
        let entry =
            Entry { index: Index(index), term: Term(1 + index / 50), clock: ClusterTime(self.clock), data };
        (entry, proposals)
    }

    fn proposal(&mut self, id: u64) -> Proposal {
        let kind = if self.random.one_in(2) { SessionKind::Client } else { SessionKind::Relay };
        if self.sessions.is_empty() || self.random.one_in(20) {
            // Entered although it may be refused: then it is a session that never was.
            self.sessions.push((SessionId(id), kind, 0));
            return Proposal::Open { call: CALL, kind };
        }
        let at = self.random.below(self.sessions.len() as u64) as usize;
        let (session, kind, last) = self.sessions[at];
        match self.random.below(40) {
            0 => return Proposal::Close { call: CALL, session },
            1 => return keep_alive(session),
            2 => drop(self.sessions.remove(at)),
            _ => (),
        }
        let seq = match self.random.below(6) {
            0 => self.random.within(last.saturating_sub(4)..last + 1),
            1 => last + self.random.below(12),
            _ => last + 1,
        };
        if let Some(entry) = self.sessions.get_mut(at).filter(|entry| entry.0 == session) {
            entry.2 = last.max(seq);
        }
        // Rarely so low that the window is passed, rarely above seq itself.
        let behind = if self.random.one_in(20) { 12 } else { 6 };
        let ack = seq.saturating_sub(self.random.below(behind)) + u64::from(self.random.one_in(30));
        let command = self.command(true);
        match (kind, self.random.one_in(50)) {
            (SessionKind::Client, false) | (SessionKind::Relay, true) => once(session, seq, ack, command),
            _ => relay(session, seq, ack, self.random.below(9) as u32, command),
        }
    }

    fn command(&mut self, batch: bool) -> Command {
        let kinds = if batch { 12 } else { 10 };
        match self.random.below(kinds) {
            0 => Command::Get { key: self.key() },
            1 => Command::StrLen { key: self.key() },
            2 => Command::MGet { keys: self.keys() },
            3 => Command::Exists { keys: self.keys() },
            4 | 5 => Command::Set {
                key: self.key(),
                value: self.value(),
                condition: [SetCondition::Always, SetCondition::IfAbsent, SetCondition::IfPresent]
                    [self.random.below(3) as usize],
                return_old: self.random.one_in(2),
            },
            6 => Command::Append { key: self.key(), value: self.value() },
            7 => Command::Del { keys: self.keys() },
            8 => Command::MSet {
                pairs: (0..self.random.below(4)).map(|_| (self.key(), self.value())).collect(),
            },
            9 => Command::IncrBy {
                key: self.key(),
                delta: self.random.next() as i64 >> (16 * self.random.below(4)),
            },
            _ => {
                Command::Batch { commands: (0..self.random.below(5)).map(|_| self.command(false)).collect() }
            }
        }
    }

    fn key(&mut self) -> Bytes {
        bytes(["", "a", "b", "ab", "c\0"][self.random.below(5) as usize])
    }

    fn keys(&mut self) -> Vec<Bytes> {
        (0..self.random.below(4)).map(|_| self.key()).collect()
    }

    fn value(&mut self) -> Bytes {
        let len = match self.random.below(8) {
            0 => self.random.below(20_000),
            1 => self.random.within(4090..4100),
            2 => 4096 * self.random.within(1..4),
            3 => 0,
            4 => return self.random.below(100).to_string().into(),
            _ => self.random.below(100),
        };
        self.random.bytes(len as usize)
    }
}

fn log(seed: u64) -> Vec<(Entry, Vec<Proposal>)> {
    let mut author = Author { random: Random(seed), clock: 1000, sessions: Vec::new() };
    (1..=ENTRIES).map(|index| author.entry(index)).collect()
}

#[test]
fn a_random_log_comes_to_what_the_model_says() {
    for_seeds(0..150, |seed| {
        let mut machine = open(MemStore::new(), LIMITS);
        let mut model = Model { limits: LIMITS, ..Model::default() };
        for (entry, proposals) in log(seed) {
            let outcomes = machine.apply(std::slice::from_ref(&entry)).unwrap();
            let keys: Vec<_> = proposals.iter().map(Proposal::wait_key).collect();
            assert_eq!(
                outcomes.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
                keys,
                "entry {}",
                entry.index
            );
            let expected = model.apply(&entry, &proposals);
            for (((_, outcome), expected), proposal) in outcomes.into_iter().zip(expected).zip(&proposals) {
                assert_eq!(outcome, expected, "entry {}: {proposal:?}", entry.index);
            }
            assert_eq!(machine.sessions(), model.sessions.len());
        }
        for key in ["", "a", "b", "ab", "c\0"] {
            assert_eq!(machine.read(&get(key)).unwrap(), model.execute(&get(key)));
        }
        verify(machine.store()).unwrap();
    });
}

#[test]
fn where_batches_end_and_restarts_happen_makes_no_difference() {
    for_seeds(0..100, |seed| {
        let entries: Vec<_> = log(seed).into_iter().map(|(entry, _)| entry).collect();
        let mut steady = open(MemStore::new(), LIMITS);
        let mut unsteady = open(MemStore::new(), LIMITS);
        let mut random = Random(seed + 1000);
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(random.within(1..20).min(rest.len() as u64) as usize);
            rest = later;
            let expected: Vec<_> =
                batch.iter().flat_map(|entry| steady.apply(std::slice::from_ref(entry)).unwrap()).collect();
            assert_eq!(unsteady.apply(batch).unwrap(), expected);
            let hashes = [&steady, &unsteady].map(|machine| state_hash(&machine.view()).unwrap());
            assert_eq!(hashes[0], hashes[1], "after entry {}", steady.applied().index);
            if random.one_in(3) {
                unsteady = open(unsteady.store().clone(), LIMITS);
                assert_eq!(unsteady.applied(), steady.applied());
            }
            verify(&unsteady.store().view()).unwrap();
        }
    });
}

/// The random logs are of use only if they reach the rules.
#[test]
fn the_random_logs_reach_every_rule() {
    let mut seen = String::new();
    for seed in 0..20 {
        let mut machine = open(MemStore::new(), LIMITS);
        for (entry, _) in log(seed) {
            for (_, outcome) in machine.apply(&[entry]).unwrap() {
                if !matches!(outcome, Outcome::Reply(Reply::Bytes(_) | Reply::Array(_))) {
                    seen += &format!("{outcome:?}\n");
                }
            }
        }
    }
    for rule in [
        "Stale",
        "OutsideWindow",
        "Gap",
        "TooManySessions",
        "SessionUnknown",
        "Done",
        "ValueTooLarge",
        "NotAnInteger",
        "Overflow",
    ] {
        assert!(seen.contains(rule), "no random log comes to {rule}");
    }
}
