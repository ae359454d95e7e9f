//! A whole cluster in one thread and virtual time.
//!
//! ```text
//!            ┌──────────────── events, by time ───────────────┐
//!            ▼                                                │
//!   [World::run_until] ─► server ─► Replica::step ─► outputs ─┤ each after a delay of its own, in shuffled order,
//!            │                                                │ persists excepted
//!            ├─► network: frames of peers, encoded and decoded┤
//!            ├─► disk: written, synced, lost at a crash       ┤
//!            └─► clients: Caller::on_answer ─► acts ──────────┘
//! ```
//!
//! All chance comes from one seed: the same seed is the same run.

mod clients;
mod disk;
mod event;
mod failing;
mod faults;
#[cfg(feature = "mutants")]
mod mutants;
mod network;
mod noise;
mod perform;
mod record;
mod server;
mod snapshots;
mod tables;

use std::collections::BTreeMap;

use bytes::Bytes;
use pontoon_kv::{ConfState, GroupId, MemStore, NodeId, Reader, SnapshotWriter, Store};
use pontoon_replica::{Answer, Config, Status};

use self::{
    clients::Client,
    event::{Event, Local, Queue},
    network::Network,
    server::{Life, Machinery},
    snapshots::Transfer,
};
pub use self::{
    clients::{Keys, Workload},
    event::{ClientId, Server},
    faults::{FaultKind, FaultPlan},
    network::Links,
};
pub(crate) use self::{
    disk::{Damage, Disk, LogImage, Synced},
    network::{UNRELIABLE_DELAY_MS, UNRELIABLE_LOSS},
};
use crate::{
    check::{Checks, Held, Violation},
    history::History,
    rng::Rng,
    time::MS,
    trace::Trace,
};

/// The only group of these clusters.
pub(crate) const GROUP: GroupId = GroupId(1);

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Everything that looks like chance comes from it.
    pub seed: u64,
    /// Servers, all voters.
    pub servers: usize,
    /// All servers' settings; node and seed are each server's own.
    pub config: Config,
    /// How links between servers are.
    pub links: Links,
    /// The lab's unreliable network between clients and servers.
    pub unreliable: bool,
    /// A disk's sync takes this long, in microseconds, from and to.
    pub sync_us: (u64, u64),
    /// Servers' clocks run this much too fast or too slow at most, in percent.
    pub drift_percent: u64,
    /// A server's threads wait for a processor so long at times, in microseconds.
    pub hesitation_us_max: u64,
    /// What need not be synced is not written until something else is.
    pub lazy_writes: bool,
    /// Where the trace goes.
    pub traced: Traced,
}

/// Where a world's trace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Traced {
    /// Nowhere.
    #[default]
    No,
    /// Into memory.
    Kept,
    /// To standard output.
    Printed,
}

impl Setup {
    /// A quiet cluster.
    pub fn new(seed: u64, servers: usize) -> Setup {
        Setup {
            seed,
            servers,
            config: Config { log_bytes_max: None, ..Config::new(GROUP, NodeId(0), 0) },
            links: Links::GOOD,
            unreliable: false,
            sync_us: (100, 2 * MS),
            drift_percent: 0,
            hesitation_us_max: 30 * MS,
            lazy_writes: false,
            traced: Traced::No,
        }
    }

    fn members(&self) -> ConfState {
        ConfState { voters: (1..=self.servers as u64).map(NodeId).collect(), ..ConfState::default() }
    }

    fn config(&self, server: Server, seed: u64) -> Config {
        Config { node: node(server), seed, ..self.config.clone() }
    }
}

/// A server's name within the cluster.
pub(crate) fn node(server: Server) -> NodeId {
    NodeId(server as u64 + 1)
}

/// The place of a member.
pub(crate) fn place(node: NodeId) -> Server {
    node.0 as usize - 1
}

/// What a run came to, in figures.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Events that happened.
    pub events: u64,
    /// Client operations that ended, whatever they came to.
    pub operations: u64,
    /// Of these, with an unknown outcome.
    pub unknown: u64,
    /// Messages between servers that were sent.
    pub messages: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Snapshots that were installed.
    pub snapshots: u64,
    /// Times that a follower was caught up from the disk.
    pub log_reads: u64,
    /// Times that a server stopped because its disk failed or was damaged.
    pub fail_stops: u64,
    /// Times that a server refused to start on a damaged disk.
    pub refused_starts: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

/// The world.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    now: u64,
    queue: Queue,
    rng: Rng,
    network: Network,
    servers: Vec<Machinery>,
    clients: Vec<Client>,
    /// Operations that are on no record.
    submitted: u64,
    /// What [`World::ask_server`] waits for.
    bare_answers: Vec<Option<Answer>>,
    transfers: BTreeMap<u64, Transfer>,
    next_transfer: u64,
    /// Whose transfers make no progress.
    stalled: Option<Server>,
    faults: faults::Faults,
    /// Ticks by which clocks have leapt ahead.
    ticks_leapt: u64,
    /// What clients did and saw.
    pub history: History,
    checks: Checks,
    counts: Counts,
    trace: Trace,
    violation: Option<Violation>,
}

impl World {
    /// A cluster that starts now.
    pub fn new(setup: Setup) -> World {
        let mut rng = Rng::new(setup.seed);
        let network = Network::new(rng.fork(), setup.servers, setup.links, setup.unreliable);
        let servers = (0..setup.servers).map(|_| Machinery::new(&setup, rng.fork())).collect();
        let mut world = World {
            now: 0,
            queue: Queue::default(),
            network,
            servers,
            clients: Vec::new(),
            submitted: 0,
            bare_answers: Vec::new(),
            transfers: BTreeMap::new(),
            next_transfer: 0,
            stalled: None,
            faults: faults::Faults::new(rng.fork()),
            ticks_leapt: 0,
            history: History::default(),
            checks: Checks::new(setup.servers),
            counts: Counts::default(),
            trace: match setup.traced {
                Traced::No => Trace::Off,
                Traced::Kept => Trace::Kept(String::new()),
                Traced::Printed => Trace::Printed,
            },
            violation: None,
            rng,
            setup,
        };
        for server in 0..world.servers.len() {
            world.start(server);
        }
        world
    }

    /// Virtual time, in microseconds from the start.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What the run came to so far.
    pub fn counts(&self) -> Counts {
        Counts { elections: self.checks.elections(), ..self.counts.clone() }
    }

    /// The trace so far, if it is kept.
    pub fn trace(&self) -> &str {
        match &self.trace {
            Trace::Kept(text) => text,
            Trace::Off | Trace::Printed => "",
        }
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// A server's figures; none while it is down.
    pub fn status(&self, server: Server) -> Option<Status> {
        self.servers[server].life.as_ref().map(|life| life.replica.status())
    }

    /// A server's state as far as it is applied.
    ///
    /// # Panics
    ///
    /// If the server is down.
    pub fn applied_state(&self, server: Server) -> &MemStore {
        &self.servers[server].life.as_ref().expect("the server is up").machine.store().pairs
    }

    /// The index and the term of the last entry in a server's log on its disk.
    pub fn log_position(&self, server: Server) -> (u64, u64) {
        let log = &self.servers[server].disk.log;
        let term = log.term_at(log.last()).expect("a log has its last position");
        (log.last().0, term.0)
    }

    /// The term that a server's disk knows, and whom it has voted for in it.
    pub fn vote(&self, server: Server) -> (u64, Option<Server>) {
        let hard_state = self.servers[server].disk.log.hard_state;
        (hard_state.term.0, (hard_state.vote.0 > 0).then(|| place(hard_state.vote)))
    }

    /// Bytes of the entries in a server's log on its disk.
    pub fn log_bytes(&self, server: Server) -> u64 {
        self.servers[server].disk.log.bytes()
    }

    /// Bytes of the keys and values that a server's state holds, and of the log's entries that its memory does.
    pub fn held_bytes(&self, server: Server) -> u64 {
        let mut bytes = self.status(server).map_or(0, |status| status.window_bytes);
        let count = &mut |key: Bytes, value: Bytes| {
            bytes += (key.len() + value.len()) as u64;
            true
        };
        self.applied_state(server).scan(&[], &[], count).expect("a store in memory can be read");
        bytes
    }

    /// The size of a snapshot of a server's state, in bytes.
    pub fn snapshot_bytes(&self, server: Server) -> u64 {
        let view = self.applied_state(server).view();
        let mut writer = SnapshotWriter::new(view, GROUP).expect("a state that serves is not empty");
        let mut bytes = 0;
        while let Some(block) = writer.next_block().expect("a view in memory can be read") {
            bytes += block.len() as u64;
        }
        bytes
    }

    /// What a server holds on to; nothing while it is down.
    pub fn held(&self, server: Server) -> Held {
        let held = |life: &Life| Held {
            waiting: life.replica.status().waiting,
            tickets: life.tickets.len(),
            queued: life.inbox.len()
                + life.persists.iter().filter(|persist| persist.sync).count()
                + life.apply.len(),
            snapshots: life.staged.len() + life.pinned.len(),
        };
        self.servers[server].life.as_ref().map(held).unwrap_or_default()
    }

    /// Sessions that are open, as a server sees it; none while it is down.
    pub fn sessions(&self, server: Server) -> usize {
        self.servers[server].life.as_ref().map_or(0, |life| life.machine.sessions())
    }

    /// Lets things happen until this time.
    ///
    /// # Errors
    ///
    /// A property was violated; the world stands as it was then.
    pub fn run_until(&mut self, until: u64) -> Result<(), Violation> {
        while self.violation.is_none() && self.queue.next_at().is_some_and(|at| at <= until) {
            let (at, event) = self.queue.pop().expect("there is a next");
            self.now = at;
            self.counts.events += 1;
            self.happen(event);
        }
        self.now = self.now.max(until);
        self.verdict()
    }

    /// Lets things happen for so long, in microseconds.
    ///
    /// # Errors
    ///
    /// As [`World::run_until`].
    pub fn run_for(&mut self, duration_us: u64) -> Result<(), Violation> {
        self.run_until(self.now + duration_us)
    }

    /// Lets things happen until `done`, for `limit_us` at most; whether it came to that.
    ///
    /// # Errors
    ///
    /// As [`World::run_until`].
    pub fn run_while(
        &mut self,
        limit_us: u64,
        mut pending: impl FnMut(&World) -> bool,
    ) -> Result<bool, Violation> {
        let end = self.now + limit_us;
        while pending(self) {
            if self.now >= end {
                return Ok(false);
            }
            self.run_until((self.now + MS).min(end))?;
        }
        Ok(true)
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.violation.clone().map_or(Ok(()), Err)
    }

    /// The first violation counts: what follows may be its consequence.
    fn hold(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.trace.line(self.now, format_args!("VIOLATION {violation}"));
            self.violation = Some(violation);
        }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    fn local(&mut self, server: Server, delay: u64, what: Local) {
        let life = self.servers[server].lives;
        self.after(delay, Event::Local(server, life, what));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Local(server, life, what) => {
                if self.servers[server].lives == life && self.servers[server].life.is_some() {
                    self.on_local(server, life, what);
                }
            }
            Event::Frame { from, to, bytes } => self.on_frame(from, to, bytes),
            Event::Transfer(number) => self.on_transfer(number),
            Event::Request { server, client, attempt, request, late } => {
                self.on_request(server, client, attempt, request, late);
            }
            Event::Reply { client, attempt, answer } => self.on_reply(client, attempt, answer),
            Event::Wake(client) => self.on_wake(client),
            Event::Think(client) => self.on_think(client),
            Event::Restart(server) => self.restart(server),
            Event::Resume(server, life) => {
                if self.servers[server].lives == life {
                    self.resume(server);
                }
            }
            Event::Fault => self.on_fault(),
            Event::FaultEnds(number) => self.on_fault_ends(number),
        }
    }
}
