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
    inbox::Event,
    network::{AnswerBatch, Desk},
    room::{Place, Places},
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
pub type Answers = mpsc::UnboundedReceiver<AnswerBatch>;

type Connections = HashMap<u32, (Arc<Desk>, mpsc::UnboundedSender<AnswerBatch>)>;

/// A cheap handle on the core, shared by all connections.
#[derive(Clone, Default)]
pub struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    connections: RwLock<Connections>,
    last_connection: AtomicU32,
    places: Places,
    status: Mutex<Status>,
}

/// A connection's registration; answers that come after its end are dropped.
pub struct Port {
    gateway: Gateway,
    desk: Arc<Desk>,
    id: u32,
}

impl Gateway {
    /// Registers a connection whose task runs on the thread of `desk`. It must keep its requests in flight bounded: the queue of answers
    /// is not.
    pub fn open(&self, desk: &Arc<Desk>) -> (Port, Answers) {
        let (sender, answers) = mpsc::unbounded_channel();
        let id = self.shared.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = (desk.clone(), sender);
        self.shared.connections.write().expect("no panic holds this lock").insert(id, connection);
        (Port { gateway: self.clone(), desk: desk.clone(), id }, answers)
    }

    /// Hands answers to the connections that wait for them: consecutive ones of one connection as one message, those of one thread at
    /// once.
    pub fn answer(&self, answers: Vec<(Ticket, Answer)>) {
        self.shared.places.give_back(answers.iter().map(|(ticket, _)| *ticket));
        let mut batches: Vec<(u32, AnswerBatch)> = Vec::new();
        for (ticket, answer) in answers {
            let (id, answer) = (connection_of(ticket), (ticket.0 as u32, answer));
            match batches.last_mut() {
                Some((last, batch)) if *last == id => batch.push(answer),
                _ => batches.push((id, vec![answer])),
            }
        }
        let connections = self.shared.connections.read().expect("no panic holds this lock");
        let mut desks: Vec<(&Arc<Desk>, Vec<_>)> = Vec::new();
        for (id, batch) in batches {
            // A connection that has ended wants no answers.
            let Some((desk, sender)) = connections.get(&id) else { continue };
            let batch = (sender.clone(), batch);
            match desks.iter_mut().find(|(other, _)| Arc::ptr_eq(other, desk)) {
                Some((_, batches)) => batches.push(batch),
                None => desks.push((desk, vec![batch])),
            }
        }
        for (desk, batches) in desks {
            desk.answer(batches);
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

    /// Hands requests to the core in order, each with a number that this connection has not in flight, and with its place if it needs one.
    /// One answer per number comes back, in any order. After an error none of them is executed and none is answered.
    pub(crate) fn submit(&self, requests: Vec<(u32, Request, Option<Place>)>) -> Result<(), SubmitError> {
        let places = &self.gateway.shared.places;
        let mut placed = Vec::new();
        let mut tickets = Vec::with_capacity(requests.len());
        for (number, request, place) in requests {
            let ticket = Ticket(u64::from(self.id) << 32 | u64::from(number));
            if let Some(place) = place {
                places.keep(ticket, place);
                placed.push(ticket);
            }
            tickets.push((ticket, request));
        }
        self.desk.try_leave(Event::Requests(tickets)).map_err(|error| {
            places.give_back(placed.into_iter());
            match error {
                TrySendError::Full(_) => SubmitError::Busy,
                TrySendError::Disconnected(_) => SubmitError::Stopped,
            }
        })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.gateway.shared.connections.write().expect("no panic holds this lock").remove(&self.id);
    }
}
