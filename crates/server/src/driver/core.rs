//! The core: inputs in, outputs out, one turn after the other.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use pontoon_kv::{Command, Entry, GroupId};
use pontoon_replica::{Answer, Input, MessageKind, Output, Persist, Replica, Role, SnapshotMeta, Ticket};
use pontoon_storage::state::StateHandle;

use super::{Apply, ApplyJob, Backlog, LogJob, LogWriter, Pinned, ReadJob, alone::Alone};
use crate::{
    gateway::{Gateway, connection_of},
    inbox::{Event, Taker, Turn, Turns, Work},
    peer::Peers,
};

/// After a pause of the process (or of the machine) at most this many ticks are made up for: time that nobody could act in
/// must not count as silence of the leader.
const TICKS_MADE_UP_MAX: u32 = 2;

/// So many batches are the log thread's after an append that did not come alone, or one by a network thread that kept others waiting.
const PERSISTS_THREAD_ONLY: u32 = 20;

/// Whoever takes a turn applies so many bytes itself, or does so many `GET`s. With more, another thread does better: the sockets have
/// more meanwhile.
const LITTLE_BYTES_MAX: u64 = 4096;
const LITTLE_READS_MAX: usize = 2;

/// The core's belongings.
pub(crate) struct Core {
    pub(crate) group: GroupId,
    pub(crate) replica: Replica,
    pub(crate) tick: Duration,
    pub(crate) next_tick: Instant,
    pub(crate) inbox: Receiver<Event>,
    pub(crate) gateway: Gateway,
    pub(crate) log: Arc<LogWriter>,
    pub(crate) alone: Alone,
    pub(crate) reader: Sender<ReadJob>,
    pub(crate) apply: Arc<Apply>,
    pub(crate) state: StateHandle,
    /// Jobs with reads that are not done.
    pub(crate) reads_left: Arc<AtomicUsize>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) pinned: Arc<Pinned>,
    /// Snapshots of which the replica was told in this turn.
    pub(crate) told: Vec<SnapshotMeta>,
    /// What this turn leaves to its taker; none: the taker does no work.
    pub(crate) work: Option<Vec<Work>>,
    /// A write of the log that it leaves to its taker, too, after all else: what clients wait for is not to wait for a disk.
    pub(crate) write: Option<Work>,
    pub(crate) peers: Option<Arc<Peers>>,
}

impl Turns for Core {
    fn turn(&mut self, events_max: usize, taker: Taker) -> Turn {
        self.work = (taker == Taker::Working).then(Vec::new);
        for _ in 0..events_max {
            match self.inbox.try_recv() {
                Ok(Event::Stop) => {
                    self.work = None;
                    self.perform_outputs();
                    return Turn::Last;
                }
                Ok(event) => self.on_event(event),
                Err(_) => break,
            }
        }
        self.tick_if_due();
        self.perform_outputs();
        let work = self.work.take().into_iter().flatten().chain(self.write.take());
        Turn::Next(self.next_tick, work.collect())
    }
}

impl Core {
    fn on_event(&mut self, event: Event) {
        if is_urgent(&event) && self.alone.ends(Instant::now()) {
            self.log.leave_to_the_thread(PERSISTS_THREAD_ONLY);
        }
        match event {
            Event::Requests(requests) => {
                for (ticket, request) in requests {
                    self.replica.step(Input::Request(ticket, request));
                }
            }
            Event::Messages(messages) => {
                for message in messages {
                    self.replica.step(Input::Message(message));
                }
            }
            Event::Input(input) => {
                match &*input {
                    Input::SnapshotReceived(message) => self.told.extend(message.snapshot.clone()),
                    Input::Persisted(number) => self.alone.written(*number, Instant::now()),
                    _ => {}
                }
                self.replica.step(*input);
            }
            Event::Stop => unreachable!("the caller looked for it"),
        }
    }

    fn tick_if_due(&mut self) {
        let now = Instant::now();
        let mut ticks = 0;
        while self.next_tick <= now {
            self.next_tick += self.tick;
            ticks += 1;
            if ticks <= TICKS_MADE_UP_MAX {
                self.replica.step(Input::Tick);
            }
        }
    }

    /// Performs all that the replica wants done.
    fn perform_outputs(&mut self) {
        for output in self.replica.outputs() {
            self.perform(output);
        }
        // What the replica did not want installed now, it never will: its sender starts anew if need be.
        for unwanted in std::mem::take(&mut self.told) {
            self.apply.push(ApplyJob::Discard(unwanted));
        }
        self.publish();
    }

    fn perform(&mut self, output: Output) {
        // The threads behind these end after this one; a failed one has reported the reason, and the server stops.
        match output {
            Output::Send(messages) => {
                if let Some(peers) = &self.peers {
                    peers.send(self.group, messages);
                }
            }
            Output::Persist(persist) => self.persist(persist),
            Output::Apply(entries) => self.apply(entries),
            Output::Read(reads) => self.read(reads),
            Output::Answer(answers) => self.gateway.answer(answers),
            Output::ReadLog { low, high, bytes_max } => {
                drop(self.reader.send(ReadJob::Read { low, high, bytes_max }))
            }
            Output::BuildSnapshot { to } => self.apply.push(ApplyJob::Pin(to)),
            Output::ReleaseSnapshot { to } => self.pinned.release(to),
            Output::SendSnapshot(message) => self.send_snapshot(message),
            Output::InstallSnapshot(meta) => {
                if let Some(at) = self.told.iter().position(|told| *told == meta) {
                    self.told.remove(at);
                }
                self.apply.push(ApplyJob::Install(meta));
            }
            Output::FlushState => self.apply.push(ApplyJob::Flush),
        }
    }

    /// A follower's append that came alone is written by whoever takes the turn, if it is little: a lone client waits for it.
    fn persist(&mut self, persist: Persist) {
        let status = self.replica.status();
        let came_alone = persist.entries.first().is_some_and(|first| first.index.0 == status.commit.0 + 1);
        if !came_alone {
            self.log.leave_to_the_thread(PERSISTS_THREAD_ONLY);
        }
        let bytes: usize = persist.entries.iter().map(|entry| entry.data.len()).sum();
        let little = bytes as u64 <= LITTLE_BYTES_MAX && !self.backlog.is_too_much();
        let wanted = self.work.is_some() && little && status.role == Role::Follower;
        let number = persist.number;
        if let Some(write) = self.log.leave(LogJob::Persist(persist), wanted) {
            self.write = Some(write);
            self.alone.writes(number);
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        self.backlog.add(bytes);
        self.leave(ApplyJob::Apply { entries, bytes }, bytes <= LITTLE_BYTES_MAX);
    }

    /// Leaves a job to whoever took the turn if it is little, else to the apply thread.
    fn leave(&mut self, job: ApplyJob, little: bool) {
        let left = self.apply.leave(job, little && self.work.is_some());
        if let (Some(work), Some(left)) = (&mut self.work, left) {
            work.push(left);
        }
    }

    /// Answers what is known without a look at the disk; the rest is applying's. Nothing overtakes a read that is there: on
    /// one connection reads of a key are as if one were executed after the other.
    fn read(&mut self, reads: Reads) {
        let (answers, left) = match self.reads_left.load(Ordering::Acquire) {
            0 => {
                let known = self.state.known();
                answer_known(reads, |key| known.get(key))
            }
            _ => (Vec::new(), reads),
        };
        if !answers.is_empty() {
            self.gateway.answer(answers);
        }
        if !left.is_empty() {
            self.reads_left.fetch_add(1, Ordering::AcqRel);
            let of_one_key = |(_, command): &(Ticket, Command)| matches!(command, Command::Get { .. });
            let little = left.len() <= LITTLE_READS_MAX && left.iter().all(of_one_key);
            self.leave(ApplyJob::Read(left), little);
        }
    }

    fn send_snapshot(&mut self, message: pontoon_replica::Message) {
        let to = message.to;
        let source = message.snapshot.as_ref().and_then(|meta| self.pinned.take(to, meta.index));
        match (source, &self.peers) {
            (Some(source), Some(peers)) => peers.send_snapshot(self.group, message, source),
            _ => self.replica.step(Input::SnapshotSent { to, ok: false }),
        }
    }

    fn publish(&self) {
        let now = self.replica.status();
        let before = self.gateway.update(|status| std::mem::replace(&mut status.replica, now.clone()));
        if (before.role, before.term, before.leader) != (now.role, now.term, now.leader) {
            let leader = now.leader.map_or(0, |leader| leader.0);
            let (role, last) = (now.role.name(), now.last.0);
            tracing::info!(role, term = now.term.0, leader, last, commit = now.commit.0, "role changed");
        }
        debug_assert!(now.role != Role::Leader || now.leader.is_some(), "a leader knows itself");
    }
}

/// Whether it should not wait for a write. (An append waits for the writes before it in any case.)
fn is_urgent(event: &Event) -> bool {
    match event {
        Event::Requests(_) => true,
        Event::Messages(messages) => messages.iter().any(|message| message.kind != MessageKind::Append),
        Event::Input(_) | Event::Stop => false,
    }
}

type Reads = Vec<(Ticket, Command)>;

/// The answers that `known` suffices for, and the reads that are left: the others, and all behind one of them on its connection.
fn answer_known(
    reads: Reads,
    known: impl Fn(&[u8]) -> Option<Option<Bytes>>,
) -> (Vec<(Ticket, Answer)>, Reads) {
    let mut answers = Vec::with_capacity(reads.len());
    let mut left = Vec::new();
    let mut behind = BTreeSet::new();
    for (ticket, command) in reads {
        let reply = match behind.contains(&connection_of(ticket)) {
            false => pontoon_kv::read_known(&command, &known),
            true => None,
        };
        match reply {
            Some(reply) => answers.push((ticket, Answer::Reply(reply))),
            None => {
                behind.insert(connection_of(ticket));
                left.push((ticket, command));
            }
        }
    }
    (answers, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `MGET k` and then `GET k` on one connection gave the newer value first.
    #[test]
    fn no_read_overtakes_another_of_its_connection() {
        let ticket = |connection: u64, number| Ticket(connection << 32 | number);
        let get = || Command::Get { key: "k".into() };
        let many = Command::MGet { keys: vec!["k".into()] };
        let reads =
            vec![(ticket(1, 1), get()), (ticket(1, 2), many), (ticket(1, 3), get()), (ticket(2, 1), get())];
        let (answers, left) = answer_known(reads, |_| Some(None));
        let answered: Vec<Ticket> = answers.into_iter().map(|(ticket, _)| ticket).collect();
        let left: Vec<Ticket> = left.into_iter().map(|(ticket, _)| ticket).collect();
        assert_eq!(answered, [ticket(1, 1), ticket(2, 1)]);
        assert_eq!(left, [ticket(1, 2), ticket(1, 3)]);
    }
}
