//! A plain Redis client: it asks one server and never asks for a write again.

use std::collections::{BTreeMap, VecDeque};

use pontoon_kv::Command;
use pontoon_replica::{Answer, Request};

use super::{Act, Attempt, Caller, Ending, Op};
use crate::{rng::Rng, time::MS, world::Server};

/// It waits for an answer this long, in microseconds; longer than a server lets a request wait.
const PATIENCE_US: u64 = 7_000 * MS;

/// A plain Redis client.
#[derive(Debug)]
pub struct PlainCaller {
    rng: Rng,
    servers: Vec<Server>,
    at: usize,
    next_attempt: Attempt,
    /// What is under way, and until when it is waited for.
    waiting: BTreeMap<Attempt, (Op, u64)>,
    acts: VecDeque<Act>,
}

impl PlainCaller {
    /// A client of one of these servers, and of another after a failure.
    pub fn new(mut rng: Rng, mut servers: Vec<Server>) -> PlainCaller {
        rng.shuffle(&mut servers);
        PlainCaller { rng, servers, at: 0, next_attempt: 1, waiting: BTreeMap::new(), acts: VecDeque::new() }
    }

    fn ask_elsewhere(&mut self) {
        self.at = self.rng.below(self.servers.len() as u64) as usize;
    }
}

impl Caller for PlainCaller {
    fn call(&mut self, now: u64, op: Op, command: Command) {
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.waiting.insert(attempt, (op, now + PATIENCE_US));
        let request = Request::Plain(command);
        self.acts.push_back(Act::Send { server: self.servers[self.at], attempt, request });
        self.acts.push_back(Act::WakeAt(now + PATIENCE_US));
    }

    fn on_answer(&mut self, _now: u64, attempt: Attempt, answer: Option<Answer>) {
        let Some((op, _)) = self.waiting.remove(&attempt) else { return };
        let ending = match answer {
            Some(Answer::Reply(reply)) => Ending::Reply(reply),
            Some(Answer::NotExecuted(_)) => Ending::NotExecuted,
            Some(Answer::Unknown(_)) | None => Ending::Unknown,
            Some(answer) => panic!("a command was answered with {answer:?}"),
        };
        if !matches!(ending, Ending::Reply(_)) {
            self.ask_elsewhere();
        }
        self.acts.push_back(Act::End(op, ending));
    }

    fn on_wake(&mut self, now: u64) {
        while self.waiting.first_key_value().is_some_and(|(_, (_, until))| *until <= now) {
            let (_, (op, _)) = self.waiting.pop_first().expect("there is a first");
            self.ask_elsewhere();
            self.acts.push_back(Act::End(op, Ending::Unknown));
        }
    }

    fn set_servers(&mut self, servers: Vec<Server>) {
        self.servers = servers;
        self.rng.shuffle(&mut self.servers);
        self.at = 0;
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}
