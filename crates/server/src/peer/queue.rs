//! What waits to be sent to one member: bounded, and never in the way of the core.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use pontoon_replica::Message;
use pontoon_wire::peer::message_bytes;
use tokio::sync::Notify;

/// Bytes of messages with entries that may wait for one member.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Messages that may wait for one member.
const QUEUE_LEN_MAX: usize = 16_384;

/// A member that cannot be reached is reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Messages to one member. Those without entries (heartbeats, votes, answers) overtake those with.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    connected: bool,
    urgent: VecDeque<Message>,
    bulk: VecDeque<Message>,
    bulk_bytes: usize,
    reported: Option<Instant>,
    dirty: bool,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Dropped,
    /// Dropped, and it is time to say so.
    Report,
}

impl Queue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    pub(super) fn push(&self, message: Message) -> Pushed {
        let mut state = self.state();
        let bytes = if message.entries.is_empty() { 0 } else { message_bytes(&message) };
        let len = state.urgent.len() + state.bulk.len();
        if !state.connected || len >= QUEUE_LEN_MAX || state.bulk_bytes + bytes > QUEUE_BYTES_MAX {
            let due = state.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
            if due {
                state.reported = Some(Instant::now());
            }
            return if due { Pushed::Report } else { Pushed::Dropped };
        }
        state.bulk_bytes += bytes;
        state.dirty = true;
        if message.entries.is_empty() { state.urgent.push_back(message) } else { state.bulk.push_back(message) }
        Pushed::Queued
    }

    /// Wakes the sending task if anything was queued since the last time.
    pub(super) fn wake(&self) {
        if std::mem::take(&mut self.state().dirty) {
            self.wake.notify_one();
        }
    }

    /// The connection is up or down; what waits is void when it goes down.
    pub(super) fn set_connected(&self, connected: bool) {
        let reported = self.state().reported;
        *self.state() = State { connected, reported, ..State::default() };
    }

    /// Waits until there are messages and takes them, the urgent ones first, the others up to about `bytes_max`.
    pub(super) async fn take(&self, bytes_max: usize) -> Vec<Message> {
        loop {
            let taken = self.try_take(bytes_max);
            if !taken.is_empty() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    fn try_take(&self, bytes_max: usize) -> Vec<Message> {
        let mut state = self.state();
        let mut taken: Vec<Message> = state.urgent.drain(..).collect();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(message) = state.bulk.pop_front() else { break };
            let size = message_bytes(&message);
            bytes += size;
            state.bulk_bytes -= size;
            taken.push(message);
        }
        taken
    }
}
