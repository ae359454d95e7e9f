//! A server's life: open the folder, recover, run, stop.

use std::{
    num::NonZero,
    sync::{Arc, atomic::AtomicUsize},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pontoon_kv::GroupId;
use pontoon_replica::{Config, Input, Replica};
use pontoon_storage::{DataFolder, state::Notice};
use tokio::sync::watch;

use crate::{
    Gateway, Settings,
    client::{Digest, Listener},
    driver::{
        Alone, Applier, Apply, ApplyJob, Backlog, Core, Fatal, Incoming, LogJob, LogReader, LogWriter,
        Pinned, ReadJob, Writer,
    },
    inbox::{Event, Inbox},
    network::{Desk, Network, NetworkThread, StandIns},
    peer::{GroupInbox, Peers},
    recovery::Recovered,
};

/// The one group of today. All that belongs to a group is tagged with it; only this crate's start knows that there is one.
pub const GROUP: GroupId = GroupId(1);

/// Events that may wait for the core thread; beyond that clients are told that the server is busy, and members wait.
const INBOX_LEN_MAX: usize = 16_384;

/// How long a stopping server waits until its leadership is taken over and its requests are answered.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a server did not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub(crate) String);

impl StartError {
    pub(crate) fn new(error: impl std::fmt::Display) -> StartError {
        StartError(error.to_string())
    }
}

/// A running server.
pub struct Server {
    gateway: Gateway,
    peers: Option<Arc<Peers>>,
    clients: Clients,
    network: Network,
    threads: Threads,
    failed: Receiver<String>,
    /// Locked until the last file is closed.
    _folder: DataFolder,
}

/// The task that serves the clients, and how to end it.
struct Clients {
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

/// The threads around the core, and how to end them.
struct Threads {
    inbox: Inbox,
    log: Arc<LogWriter>,
    reader: Sender<ReadJob>,
    apply: Arc<Apply>,
    core: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens the data folder, recovers what it holds, and serves. Returns when clients can connect; whether there is a leader yet
    /// is another matter. Must not be called within an asynchronous runtime.
    pub fn start(settings: Settings) -> Result<Server, StartError> {
        let (inbox, events) = Inbox::new(INBOX_LEN_MAX);
        let network = Network::start(network_threads(), &inbox).map_err(StartError::new)?;
        let NetworkThread { runtime, desk } = network.first();
        let gateway = Gateway::default();
        // Ports first: a taken one must leave the folder as it was.
        let listener = runtime.block_on(Listener::bind(&settings)).map_err(StartError::new)?;
        let incoming = Arc::new(Incoming::new(GROUP));
        let peers = match settings.cluster.members.len() {
            1 => None,
            _ => {
                let sink = Arc::new(GroupInbox::new(GROUP, desk.clone()));
                let peers = Peers::start(&settings, runtime, sink, incoming.clone());
                Some(Arc::new(peers.map_err(StartError::new)?))
            }
        };
        let (fatal, failed) = bounded(1);
        let fatal = Fatal(fatal);
        let folder =
            DataFolder::open(&settings.data, &settings.cluster.id, settings.node).map_err(StartError::new)?;
        let recovered = Recovered::open(&folder, &settings, GROUP, notifier(inbox.clone(), fatal.clone()))?;

        let channels = Channels { inbox, events, desk: desk.clone(), stand_ins: network.stand_ins() };
        let threads =
            Threads::start(&settings, recovered, channels, &gateway, incoming, peers.clone(), fatal)?;
        let (stop, stopped) = watch::channel(false);
        let digest = digest(threads.apply.clone());
        let serve = listener.serve(gateway.clone(), digest, network.threads().to_vec(), stopped);
        let served = runtime.spawn(serve);
        let clients = Clients { stop, served };
        Ok(Server { gateway, peers, clients, network, threads, failed, _folder: folder })
    }

    /// Says why this server cannot go on, if that happens (a failed fsync, say): the process should end with that sentence.
    pub fn failed(&self) -> Receiver<String> {
        self.failed.clone()
    }

    /// Its figures.
    pub fn status(&self) -> crate::Status {
        self.gateway.status()
    }

    /// Stops: hands leadership over, answers the requests in flight, closes connections and files.
    pub fn stop(self) {
        let send = |input| drop(self.threads.inbox.send(Event::from(input)));
        send(Input::Stop);
        let deadline = Instant::now() + FAREWELL;
        let busy = |status: &crate::Status| {
            status.replica.role == crate::status::Role::Leader || status.replica.waiting > 0
        };
        let alone = self.peers.is_none();
        while Instant::now() < deadline
            && busy(&self.gateway.status())
            && !(alone && self.gateway.status().replica.waiting == 0)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        send(Input::Abandon);
        let _ = self.clients.stop.send(true);
        // A client that does not read its replies must not hold the server up.
        let served = async { tokio::time::timeout(FAREWELL, self.clients.served).await };
        let _ = self.network.first().runtime.block_on(served);
        if let Some(peers) = &self.peers {
            peers.stop();
        }
        self.threads.stop();
        self.network.stop();
        tracing::info!("stopped");
    }
}

/// Half of the machine: the core, the log and the state have threads of their own.
fn network_threads() -> NonZero<usize> {
    let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
    NonZero::new((cores / 2).clamp(1, 8)).expect("it is at least one")
}

/// Digests of the whole state, made by the apply thread and a helper of it.
fn digest(apply: Arc<Apply>) -> Digest {
    Arc::new(move || {
        let (teller, told) = tokio::sync::oneshot::channel();
        apply.push(ApplyJob::Digest(teller));
        Box::pin(async move { told.await.map_err(|_| "this server is stopping".to_string())? })
    })
}

/// What the state store's threads tell goes to the core, or ends the server.
fn notifier(inbox: Inbox, fatal: Fatal) -> pontoon_storage::state::Notify {
    Arc::new(move |notice| match notice {
        Notice::Durable(index) => drop(inbox.send(Input::StateDurable(index).into())),
        Notice::Failed(error) => fatal.report(error),
    })
}

struct Channels {
    inbox: Inbox,
    events: Receiver<Event>,
    desk: Arc<Desk>,
    stand_ins: StandIns,
}

impl Threads {
    fn start(
        settings: &Settings,
        recovered: Recovered,
        channels: Channels,
        gateway: &Gateway,
        incoming: Arc<Incoming>,
        peers: Option<Arc<Peers>>,
        fatal: Fatal,
    ) -> Result<Threads, StartError> {
        let Recovered { log, restored, machine, seed } = recovered;
        let Channels { inbox, events, desk, mut stand_ins } = channels;
        let (reader, reader_queue) = unbounded();
        let backlog = Arc::new(Backlog::default());
        let pinned = Arc::new(Pinned::new(fatal.clone()));
        let replica = Replica::new(replica_config(settings, seed), restored);

        let state = machine.store().handle();
        let reads_left = Arc::new(AtomicUsize::new(0));
        incoming.open(state.clone());
        let writer = Writer {
            group: GROUP,
            log: log.clone(),
            reader: reader.clone(),
            backlog: backlog.clone(),
            fault_fsync_delay: settings.fault_fsync_delay,
        };
        let writer = LogWriter::new(writer, desk.clone(), fatal.clone());
        let log_reader =
            LogReader { group: GROUP, log, jobs: reader_queue, inbox: inbox.clone(), fatal: fatal.clone() };
        let applier = Applier {
            state: state.clone(),
            reads_left: reads_left.clone(),
            machine,
            group: GROUP,
            gateway: gateway.clone(),
            backlog: backlog.clone(),
            pinned: pinned.clone(),
            incoming,
        };
        let apply = Apply::new(applier, desk, fatal);
        let core = Core {
            group: GROUP,
            replica,
            tick: settings.tick,
            next_tick: Instant::now() + settings.tick,
            inbox: events,
            gateway: gateway.clone(),
            log: writer.clone(),
            alone: Alone::default(),
            reader: reader.clone(),
            apply: apply.clone(),
            state,
            reads_left,
            backlog,
            pinned,
            told: Vec::new(),
            work: None,
            write: None,
            peers,
        };
        let workers = vec![
            spawn("pontoon-log", {
                let writer = writer.clone();
                move || writer.run()
            })?,
            spawn("pontoon-reader", move || log_reader.run())?,
            spawn("pontoon-apply", {
                let apply = apply.clone();
                move || apply.run()
            })?,
        ];
        let turns = inbox.clone();
        let core = spawn("pontoon-core", move || turns.run(Box::new(core), || stand_ins.look()))?;
        Ok(Threads { inbox, log: writer, reader, apply, core, workers })
    }

    /// Ends the core first, then what performs for it, each after what it was told before.
    fn stop(self) {
        // A thread that has failed is gone already.
        let _ = self.inbox.send(Event::Stop);
        let _ = self.core.join();
        let _ = self.reader.send(ReadJob::Stop);
        self.log.push(LogJob::Stop);
        self.apply.push(ApplyJob::Stop);
        for worker in self.workers {
            let _ = worker.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.to_string()).spawn(run).map_err(StartError::new)
}

fn replica_config(settings: &Settings, seed: u64) -> Config {
    let tick_ms = settings.tick.as_millis().max(1) as u64;
    Config {
        tick_ms,
        heartbeat_ticks: settings.heartbeat_ticks,
        election_ticks: settings.election_ticks,
        request_timeout_ticks: (settings.request_timeout.as_millis() as u64).div_ceil(tick_ms),
        limits: settings.cluster.limits,
        log_bytes_max: settings.snapshot_log_bytes,
        ..Config::new(GROUP, settings.node, seed)
    }
}
