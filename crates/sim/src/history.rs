//! What clients did and saw, as the checker wants it.

use bytes::Bytes;
use pontoon_kv::{Command, Reply, SetCondition};

use crate::{
    client::Ending,
    linearizability::{Action, End, Observation, Operation},
};

/// Operations as they happen. Calls and returns are numbered in one sequence: no two are at the same time.
#[derive(Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    events: u64,
}

impl History {
    /// A client calls. Returns the operation's place.
    pub fn call(&mut self, client: u64, key: Bytes, action: Action) -> u64 {
        self.events += 1;
        self.operations.push(Operation { client, key, call: self.events, action, end: End::Unknown });
        self.operations.len() as u64 - 1
    }

    /// Its operation ended.
    ///
    /// # Panics
    ///
    /// If the reply is none that the operation can have.
    pub fn end(&mut self, place: u64, ending: &Ending) {
        self.events += 1;
        let operation = &mut self.operations[place as usize];
        operation.end = match ending {
            Ending::Unknown => End::Unknown,
            Ending::NotExecuted => End::NotExecuted,
            Ending::Reply(reply) => {
                End::Returned { at: self.events, result: observed(&operation.action, reply) }
            }
        };
    }

    /// All of it.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }
}

fn observed(action: &Action, reply: &Reply) -> Observation {
    match (action, reply) {
        (Action::Get, Reply::Nil) => Observation::Value(None),
        (Action::Get, Reply::Bytes(value)) => Observation::Value(Some(value.clone())),
        (Action::Put(_), Reply::Ok) => Observation::Done,
        (Action::Append(_), Reply::Integer(length)) => Observation::Length(*length as u64),
        (Action::Delete, Reply::Integer(removed)) => Observation::Removed(*removed == 1),
        (action, reply) => panic!("{action:?} was answered with {reply:?}"),
    }
}

/// The command of an action.
pub fn command(key: &Bytes, action: &Action) -> Command {
    let key = key.clone();
    match action {
        Action::Get => Command::Get { key },
        Action::Put(value) => {
            Command::Set { key, value: value.clone(), condition: SetCondition::Always, return_old: false }
        }
        Action::Append(value) => Command::Append { key, value: value.clone() },
        Action::Delete => Command::Del { keys: vec![key] },
    }
}
