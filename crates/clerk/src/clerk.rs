//! The handle that callers hold.

use std::time::Duration;

use bytes::Bytes;
use pontoon_wire::resp::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    ClerkError, ClerkOptions, Operation, OperationReply, OptionsError,
    driver::{self, Job},
    machine::Request,
    operation::{self, strange},
};

/// Calls on their way to the driver; it takes them off at once.
const JOBS_MAX: usize = 1024;

/// A client of one cluster: a cheap handle, whose clones share connections and one session.
///
/// Calls on clones run concurrently, up to [`ClerkOptions::inflight_max`] on the network; there is no order among them but
/// that a call starts after those that its caller has awaited. A call whose future is dropped is carried out all the same,
/// or not.
#[derive(Debug, Clone)]
pub struct Clerk {
    jobs: mpsc::Sender<Job>,
    deadline: Duration,
}

impl Clerk {
    /// A clerk for these servers. Nothing is sent before the first call.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(options: ClerkOptions) -> Result<Clerk, OptionsError> {
        options.check()?;
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let deadline = options.deadline;
        tokio::spawn(driver::run(options, queue));
        Ok(Clerk { jobs, deadline })
    }

    /// Sets the key to the value.
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), ClerkError> {
        let put = Operation::Put { key: key.into(), value: value.into() };
        match self.operate(put).await? {
            OperationReply::Put => Ok(()),
            other => unreachable!("a put is answered as one, not with {other:?}"),
        }
    }

    /// Appends to the key's value, a missing one being empty; the new length in bytes.
    pub async fn append(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<u64, ClerkError> {
        let append = Operation::Append { key: key.into(), value: value.into() };
        match self.operate(append).await? {
            OperationReply::Appended(length) => Ok(length),
            other => unreachable!("an append is answered as one, not with {other:?}"),
        }
    }

    /// The key's value, as of some moment during the call; `None` if there is none.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClerkError> {
        match self.operate(Operation::Get { key: key.into() }).await? {
            OperationReply::Value(value) => Ok(value),
            other => unreachable!("a get is answered as one, not with {other:?}"),
        }
    }

    /// Removes the key; whether there was something to remove.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<bool, ClerkError> {
        match self.operate(Operation::Delete { key: key.into() }).await? {
            OperationReply::Deleted(deleted) => Ok(deleted),
            other => unreachable!("a delete is answered as one, not with {other:?}"),
        }
    }

    /// Executes all operations atomically and in order, each seeing the ones before; one reply each. One that is rejected
    /// does not stop the others.
    pub async fn batch(&self, operations: Vec<Operation>) -> Result<Vec<OperationReply>, ClerkError> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let value = self.call(operation::batch_request(&operations)).await?;
        operation::batch_replies(&operations, value)
    }

    /// Waits for what was asked, then ends the session. Calls that come later, on other clones, are not executed.
    ///
    /// Dropping all clones does the same in the background.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).await.is_ok() {
            // An error means that the driver has ended, which is as well.
            let _ = closed.await;
        }
    }

    async fn operate(&self, operation: Operation) -> Result<OperationReply, ClerkError> {
        let value = self.call(operation.request()).await?;
        match operation.reply(value)? {
            // The machine ends a call with an error reply as rejected, so this is one in a place of its own.
            OperationReply::Rejected(why) => Err(strange(&Value::Error(why.into()))),
            reply => Ok(reply),
        }
    }

    async fn call(&self, request: Request) -> Result<Value, ClerkError> {
        let (answer, outcome) = oneshot::channel();
        let deadline = Instant::now() + self.deadline;
        if self.jobs.send(Job::Call { request, deadline, answer }).await.is_err() {
            return Err(ClerkError::NotExecuted { why: "the clerk is closed".to_string() });
        }
        match outcome.await {
            Ok(outcome) => outcome,
            // The driver ends only after all calls, or with its runtime.
            Err(_) => Err(ClerkError::Unknown { why: "the clerk's runtime was shut down".to_string() }),
        }
    }
}
