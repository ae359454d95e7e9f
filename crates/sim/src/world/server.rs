//! A server's life: start, turn by turn, pause, crash, and start again from its disk.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;
use pontoon_kv::{Machine, MemStore, NodeId, Store};
use pontoon_replica::{Input, Message, Output, Persist, Replica, SnapshotMeta, Status};
use pontoon_wire::peer::{Body, Decoder, encode_message};

use super::{
    Disk, GROUP, LogImage, Server, Setup, World,
    clients::Waiting,
    event::{Event, Local},
    failing::DiskFault,
    node,
    perform::ApplyJob,
    tables::Tables,
};
use crate::{check::Violation, rng::Rng, time::MS};

/// Frames of peers are read with this bound.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

/// A server: what survives its process, and the process while there is one.
#[derive(Debug)]
pub(crate) struct Machinery {
    pub(crate) disk: Disk,
    pub(crate) life: Option<Life>,
    /// Counts its processes; what is scheduled for an earlier one is void.
    pub(crate) lives: u64,
    /// While the process is stopped (SIGSTOP): what comes in meanwhile.
    pub(crate) paused: Option<Vec<Event>>,
    /// Its disk's syncs take so long, in microseconds.
    pub(crate) sync_us: (u64, u64),
    pub(crate) disk_fault: Option<DiskFault>,
    /// Its disk is lost for good: it is never started again.
    pub(crate) retired: bool,
    /// Until then its clock does not tick.
    pub(crate) clock_stands_until: u64,
    /// It crashes after performing so many more outputs, and is down for so long, in microseconds.
    pub(crate) fuse: Option<(u64, u64)>,
    pub(crate) rng: Rng,
    /// Length of its ticks, in microseconds.
    tick_us: u64,
}

/// A process.
pub(crate) struct Life {
    pub(crate) replica: Replica,
    pub(crate) machine: Machine<Tables<MemStore>>,
    pub(crate) inbox: Vec<Input>,
    turn_due: bool,
    /// Persists that the log thread has not taken yet.
    pub(crate) persists: VecDeque<Persist>,
    pub(crate) writing: bool,
    pub(crate) apply: VecDeque<ApplyJob>,
    pub(crate) applying: bool,
    pub(crate) pinned: BTreeMap<NodeId, (SnapshotMeta, <Tables<MemStore> as Store>::View)>,
    /// Snapshots that were received whole.
    pub(crate) staged: Vec<(SnapshotMeta, MemStore)>,
    pub(crate) tickets: BTreeMap<u64, Waiting>,
    pub(crate) next_ticket: u64,
}

impl std::fmt::Debug for Life {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Life").field("status", &self.replica.status()).finish_non_exhaustive()
    }
}

impl Machinery {
    pub(super) fn new(setup: &Setup, mut rng: Rng) -> Machinery {
        let drift = setup.drift_percent;
        let percent = rng.within((100 - drift, 100 + drift));
        Machinery {
            disk: Disk::default(),
            life: None,
            lives: 0,
            paused: None,
            sync_us: setup.sync_us,
            disk_fault: None,
            retired: false,
            clock_stands_until: 0,
            fuse: None,
            tick_us: 25 * MS * percent / 100,
            rng,
        }
    }

    /// The log as the core has it: what is durable, what is on its way there, and what is about to be.
    fn log_with(&self, outputs: &[Output]) -> LogImage {
        let mut log = self.disk.log.clone();
        let queued = self.life.iter().flat_map(|life| &life.persists);
        let wanted = outputs.iter().filter_map(|output| match output {
            Output::Persist(persist) => Some(persist),
            _ => None,
        });
        self.disk
            .written
            .iter()
            .flatten()
            .chain(queued)
            .chain(wanted)
            .for_each(|persist| log.perform(persist));
        log
    }

    pub(super) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("what is scheduled within a process happens within it")
    }
}

impl Life {
    /// What the core does not want installed now, of what it was told of in this turn, it never will.
    fn drop_unwanted(&mut self, mut told: Vec<SnapshotMeta>, outputs: &[Output]) {
        for output in outputs {
            if let Output::InstallSnapshot(wanted) = output
                && let Some(at) = told.iter().position(|meta| meta == wanted)
            {
                told.remove(at);
            }
        }
        told.iter().for_each(|unwanted| drop(self.take_staged(unwanted)));
    }

    /// The snapshot that was received under this name.
    pub(super) fn take_staged(&mut self, meta: &SnapshotMeta) -> Option<MemStore> {
        let at = self.staged.iter().position(|(staged, _)| staged == meta)?;
        Some(self.staged.remove(at).1)
    }
}

impl World {
    /// A process starts from what its disk holds.
    pub(super) fn start(&mut self, server: Server) {
        let seed = self.rng.next();
        let config = self.setup.config(server, seed);
        let machinery = &mut self.servers[server];
        let recovered = machinery.disk.recover(self.setup.config.limits, self.setup.members());
        let (restored, machine) = match recovered {
            Ok(recovered) => recovered,
            Err(damage) => {
                self.counts.refused_starts += 1;
                return self
                    .trace
                    .line(self.now, format_args!("n{} refuses to start: {damage}", node(server)));
            }
        };
        self.trace.line(
            self.now,
            format_args!(
                "n{} starts: term {} state {} log {}..{}",
                node(server),
                restored.hard_state.term,
                restored.applied.index,
                restored.trimmed.0,
                machinery.disk.log.last(),
            ),
        );
        machinery.lives += 1;
        machinery.paused = None;
        machinery.fuse = None;
        machinery.life = Some(Life {
            replica: Replica::new(config, restored),
            machine,
            inbox: Vec::new(),
            turn_due: false,
            persists: VecDeque::new(),
            writing: false,
            apply: VecDeque::new(),
            applying: false,
            pinned: BTreeMap::new(),
            staged: Vec::new(),
            tickets: BTreeMap::new(),
            next_ticket: 1,
        });
        let first = machinery.rng.below(machinery.tick_us);
        let flush = machinery.rng.within((200 * MS, 3_000 * MS));
        self.local(server, first, Local::Tick);
        self.local(server, flush, Local::FlushUnasked);
        self.turn_soon(server);
    }

    /// Starts a server that is down, if its disk can be written.
    pub fn restart(&mut self, server: Server) {
        let machinery = &self.servers[server];
        if machinery.life.is_none() && machinery.disk_fault.is_none() && !machinery.retired {
            self.start(server);
        }
    }

    /// The process ends at once; what its disk was writing is there afterwards, torn or lost.
    pub fn crash(&mut self, server: Server) {
        let machinery = &mut self.servers[server];
        let Some(life) = machinery.life.take() else { return };
        let held = machinery.paused.take();
        let kept = machinery.disk.crash(&mut machinery.rng);
        let result = self.checks.on_durable(&kept);
        self.hold(result);
        self.trace.line(self.now, format_args!("n{} crashes", node(server)));
        self.drop_transfers_of(server);
        for waiting in life.tickets.into_values() {
            self.fail(waiting);
        }
        for event in held.into_iter().flatten() {
            if let Event::Request { client, attempt, late, .. } = event {
                self.fail(Waiting { client, attempt, late });
            }
        }
    }

    /// Whether the process is there and not stopped.
    pub fn is_running(&self, server: Server) -> bool {
        let machinery = &self.servers[server];
        machinery.life.is_some() && machinery.paused.is_none()
    }

    /// Whether the process is there.
    pub fn is_up(&self, server: Server) -> bool {
        self.servers[server].life.is_some()
    }

    /// The process is stopped for so long (SIGSTOP), then goes on with what came in meanwhile.
    pub fn pause(&mut self, server: Server, duration_us: u64) {
        if self.is_running(server) {
            self.trace.line(self.now, format_args!("n{} is paused", node(server)));
            let machinery = &mut self.servers[server];
            machinery.paused = Some(Vec::new());
            let life = machinery.lives;
            self.after(duration_us, Event::Resume(server, life));
        }
    }

    /// A paused process goes on.
    pub fn resume(&mut self, server: Server) {
        if let Some(held) = self.servers[server].paused.take() {
            self.trace.line(self.now, format_args!("n{} goes on with {} events", node(server), held.len()));
            for event in held {
                self.after(0, event);
            }
        }
    }

    /// The process is told to end: it hands leadership over, answers who waits, and starts again soon after.
    pub fn stop(&mut self, server: Server) {
        self.end(server, true);
    }

    /// As [`World::stop`], and it stays down until [`World::restart`].
    pub fn shut_down(&mut self, server: Server) {
        self.end(server, false);
    }

    fn end(&mut self, server: Server, again: bool) {
        if self.is_running(server) {
            self.trace.line(self.now, format_args!("n{} is told to stop", node(server)));
            self.input(server, Input::Stop);
            let farewell = self.servers[server].rng.below(500 * MS);
            self.local(server, farewell, Local::Input(Box::new(Input::Abandon)));
            self.local(server, farewell + 5 * MS, Local::Exit { again });
        }
    }

    pub(super) fn on_frame(&mut self, from: Server, to: Server, bytes: bytes::Bytes) {
        if let Some(held) = &mut self.servers[to].paused {
            return held.push(Event::Frame { from, to, bytes });
        }
        if self.servers[to].life.is_none() {
            return;
        }
        let frame = Decoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(bytes));
        let Ok(Some(frame)) = frame else { panic!("a frame cannot be read: {frame:?}") };
        let Body::Message(message) = frame.body else { panic!("only messages travel alone") };
        self.trace_message("gets", to, &message);
        self.input(to, Input::Message(message));
    }

    /// Encodes a message and puts it on its way.
    pub(super) fn post(&mut self, from: Server, message: &Message) {
        let to = super::place(message.to);
        self.counts.messages += 1;
        self.trace_message("sends", from, message);
        let arrivals = self.network.arrivals(self.now, from, to);
        if arrivals.is_empty() {
            // The connection breaks, sooner or later.
            if self.rng.chance(0.1) {
                self.input(from, Input::Unreachable(message.to));
            }
            return;
        }
        #[cfg(feature = "mutants")]
        let message = &self.sent_wrongly(from, message);
        let mut bytes = BytesMut::new();
        encode_message(GROUP, message, &mut bytes);
        let bytes = bytes.freeze();
        for at in arrivals {
            self.queue.push(at, Event::Frame { from, to, bytes: bytes.clone() });
        }
    }

    pub(super) fn trace_message(&mut self, verb: &str, server: Server, message: &Message) {
        if self.trace.is_on() {
            let Message { kind, from, to, term, index, log_term, commit, reject, entries, .. } = message;
            let no = if *reject { " reject" } else { "" };
            self.trace.line(
                self.now,
                format_args!(
                    "n{} {verb} {kind:?} {from}->{to} term={term} at={index}@{log_term} entries={} commit={commit}{no}",
                    node(server),
                    entries.len(),
                ),
            );
        }
    }

    pub(super) fn on_local(&mut self, server: Server, life: u64, what: Local) {
        if let Some(held) = &mut self.servers[server].paused {
            return held.push(Event::Local(server, life, what));
        }
        match what {
            Local::Tick => {
                let delay = self.servers[server].tick_us;
                self.local(server, delay, Local::Tick);
                if self.servers[server].clock_stands_until <= self.now {
                    self.input(server, Input::Tick);
                }
            }
            Local::Turn => self.turn(server),
            Local::Write => self.write(server),
            Local::Written { sync } => self.on_written(server, sync),
            Local::Applied => self.on_applied(server),
            Local::Read(reads) => self.on_read(server, reads),
            Local::ReadLog { low, high, bytes_max } => self.on_read_log(server, low, high, bytes_max),
            Local::Build(to) => self.on_build(server, to),
            Local::Flush => self.flush(server),
            Local::Flushed(state) => self.on_flushed(server, state),
            Local::FlushUnasked => {
                let again = self.servers[server].rng.within((200 * MS, 5_000 * MS));
                self.local(server, again, Local::FlushUnasked);
                self.flush(server);
            }
            Local::Input(input) => self.input(server, *input),
            #[cfg(feature = "mutants")]
            Local::Enter(ticket, waiting) => {
                self.servers[server].life().tickets.insert(ticket, waiting);
            }
            Local::Exit { again } => {
                let down = self.servers[server].rng.within((10 * MS, 1_000 * MS));
                self.crash(server);
                if again {
                    self.after(down, Event::Restart(server));
                }
            }
        }
    }

    /// Something comes into the core's inbox.
    pub(super) fn input(&mut self, server: Server, input: Input) {
        if let Some(life) = &mut self.servers[server].life {
            life.inbox.push(input);
            self.turn_soon(server);
        }
    }

    fn turn_soon(&mut self, server: Server) {
        let machinery = &mut self.servers[server];
        let life = machinery.life();
        if !std::mem::replace(&mut life.turn_due, true) {
            // The core's thread waits for a processor now and then.
            let delay = if machinery.rng.chance(0.01) {
                machinery.rng.below(20 * MS)
            } else {
                machinery.rng.below(60)
            };
            self.local(server, delay, Local::Turn);
        }
    }

    /// The core takes its inbox, and what it wants done is done.
    fn turn(&mut self, server: Server) {
        let life = self.servers[server].life();
        life.turn_due = false;
        let before = life.replica.status();
        let mut told = Vec::new();
        for input in std::mem::take(&mut life.inbox) {
            if let Input::SnapshotReceived(Message { snapshot: Some(meta), .. }) = &input {
                told.push(meta.clone());
            }
            life.replica.step(input);
        }
        let outputs = life.replica.outputs();
        life.drop_unwanted(told, &outputs);
        let status = life.replica.status();
        if (before.role, before.term, before.leader) != (status.role, status.term, status.leader) {
            let (role, term, leader) =
                (status.role.name(), status.term, status.leader.map_or(0, |leader| leader.0));
            let (last, commit, applied) = (status.last, status.commit, status.applied);
            self.trace.line(
                self.now,
                format_args!(
                    "n{} {role}@{term} leader={leader} last={last} commit={commit} applied={applied}",
                    node(server)
                ),
            );
        }
        let result = self.observe(server, &status, &outputs);
        self.hold(result);
        self.perform_all(server, outputs);
    }

    /// The checkers see a turn before anything of it is performed.
    fn observe(&mut self, server: Server, status: &Status, outputs: &[Output]) -> Result<(), Violation> {
        let machinery = &self.servers[server];
        self.checks.on_turn(server, status, || machinery.log_with(outputs))?;
        for output in outputs {
            match output {
                Output::Apply(entries) => {
                    let disks: Vec<&Disk> = self.servers.iter().map(|machinery| &machinery.disk).collect();
                    self.checks.on_apply(status, entries, &disks)?;
                }
                Output::Send(messages) => {
                    messages.iter().try_for_each(|message| self.checks.on_send(message, &machinery.disk))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
