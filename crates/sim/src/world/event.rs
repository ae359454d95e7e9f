//! What may happen next, and when.

use std::{cmp::Ordering, collections::BinaryHeap};

use bytes::Bytes;
use pontoon_kv::{Command, Index, MemStore, NodeId};
use pontoon_replica::{Answer, Input, Request, Ticket};

use super::tables::Tables;
use crate::client::Attempt;

/// A server's place in the world's list, from 0.
pub type Server = usize;

/// A client's place in the world's list, from 0.
pub type ClientId = usize;

/// Something that happens at some time.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something within one life of a server: void if that life is over.
    Local(Server, u64, Local),
    /// A frame of a peer arrives.
    Frame { from: Server, to: Server, bytes: Bytes },
    /// The next frame of a snapshot's transfer is due.
    Transfer(u64),
    /// A client's request arrives. `late`: the client has been told that it failed.
    Request { server: Server, client: ClientId, attempt: Attempt, request: Request, late: bool },
    /// A client hears of an attempt; none: it failed, and nobody can say if it was executed.
    Reply { client: ClientId, attempt: Attempt, answer: Option<Answer> },
    /// A client wanted to be woken.
    Wake(ClientId),
    /// A client thinks of what to ask next.
    Think(ClientId),
    /// A server starts again.
    Restart(Server),
    /// A paused server goes on.
    Resume(Server, u64),
    /// The next fault of the run's plan.
    Fault,
    /// A passing fault ends; its number.
    FaultEnds(u64),
}

/// Something within a server.
#[derive(Debug)]
pub(crate) enum Local {
    /// Its clock ticks.
    Tick,
    /// The core takes what is in its inbox.
    Turn,
    /// The log thread looks for what waits.
    Write,
    /// The disk has what was written last; synced, if that was asked for.
    Written { sync: bool },
    /// The apply thread has finished the first job of its queue.
    Applied,
    /// Reads are executed.
    Read(Vec<(Ticket, Command)>),
    /// The log's older part is read.
    ReadLog { low: Index, high: Index, bytes_max: u64 },
    /// A view is pinned.
    Build(NodeId),
    /// The state is handed to the disk.
    Flush,
    /// The disk has this state.
    Flushed(Tables<MemStore>),
    /// The store flushes of its own accord now and then.
    FlushUnasked,
    /// Who waits for a ticket is entered.
    #[cfg(feature = "mutants")]
    Enter(u64, super::clients::Waiting),
    /// Something comes in.
    Input(Box<Input>),
    /// The process ends, after its farewell.
    Exit { again: bool },
}

/// What is to happen, by time; of what is due at the same time, the first scheduled comes first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Scheduled>,
    scheduled: u64,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.heap.push(Scheduled { at, number: self.scheduled, event });
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|scheduled| scheduled.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|scheduled| (scheduled.at, scheduled.event))
    }
}

impl Ord for Scheduled {
    /// The heap's greatest is what comes first.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}
