//! Real servers for tests: the binary, files in a temporary folder, sockets on free ports, SIGKILL.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use pontoon_wire::resp::{ReplyLimits, ReplyParser, Value, encode_request};
use tempfile::TempDir;

/// A cluster of server processes. Dropping it kills them.
pub struct Cluster {
    pub folder: TempDir,
    servers: Vec<Server>,
    extra: Vec<String>,
}

struct Server {
    id: usize,
    port: u16,
    peer_port: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts `count` servers with these further flags and waits until one leads.
    pub fn start(count: usize, extra: &[&str]) -> Cluster {
        let servers = (1..=count)
            .map(|id| Server { id, port: free_port(), peer_port: free_port(), process: None })
            .collect();
        let extra = extra.iter().map(|flag| flag.to_string()).collect();
        let mut cluster = Cluster { folder: tempfile::tempdir().unwrap(), servers, extra };
        for id in 1..=count {
            cluster.restart(id);
        }
        cluster.await_leader();
        cluster
    }

    /// Starts a server that does not run.
    pub fn restart(&mut self, id: usize) {
        let members: Vec<String> = self
            .servers
            .iter()
            .map(|server| format!("{}=127.0.0.1:{}", server.id, server.peer_port))
            .collect();
        let log = self.folder.path().join(format!("server-{id}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let data = self.folder.path().join(format!("data-{id}"));
        let server = &mut self.servers[id - 1];
        assert!(server.process.is_none(), "server {id} runs already");
        let process = Command::new(env!("CARGO_BIN_EXE_pontoon"))
            .arg("serve")
            .args(["--id", &id.to_string(), "--data", data.to_str().unwrap()])
            .args(["--listen", &format!("127.0.0.1:{}", server.port)])
            .args(["--peer-listen", &format!("127.0.0.1:{}", server.peer_port)])
            .args(["--cluster", &members.join(",")])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        server.process = Some(process);
    }

    /// SIGKILL.
    pub fn kill(&mut self, id: usize) {
        let mut process = self.servers[id - 1].process.take().expect("the server runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; how it ended, and after how long.
    pub fn terminate(&mut self, id: usize) -> (std::process::ExitStatus, Duration) {
        let mut process = self.servers[id - 1].process.take().expect("the server runs");
        let started = Instant::now();
        let pid = nix::unistd::Pid::from_raw(process.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        (process.wait().unwrap(), started.elapsed())
    }

    /// How a server ended by itself, if it has.
    pub fn try_end(&mut self, id: usize) -> Option<std::process::ExitStatus> {
        let process = &mut self.servers[id - 1].process;
        let status = process.as_mut().expect("the server runs").try_wait().unwrap()?;
        *process = None;
        Some(status)
    }

    /// Waits until a server ends by itself; how it did.
    pub fn await_end(&mut self, id: usize) -> std::process::ExitStatus {
        within(Duration::from_secs(20), || self.try_end(id))
            .unwrap_or_else(|| panic!("server {id} does not end\n{}", self.log(id)))
    }

    pub fn port(&self, id: usize) -> u16 {
        self.servers[id - 1].port
    }

    pub fn peer_port(&self, id: usize) -> u16 {
        self.servers[id - 1].peer_port
    }

    pub fn pid(&self, id: usize) -> u32 {
        self.servers[id - 1].process.as_ref().expect("the server runs").id()
    }

    pub fn runs(&self, id: usize) -> bool {
        self.servers[id - 1].process.is_some()
    }

    pub fn ids(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.id).collect()
    }

    /// Every server's client address.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect()
    }

    /// A connection to a server, once it accepts one.
    pub fn connect(&self, id: usize) -> Connection {
        within(Duration::from_secs(20), || Connection::open(self.port(id)).ok())
            .unwrap_or_else(|| panic!("server {id} does not accept connections\n{}", self.log(id)))
    }

    /// A server's figures of `INFO raft`; none if it cannot be reached.
    pub fn raft_info(&self, id: usize) -> Option<BTreeMap<String, String>> {
        let mut connection = Connection::open(self.port(id)).ok()?;
        let Value::Bulk(text) = connection.try_call(&["INFO", "raft"])? else { return None };
        let text = String::from_utf8(text.to_vec()).unwrap();
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Some(lines.map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    pub fn figure(&self, id: usize, name: &str) -> Option<u64> {
        self.raft_info(id)?.get(name)?.parse().ok()
    }

    /// The server that leads in the highest term, once it has committed in it.
    pub fn await_leader(&self) -> usize {
        within(Duration::from_secs(20), || {
            let leads = |id: &usize| {
                let info = self.raft_info(*id)?;
                (info["raft_role"] == "leader").then(|| (info["raft_term"].parse::<u64>().unwrap(), *id))
            };
            self.ids().iter().filter(|id| self.runs(**id)).filter_map(leads).max().map(|(_, id)| id)
        })
        .unwrap_or_else(|| panic!("nobody leads\n{}", self.logs()))
    }

    /// Waits until all running servers have applied the same, and holds their states against one another.
    pub fn assert_states_equal(&self) {
        let digests = || {
            let running = self.ids().into_iter().filter(|id| self.runs(*id));
            let digest = |id| Connection::open(self.port(id)).ok()?.try_call(&["DEBUG", "DIGEST"]);
            running.map(digest).collect::<Option<Vec<Value>>>()
        };
        let index = |digest: &Value| format!("{digest:?}").split(':').next().map(str::to_string);
        let equal_index =
            || digests().filter(|digests| digests.iter().all(|digest| index(digest) == index(&digests[0])));
        let digests = within(Duration::from_secs(30), equal_index)
            .unwrap_or_else(|| panic!("they do not catch up\n{}", self.logs()));
        assert!(digests.iter().all(|digest| *digest == digests[0]), "states differ: {digests:?}");
        assert!(matches!(digests[0], Value::Simple(_) | Value::Bulk(_)), "no digest: {digests:?}");
    }

    pub fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("server-{id}.log"))).unwrap_or_default()
    }

    pub fn logs(&self) -> String {
        self.ids().iter().map(|id| format!("--- server {id}\n{}", self.log(*id))).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.servers.iter_mut().filter_map(|server| server.process.as_mut()) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A RESP connection that waits for each reply.
pub struct Connection {
    socket: TcpStream,
    parser: ReplyParser,
    buffer: BytesMut,
}

impl Connection {
    pub fn open(port: u16) -> std::io::Result<Connection> {
        let address = ([127, 0, 0, 1], port).into();
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Connection { socket, parser: ReplyParser::new(ReplyLimits::default()), buffer: BytesMut::new() })
    }

    pub fn call(&mut self, args: &[&str]) -> Value {
        self.try_call(args).unwrap_or_else(|| panic!("no reply to {args:?}"))
    }

    pub fn try_call(&mut self, args: &[impl AsRef<[u8]>]) -> Option<Value> {
        let mut request = BytesMut::new();
        encode_request(args, &mut request);
        self.send(&request).ok()?;
        self.receive()
    }

    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next reply; none if the connection ends or says nothing for 10 s.
    pub fn receive(&mut self) -> Option<Value> {
        loop {
            if let Some(value) = self.parser.parse(&mut self.buffer).expect("the server speaks RESP") {
                return Some(value);
            }
            let mut chunk = [0; 64 << 10];
            match self.socket.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// Polls until there is something, for a bounded time.
pub fn within<T>(limit: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = poll() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free a moment ago. Test processes start looking at different places, below the range that the kernel gives
/// to outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 400) as u16 * 50;
    for _ in 0..20_000 {
        let port = 10_000 + (first - 10_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

pub fn bulk(text: &str) -> Value {
    Value::Bulk(text.to_string().into())
}
