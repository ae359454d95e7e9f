//! What real clerks did and saw, as the checkers want it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use pontoon_clerk::{Clerk, ClerkError};
use pontoon_kv::Reply;

use super::tally::Tally;
use crate::{
    check::{Violation, check_exactly_once},
    client::Ending,
    history::History,
    linearizability::{Action, Operation, Verdict, check},
};

/// The history of some clients: a call is in it before anything is sent, and its end after the outcome is known. A call that is
/// given up stays open for ever. A clerk's retries within its session are its own matter, and one call.
#[derive(Debug)]
pub(super) struct Record {
    history: Mutex<History>,
    tally: Arc<Tally>,
}

impl Record {
    pub(super) fn new(tally: Arc<Tally>) -> Record {
        Record { history: Mutex::default(), tally }
    }

    /// Has a clerk do something, and records it.
    pub(super) async fn perform(
        &self,
        clerk: &Clerk,
        client: u64,
        key: &Bytes,
        action: Action,
    ) -> Result<Ending, Violation> {
        let place = self.history().call(client, key.clone(), action.clone());
        let outcome = match action {
            Action::Get => clerk.get(key.clone()).await.map(|value| value.map_or(Reply::Nil, Reply::Bytes)),
            Action::Put(value) => clerk.put(key.clone(), value).await.map(|()| Reply::Ok),
            Action::Append(value) => {
                clerk.append(key.clone(), value).await.map(|length| Reply::Integer(length as i64))
            }
            Action::Delete => {
                clerk.delete(key.clone()).await.map(|removed| Reply::Integer(i64::from(removed)))
            }
        };
        let ending = match outcome {
            Ok(reply) => Ending::Reply(reply),
            Err(ClerkError::Unknown { .. }) => Ending::Unknown,
            Err(ClerkError::NotExecuted { .. }) => Ending::NotExecuted,
            Err(ClerkError::Rejected(why)) => {
                return Err(Violation::new("requests are sound", why));
            }
        };
        self.history().end(place, &ending);
        self.tally.operate(1);
        Ok(ending)
    }

    /// Reads every key a last time; then each key's value shows every acknowledged append once and in order, and the whole history
    /// is linearizable.
    pub(super) async fn check(self, reader: &Clerk) -> Result<(), Violation> {
        let mut values = BTreeMap::new();
        let keys: Vec<Bytes> =
            self.history().operations().iter().map(|operation| operation.key.clone()).collect();
        for key in keys {
            if values.contains_key(&key) {
                continue;
            }
            let value = match self.perform(reader, u64::MAX, &key, Action::Get).await? {
                Ending::Reply(Reply::Bytes(value)) => value,
                Ending::Reply(Reply::Nil) => Bytes::new(),
                other => return Err(Violation::new("a last read is answered", format!("{other:?}"))),
            };
            values.insert(key, value);
        }
        let history = self.history.into_inner().expect("no panic holds this lock");
        // The servers and the clock go on while it is decided.
        let decided = tokio::task::spawn_blocking(move || decide(history.operations(), &values)).await;
        decided.map_err(|panic| Violation::new("the history is decided", panic.to_string()))?
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic holds this lock")
    }
}

fn decide(operations: &[Operation], values: &BTreeMap<Bytes, Bytes>) -> Result<(), Violation> {
    for (key, value) in values {
        let of_key: Vec<&Operation> = operations.iter().filter(|operation| operation.key == *key).collect();
        check_exactly_once(&of_key, value)?;
    }
    match check(operations) {
        Verdict::Linearizable => Ok(()),
        Verdict::Violation(conflict) => Err(Violation::new("linearizability", format!("\n{conflict}"))),
        Verdict::Undecided { steps } => Err(Violation::new(
            "linearizability",
            format!("undecided after {steps} steps, which counts as a failure"),
        )),
    }
}
