//! Members on loopback, with what they received at hand.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::PathBuf,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Term};
use pontoon_replica::{Message, MessageKind, SnapshotMeta};
use pontoon_server::{
    Settings,
    peer::{PeerEvent, PeerSink, Peers, SnapshotSink, SnapshotSource, SnapshotStage, Undelivered},
};

pub(crate) const GROUP: GroupId = GroupId(1);
/// Nothing here takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings of members 1 to `count`, on free ports.
pub(crate) fn members(count: u64) -> Vec<Settings> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: BTreeMap<NodeId, String> = (1..)
        .zip(&listeners)
        .map(|(node, listener)| (NodeId(node), listener.local_addr().unwrap().to_string()))
        .collect();
    let member = |(node, address): (&NodeId, &String)| {
        let mut settings = Settings::new(*node, PathBuf::new());
        settings.cluster.members = addresses.clone();
        settings.cluster.secret = "a secret".to_string();
        settings.peer_listen = address.clone();
        settings
    };
    addresses.iter().map(member).collect()
}

/// Keeps events until the test takes them; can be told to be full.
#[derive(Default)]
pub(crate) struct Inbox {
    events: Mutex<Vec<PeerEvent>>,
    full: AtomicBool,
}

impl PeerSink for Inbox {
    fn deliver(&self, event: PeerEvent) -> Result<(), Undelivered> {
        if self.full.load(Ordering::SeqCst) {
            return Err(Undelivered::Full(event));
        }
        self.events.lock().unwrap().push(event);
        Ok(())
    }
}

/// A running member.
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) peers: Peers,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) snapshots: Arc<Shelf>,
    runtime: tokio::runtime::Runtime,
}

impl Member {
    pub(crate) fn start(settings: &Settings) -> Member {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (inbox, snapshots) = (Arc::new(Inbox::default()), Arc::new(Shelf::default()));
        let peers = Peers::start(settings, runtime.handle(), inbox.clone(), snapshots.clone()).unwrap();
        Member { node: settings.node, peers, inbox, snapshots, runtime }
    }

    pub(crate) fn stop(self) {
        self.peers.stop();
        self.runtime.shutdown_timeout(Duration::from_secs(1));
    }

    /// The inbox takes nothing until told otherwise.
    pub(crate) fn set_full(&self, full: bool) {
        self.inbox.full.store(full, Ordering::SeqCst);
    }

    pub(crate) fn take_events(&self) -> Vec<PeerEvent> {
        std::mem::take(&mut self.inbox.events.lock().unwrap())
    }

    /// Looks at the messages without taking them.
    pub(crate) fn messages(&self) -> Vec<Message> {
        received(&self.inbox.events.lock().unwrap())
    }

    /// Waits until events have come that `enough` is content with, and takes all.
    pub(crate) fn events_until(&self, what: &str, enough: impl Fn(&[PeerEvent]) -> bool) -> Vec<PeerEvent> {
        await_that(what, || enough(&self.inbox.events.lock().unwrap()));
        self.take_events()
    }

    /// Waits until messages of this member reach the other.
    pub(crate) fn reaches(&self, other: &Member) {
        let probe = || message(MessageKind::Heartbeat, self.node, other.node, PROBE);
        await_that(&format!("{} reaches {}", self.node, other.node), || {
            self.peers.send(GROUP, vec![probe()]);
            all(&other.inbox.events.lock().unwrap()).contains(&probe())
        });
        other.take_events();
        self.take_events();
    }
}

/// The index of messages that only find out whether there is a connection.
const PROBE: u64 = u64::MAX;

/// The messages in these events, in order; late probes do not count.
pub(crate) fn received(events: &[PeerEvent]) -> Vec<Message> {
    let mut messages = all(events);
    messages.retain(|message| message.index != Index(PROBE));
    messages
}

fn all(events: &[PeerEvent]) -> Vec<Message> {
    let messages = events.iter().filter_map(|event| match event {
        PeerEvent::Messages { messages, .. } => Some(messages.clone()),
        _ => None,
    });
    messages.flatten().collect()
}

pub(crate) fn unreachable(events: &[PeerEvent]) -> usize {
    events.iter().filter(|event| matches!(event, PeerEvent::Unreachable(_))).count()
}

pub(crate) fn message(kind: MessageKind, from: NodeId, to: NodeId, index: u64) -> Message {
    Message {
        kind,
        from,
        to,
        term: Term(3),
        log_term: Term(2),
        index: Index(index),
        entries: Vec::new(),
        commit: Index(7),
        commit_term: Term(2),
        snapshot: None,
        request_snapshot: Index(0),
        reject: false,
        reject_hint: Index(0),
        context: Bytes::new(),
        priority: 0,
    }
}

/// An append of one entry.
pub(crate) fn append(from: NodeId, to: NodeId, index: u64, data: Bytes) -> Message {
    let entries = vec![Entry { index: Index(index + 1), term: Term(3), clock: ClusterTime(9), data }];
    Message { entries, ..message(MessageKind::Append, from, to, index) }
}

pub(crate) fn snapshot_message(from: NodeId, to: NodeId, term: u64, index: u64) -> Message {
    let snapshot = Some(SnapshotMeta { index: Index(index), term: Term(1), ..SnapshotMeta::default() });
    Message { snapshot, term: Term(term), ..message(MessageKind::Snapshot, from, to, index) }
}

pub(crate) fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}; the log says:\n{}", log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Blocks to send; between them the test may have its way.
pub(crate) struct Blocks<F>(pub(crate) F);

impl<F: FnMut() -> Result<Option<Bytes>, String>> SnapshotSource for Blocks<F> {
    fn next_block(&mut self) -> Result<Option<Bytes>, String> {
        (self.0)()
    }
}

/// A source of these blocks.
pub(crate) fn source(blocks: Vec<Bytes>) -> Box<dyn SnapshotSource + Send> {
    let mut blocks = blocks.into_iter();
    Box::new(Blocks(move || Ok(blocks.next())))
}

/// What a snapshot is of, and its blocks.
pub(crate) type Received = (Index, Vec<Bytes>);

type Hook = Box<dyn FnMut(usize) -> Result<(), String> + Send>;

/// Keeps received snapshots.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) stages_open: Arc<Mutex<usize>>,
    /// Called with the number of each block, before it is taken.
    on_block: Arc<Mutex<Option<Hook>>>,
    done: Arc<Mutex<Vec<Received>>>,
}

impl Shelf {
    pub(crate) fn finished(&self) -> Vec<Received> {
        self.done.lock().unwrap().clone()
    }

    pub(crate) fn on_block(&self, hook: impl FnMut(usize) -> Result<(), String> + Send + 'static) {
        *self.on_block.lock().unwrap() = Some(Box::new(hook));
    }
}

impl SnapshotSink for Shelf {
    fn begin(&self, group: GroupId, message: &Message) -> Result<Box<dyn SnapshotStage>, String> {
        assert_eq!(group, GROUP);
        let mut open = self.stages_open.lock().unwrap();
        assert_eq!(*open, 0, "one stage at a time");
        *open = 1;
        Ok(Box::new(Stage {
            index: message.snapshot.as_ref().expect("announced with what it is of").index,
            blocks: Vec::new(),
            open: self.stages_open.clone(),
            on_block: self.on_block.clone(),
            done: self.done.clone(),
        }))
    }
}

struct Stage {
    index: Index,
    blocks: Vec<Bytes>,
    open: Arc<Mutex<usize>>,
    on_block: Arc<Mutex<Option<Hook>>>,
    done: Arc<Mutex<Vec<Received>>>,
}

impl SnapshotStage for Stage {
    fn block(&mut self, block: Bytes) -> Result<(), String> {
        if let Some(hook) = &mut *self.on_block.lock().unwrap() {
            hook(self.blocks.len())?;
        }
        self.blocks.push(block);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        let blocks = std::mem::take(&mut self.blocks);
        self.done.lock().unwrap().push((self.index, blocks));
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        *self.open.lock().unwrap() = 0;
    }
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static LOGGING: Once = Once::new();

/// From now on [`log`] has what this process logs.
pub(crate) fn keep_log() {
    LOGGING.call_once(|| {
        let writer = || Writer;
        tracing_subscriber::fmt().with_ansi(false).with_writer(writer).init();
    });
}

pub(crate) fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned()
}

struct Writer;

impl std::io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
