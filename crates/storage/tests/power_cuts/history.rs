//! A server at work, and what it may say after a power cut.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, time::Duration};

use pontoon_kv::{Index, Store};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::{RestoredLog, state::Notice};

use crate::{
    common::{
        Model, Random,
        server::{NODE, Server, advance, batch_of, entry_at, install, junk_at, reset, term_at},
    },
    disk::Step,
    recorder::note,
};

/// The size of a log file and of a memtable: small, so that files change often.
pub const FILE_BYTES: u64 = 8 << 10;

/// What is said while the disk is recorded.
#[derive(Debug, Clone, Copy)]
pub enum Said {
    /// So many writes of the log have returned.
    Wrote(usize),
    /// This batch is being applied, or this snapshot installed.
    Applying(Index),
    /// The state is durable up to here.
    Durable(Index),
}

/// What the server did.
pub struct History {
    /// The log after so many writes.
    logs: Vec<RestoredLog>,
    /// Whether a write waits for the disk.
    synced: Vec<bool>,
    /// The state after each batch.
    states: BTreeMap<Index, Model>,
}

/// What must be found after a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expected {
    /// The log after one of these numbers of writes.
    writes: RangeInclusive<usize>,
    /// The state of one of these batches.
    batches: RangeInclusive<u64>,
}

impl Expected {
    /// Of a new server.
    pub fn nothing() -> Expected {
        Expected { writes: 0..=1, batches: 0..=0 }
    }

    /// Goes on to after a step.
    pub fn step(&mut self, step: &Step, history: &History) {
        let (first, last) = (*self.writes.start(), *self.batches.end());
        match step {
            Step::Say(Said::Wrote(writes)) => {
                let durable = if history.synced[*writes] { *writes } else { first };
                self.writes = durable..=(*writes + 1).min(history.logs.len() - 1);
            }
            Step::Say(Said::Applying(index)) => self.batches = *self.batches.start()..=index.0,
            Step::Say(Said::Durable(index)) => self.batches = index.0..=last,
            _ => {}
        }
    }
}

impl History {
    /// Whether this is what must be found; else what is wrong.
    pub fn check(
        &self,
        expected: &Expected,
        log: &RestoredLog,
        applied: Index,
        state: &Model,
    ) -> Result<(), String> {
        if !self.logs[expected.writes.clone()].contains(log) {
            let (index, term) = log.last();
            return Err(format!(
                "the log is not that after {:?} writes: {:?}, trimmed {:?}, ends at {index} of term {term}",
                expected.writes, log.hard_state, log.trimmed
            ));
        }
        if !expected.batches.contains(&applied.0) {
            return Err(format!("the state is that of {applied}, not of {:?}", expected.batches));
        }
        match self.states.get(&applied) {
            Some(expected) if expected == state => Ok(()),
            Some(_) => Err(format!("the state of {applied} has other contents")),
            None => Err(format!("there was never a state of {applied}")),
        }
    }
}

/// A server at work.
pub struct Work {
    server: Option<Server>,
    random: Random,
    model: Model,
    /// The last entry that is applied.
    index: u64,
    history: History,
}

impl Work {
    /// Works for so many turns in a new data folder: appends, overwrites, applies, flushes, trims, purges, installs snapshots, and
    /// now and then closes all and opens it again.
    pub fn run(data: &Path, seed: u64, turns: u64) -> History {
        let history = History {
            logs: vec![RestoredLog::default()],
            synced: vec![true],
            states: BTreeMap::from([(Index(0), Model::new())]),
        };
        let server = Server::open(data, FILE_BYTES).expect("a new server starts");
        let mut work =
            Work { server: Some(server), random: Random::new(seed), model: Model::new(), index: 0, history };
        let hard_state = Some(HardState { term: term_at(1), vote: NODE, commit: Index(0) });
        work.write(Persist { sync: true, hard_state, ..Persist::default() });
        for turn in 1..=turns {
            work.append();
            match turn % 16 {
                3 | 8 | 11 => work.flush_and_trim(),
                6 => work.install_snapshot(),
                14 => {
                    work.server = None;
                    work.server = Some(Server::open(data, FILE_BYTES).expect("the server starts again"));
                    let applied = work.server().store.applied();
                    work.apply_from(applied);
                }
                _ => {}
            }
        }
        work.history
    }

    fn server(&mut self) -> &mut Server {
        self.server.as_mut().expect("it runs")
    }

    fn append(&mut self) {
        if self.random.below(3) == 0 {
            let junk = (self.index + 1..=self.index + 1 + self.random.below(3)).map(junk_at).collect();
            self.write(Persist { entries: junk, ..Persist::default() });
        }
        let (applied, last) = (self.index, self.index + 1 + self.random.below(4));
        let hard_state = Some(HardState { term: term_at(last), vote: NODE, commit: Index(applied) });
        let entries = (applied + 1..=last).map(entry_at).collect();
        self.write(Persist { sync: true, hard_state, entries, ..Persist::default() });
        self.index = last;
        self.apply_from(Index(applied));
    }

    fn apply_from(&mut self, from: Index) {
        for index in from.0 + 1..=self.index {
            self.applying(index);
            self.server()
                .store
                .write(Index(index), batch_of(&entry_at(index)))
                .expect("the state accepts it");
        }
    }

    /// The model goes along.
    fn applying(&mut self, index: u64) {
        note(Step::Say(Said::Applying(Index(index))));
        let (&before, model) =
            self.history.states.range(..=Index(index)).next_back().expect("there is a first");
        let mut model = model.clone();
        advance(&mut model, before, Index(index));
        self.history.states.insert(Index(index), model.clone());
        self.model = model;
    }

    fn flush_and_trim(&mut self) {
        let server = self.server();
        let target = server.store.applied();
        server.store.handle().request_flush();
        loop {
            match server.notices.recv_timeout(Duration::from_secs(20)).expect("a notice comes") {
                Notice::Durable(durable) => {
                    note(Step::Say(Said::Durable(durable)));
                    if durable >= target {
                        break;
                    }
                }
                Notice::Failed(error) => panic!("{error}"),
            }
        }
        let position = target.0.saturating_sub(self.random.below(8));
        self.write(Persist { trim_to: Some((Index(position), term_at(position))), ..Persist::default() });
        self.server().log.purge().expect("the log purges");
    }

    /// Jumps ahead, as a follower does that has been away.
    fn install_snapshot(&mut self) {
        let target = Index(self.index + 10);
        self.applying(target.0);
        let model = self.model.clone();
        install(self.server(), &model, target);
        note(Step::Say(Said::Durable(target)));
        self.index = target.0;
        self.write(reset(target.0));
    }

    fn write(&mut self, persist: Persist) {
        let log = after(self.history.logs.last().expect("there is a first"), &persist);
        self.history.logs.push(log);
        self.history.synced.push(persist.sync);
        self.server().write(persist);
        note(Step::Say(Said::Wrote(self.history.logs.len() - 1)));
    }
}

/// What a write makes of a log.
fn after(log: &RestoredLog, persist: &Persist) -> RestoredLog {
    let mut log = log.clone();
    if let Some(position) = persist.reset_to {
        log.trimmed = position;
        log.entries.clear();
    }
    log.hard_state = persist.hard_state.unwrap_or(log.hard_state);
    if let Some(first) = persist.entries.first() {
        log.entries.retain(|entry| entry.index < first.index);
        log.entries.extend_from_slice(&persist.entries);
    }
    if let Some(position) = persist.trim_to.filter(|position| position.0 > log.trimmed.0) {
        log.trimmed = position;
        log.entries.retain(|entry| entry.index > position.0);
    }
    log.bytes = log.entries.iter().map(|entry| entry.data.len() as u64).sum();
    log
}
