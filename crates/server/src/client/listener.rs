//! The port that clients connect to.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinError, JoinSet},
};

use super::{
    connection,
    memory::{CLIENTS_BYTES_MAX, Memory},
    service::{Counters, Digest, Service},
};
use crate::{
    Gateway, Settings,
    network::NetworkThread,
    room::{ROOM_BYTES, Room},
};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A peer that is gone without a word is found out after about this long.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// How long not to accept after that failed: the process is out of file descriptors, and trying at once would fail again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why clients could not connect. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Something listens there already.
    #[error(
        "{listen} is in use by another program: stop that, or let clients connect elsewhere with --listen"
    )]
    Taken {
        /// The setting.
        listen: String,
    },
    /// Not `host:port`, or no such host.
    #[error("--listen {listen} is not an address of this machine (host:port): {source}")]
    NotAnAddress {
        /// The setting.
        listen: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Anything else, such as a port that needs privileges.
    #[error("cannot listen on {listen}: {source}; choose another address with --listen")]
    Refused {
        /// The setting.
        listen: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A port that is bound: the kernel takes connections, which wait for [`Listener::serve`].
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    settings: Settings,
}

impl Listener {
    /// Binds [`Settings::listen`]. Runs in a tokio runtime.
    #[allow(clippy::unused_async, reason = "a runtime is needed to register the socket")]
    pub async fn bind(settings: &Settings) -> Result<Listener, BindError> {
        let listen = settings.listen.clone();
        let addresses: Vec<SocketAddr> = match listen.to_socket_addrs() {
            Ok(addresses) => addresses.collect(),
            Err(source) => return Err(BindError::NotAnAddress { listen, source }),
        };
        let mut failure = std::io::Error::other("the name has no address");
        for address in addresses {
            match open(address).and_then(|socket| Ok((socket.local_addr()?, socket))) {
                Ok((address, socket)) => return Ok(Listener { socket, address, settings: settings.clone() }),
                Err(error) => failure = error,
            }
        }
        Err(match failure.kind() {
            std::io::ErrorKind::AddrInUse => BindError::Taken { listen },
            std::io::ErrorKind::AddrNotAvailable => BindError::NotAnAddress { listen, source: failure },
            _ => BindError::Refused { listen, source: failure },
        })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until `stop` turns true (or its sender is dropped): then no connection is accepted and no request read any
    /// more, what is in flight is answered, and this returns when all connections are closed. Dropping the future closes them
    /// at once. The connections are spread over `threads` one after the other.
    pub async fn serve(
        self,
        gateway: Gateway,
        digest: Digest,
        threads: Vec<NetworkThread>,
        mut stop: watch::Receiver<bool>,
    ) {
        let room = Room::new(ROOM_BYTES, self.settings.request_timeout);
        let service = Arc::new(Service {
            settings: self.settings,
            gateway,
            digest,
            counters: Counters::default(),
            memory: Memory::new(CLIENTS_BYTES_MAX),
            room,
            started: Instant::now(),
            port: self.address.port(),
        });
        let mut connections = JoinSet::new();
        let mut threads = threads.iter().cycle();
        let stopped = stop.clone();
        let stop_asked = async move {
            // An error says that nobody is left to ask, which is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stop_asked);
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, address)) => {
                        let thread = threads.next().expect("there is one");
                        welcome(stream, address, &service, thread, &stopped, &mut connections);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = connections.join_next() => report(ended),
                () = &mut stop_asked => break,
            }
        }
        drop(self.socket);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait until the last connections of the previous run are forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Starts the task of a connection, or refuses it.
fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    service: &Arc<Service>,
    thread: &NetworkThread,
    stop: &watch::Receiver<bool>,
    connections: &mut JoinSet<()>,
) {
    let counters = &service.counters;
    if connections.len() >= service.settings.connections_max {
        counters.rejected.fetch_add(1, Ordering::Relaxed);
        // An empty socket buffer has room for so little; and if not, being closed says it, too.
        let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
        return;
    }
    counters.accepted.fetch_add(1, Ordering::Relaxed);
    counters.connected.fetch_add(1, Ordering::Relaxed);
    // Options that make things better; a connection works without them.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    let (service, desk, stop) = (service.clone(), thread.desk.clone(), stop.clone());
    let serve = async move {
        // The thread that accepted it watches it until now.
        match stream.into_std().and_then(TcpStream::from_std) {
            Ok(stream) => connection::serve(stream, address, &service, &desk, stop).await,
            Err(error) => tracing::warn!(%address, %error, "a connection could not be watched"),
        }
        service.counters.connected.fetch_sub(1, Ordering::Relaxed);
    };
    connections.spawn_on(serve, &thread.runtime);
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a client connection's task failed");
    }
}
