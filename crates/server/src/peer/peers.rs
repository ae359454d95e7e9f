//! The handle on all connections between this member and the others.

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::Message;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{AbortHandle, JoinHandle},
    time::timeout,
};

use super::{
    PeerSink, SnapshotSink, SnapshotSource, context::Context, incoming::Incoming, outgoing::Outgoing,
    route::Route, snapshot_out,
};
use crate::Settings;

/// How long [`Peers::stop`] waits for what is queued.
const FLUSH: Duration = Duration::from_millis(200);

/// A cheap handle. When the last clone is dropped, all connections are closed.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

/// Members cannot connect to this server.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for members at {address}: {source}; set peer-listen to a free address of this machine (host:port)"
)]
pub struct BindError {
    /// Where it should have been.
    pub address: String,
    /// What the operating system says.
    pub source: io::Error,
}

struct Shared {
    runtime: Handle,
    context: Arc<Context>,
    routes: BTreeMap<NodeId, Arc<Route>>,
    stop: watch::Sender<bool>,
    outgoing: Mutex<Vec<JoinHandle<()>>>,
    incoming: AbortHandle,
    snapshots: Mutex<BTreeMap<(GroupId, NodeId), AbortHandle>>,
}

impl Peers {
    /// Listens at `peer_listen` and begins to connect to the other members. What happens is told to `sink`; snapshots that
    /// come in go to `snapshots`.
    pub fn start(
        settings: &Settings,
        runtime: &Handle,
        sink: Arc<dyn PeerSink>,
        snapshots: Arc<dyn SnapshotSink>,
    ) -> Result<Peers, BindError> {
        let _runtime = runtime.enter();
        let listener = listen(&settings.peer_listen)
            .map_err(|source| BindError { address: settings.peer_listen.clone(), source })?;
        let context = Arc::new(Context::new(settings, sink, snapshots));
        let incoming = runtime.spawn(Incoming::new(context.clone(), listener).run()).abort_handle();
        let (stop, stopped) = watch::channel(false);
        let mut routes = BTreeMap::new();
        let mut outgoing = Vec::new();
        for &to in context.members.keys() {
            let route = Arc::new(Route::new(to, context.frame_bytes_max));
            routes.insert(to, route.clone());
            let task = Outgoing { context: context.clone(), to, route, stop: stopped.clone() };
            outgoing.push(runtime.spawn(task.run()));
        }
        Ok(Peers {
            shared: Arc::new(Shared {
                runtime: runtime.clone(),
                context,
                routes,
                stop,
                outgoing: Mutex::new(outgoing),
                incoming,
                snapshots: Mutex::default(),
            }),
        })
    }

    /// Sends messages of a group, each to its `to`. Never waits: what finds no connection or no room is dropped and reported.
    /// Those to one member arrive in this order, but for messages without entries, which may overtake those with.
    pub fn send(&self, group: GroupId, messages: Vec<Message>) {
        let mut by_member: BTreeMap<NodeId, Vec<Message>> = BTreeMap::new();
        for message in messages {
            by_member.entry(message.to).or_default().push(message);
        }
        for (to, messages) in by_member {
            // Raft sends to nobody but members; one that has left needs nothing.
            if let Some(route) = self.shared.routes.get(&to) {
                route.send(group, messages, &*self.shared.context.sink);
            }
        }
    }

    /// Streams a snapshot to the member that `message` is for, and reports [`PeerEvent::SnapshotSent`](super::PeerEvent) at the
    /// end. It takes the place of an earlier one of the group to that member, of which nothing is reported then.
    pub fn send_snapshot(&self, group: GroupId, message: Message, source: Box<dyn SnapshotSource + Send>) {
        let context = self.shared.context.clone();
        let to = message.to;
        let mut running = self.shared.snapshots.lock().expect("no panic holds this lock");
        running.retain(|_, task| !task.is_finished());
        if let Some(earlier) = running.remove(&(group, to)) {
            earlier.abort();
        }
        let task = self.shared.runtime.spawn(snapshot_out::send(context, group, message, source));
        running.insert((group, to), task.abort_handle());
    }

    /// Writes what is queued, for 200 ms at most, and closes all connections; nothing is reported any more once it has returned.
    /// Blocks; not to be called from a task.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
        let outgoing = std::mem::take(&mut *self.shared.outgoing.lock().expect("no panic holds this lock"));
        self.shared.runtime.block_on(async {
            let aborts: Vec<AbortHandle> = outgoing.iter().map(JoinHandle::abort_handle).collect();
            let all = async {
                for task in outgoing {
                    // Whether it ended well does not matter any more.
                    let _ = task.await;
                }
            };
            if timeout(FLUSH, all).await.is_err() {
                aborts.iter().for_each(AbortHandle::abort);
            }
        });
        self.shared.abort();
    }
}

impl Shared {
    fn abort(&self) {
        self.incoming.abort();
        self.outgoing.lock().expect("no panic holds this lock").iter().for_each(JoinHandle::abort);
        self.snapshots.lock().expect("no panic holds this lock").values().for_each(AbortHandle::abort);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.abort();
    }
}

fn listen(address: &str) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
