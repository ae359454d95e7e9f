//! The way of client connections into the core, and of its answers back to them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use crossbeam_channel::TrySendError;
use pontoon_replica::{Answer, Request, Ticket};
use tokio::sync::mpsc;

use crate::{
    Status,
    inbox::{Event, Inbox},
};

/// The core did not take the requests: surely not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Its inbox is full.
    #[error("too many requests wait on this server")]
    Busy,
    /// It has stopped.
    #[error("this server is stopping")]
    Stopped,
}

/// Answers to one connection, by the request's number; several per message under load.
pub type Answers = mpsc::UnboundedReceiver<Vec<(u32, Answer)>>;

type Connections = HashMap<u32, mpsc::UnboundedSender<Vec<(u32, Answer)>>>;

/// A cheap handle on the core, shared by all connections.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    inbox: Inbox,
    connections: RwLock<Connections>,
    next_connection: AtomicU32,
    status: Mutex<Status>,
}

/// A connection's registration; answers that come after its end are dropped.
pub struct Port {
    gateway: Gateway,
    id: u32,
}

impl Gateway {
    /// A gateway into this inbox.
    pub fn new(inbox: Inbox) -> Gateway {
        Gateway {
            shared: Arc::new(Shared {
                inbox,
                connections: RwLock::default(),
                next_connection: AtomicU32::new(1),
                status: Mutex::default(),
            }),
        }
    }

    /// Registers a connection. It must keep its requests in flight bounded: the queue of answers is not.
    pub fn open(&self) -> (Port, Answers) {
        let (sender, answers) = mpsc::unbounded_channel();
        let id = self.shared.next_connection.fetch_add(1, Ordering::Relaxed);
        self.shared.connections.write().expect("no panic holds this lock").insert(id, sender);
        (Port { gateway: self.clone(), id }, answers)
    }

    /// Hands answers to the connections that wait for them; consecutive ones of one connection go as one message.
    pub fn answer(&self, answers: Vec<(Ticket, Answer)>) {
        let connections = self.shared.connections.read().expect("no panic holds this lock");
        let mut batches: Vec<(u32, Vec<(u32, Answer)>)> = Vec::new();
        let mut place: HashMap<u32, usize> = HashMap::new();
        for (ticket, answer) in answers {
            let (id, number) = (connection_of(ticket), ticket.0 as u32);
            let at = *place.entry(id).or_insert_with(|| {
                batches.push((id, Vec::new()));
                batches.len() - 1
            });
            batches[at].1.push((number, answer));
        }
        for (id, batch) in batches {
            if let Some(sender) = connections.get(&id) {
                // A connection that has just ended wants no answers.
                let _ = sender.send(batch);
            }
        }
    }

    /// The latest published figures.
    pub fn status(&self) -> Status {
        self.shared.status.lock().expect("no panic holds this lock").clone()
    }

    /// Publishes figures.
    pub fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        change(&mut self.shared.status.lock().expect("no panic holds this lock"))
    }
}

/// The number of the connection that a ticket belongs to.
pub(crate) fn connection_of(ticket: Ticket) -> u32 {
    (ticket.0 >> 32) as u32
}

impl Port {
    /// The connection's number on this server, from 1.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Hands requests to the core in order, each with a number that this connection has not in flight. One answer per number
    /// comes back, in any order. After an error none of them is executed and none is answered.
    pub fn submit(&self, requests: Vec<(u32, Request)>) -> Result<(), SubmitError> {
        let id = u64::from(self.id) << 32;
        let tickets =
            requests.into_iter().map(|(number, request)| (Ticket(id | u64::from(number)), request)).collect();
        self.gateway.shared.inbox.try_bring(Event::Requests(tickets)).map_err(|error| match error {
            TrySendError::Full(_) => SubmitError::Busy,
            TrySendError::Disconnected(_) => SubmitError::Stopped,
        })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.gateway.shared.connections.write().expect("no panic holds this lock").remove(&self.id);
    }
}
