//! A cluster in one process: servers on sockets of their own, one state behind them, faults on demand.

#![allow(unreachable_pub)] // a module of one test

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pontoon_wire::resp::{Parsed, Protocol, RequestLimits, RequestParser, Value, encode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What goes wrong with the next `ONCE` or `GET`.
pub enum Fault {
    /// It is executed, and the connection ends before the reply.
    LoseReply,
    /// The connection ends before it is executed.
    LoseRequest,
    /// It is not executed; this error is the reply.
    Say(&'static str),
    /// It is not executed, and nothing is said any more on this connection.
    Hang,
    /// Bytes that are no reply.
    Garbage,
}

#[derive(Clone)]
pub struct Cluster {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    password: Option<String>,
    data: BTreeMap<Bytes, Vec<u8>>,
    sessions: BTreeMap<u64, BTreeMap<u64, Value>>,
    next_sid: u64,
    faults: VecDeque<Fault>,
    requests: Vec<String>,
    connections: usize,
    /// Replies are held back until so many requests have come.
    hold: usize,
    widest_window: u64,
}

/// A listening server; it dies when dropped.
pub struct Server {
    pub address: String,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Closes its port and all its connections; its address.
    pub async fn kill(&self) -> String {
        self.task.abort();
        while !self.task.is_finished() {
            tokio::task::yield_now().await;
        }
        self.address.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cluster {
    pub fn new() -> Cluster {
        Cluster { state: Arc::default() }
    }

    pub fn with_password(password: &str) -> Cluster {
        let cluster = Cluster::new();
        cluster.lock().password = Some(password.to_string());
        cluster
    }

    pub async fn serve(&self) -> Server {
        self.serve_at("127.0.0.1:0").await
    }

    pub async fn serve_at(&self, address: &str) -> Server {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let cluster = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let cluster = cluster.clone();
                connections.spawn(async move { cluster.connection(socket).await });
            }
        });
        Server { address, task }
    }

    pub fn fault(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    pub fn hold_replies_until(&self, requests: usize) {
        let mut state = self.lock();
        state.hold = state.requests.len() + requests;
    }

    pub fn expire_sessions(&self) {
        self.lock().sessions.clear();
    }

    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub fn widest_window(&self) -> u64 {
        self.lock().widest_window
    }

    /// Waits for a condition, ten seconds at most.
    pub async fn wait_until(&self, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the condition comes true");
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with this lock")
    }

    async fn connection(&self, mut socket: TcpStream) {
        self.lock().connections += 1;
        let limits =
            RequestLimits { bulk_bytes_max: 64 << 20, request_bytes_max: 64 << 20, ..Default::default() };
        let (mut parser, mut input, mut output) =
            (RequestParser::new(limits), BytesMut::new(), BytesMut::new());
        let mut authenticated = self.lock().password.is_none();
        loop {
            while let Some(Parsed::Request(words)) = parser.parse(&mut input).expect("a clerk speaks RESP") {
                let reply = if words[0] == "AUTH" {
                    authenticated = self.lock().password.as_deref().map(str::as_bytes) == Some(&words[1]);
                    if authenticated { Value::OK } else { Value::Error("WRONGPASS invalid password".into()) }
                } else if !authenticated {
                    Value::Error("NOAUTH Authentication required.".into())
                } else {
                    let fault = if words[0] == "SESSION" { None } else { self.lock().faults.pop_front() };
                    match fault {
                        None => self.lock().request(&words),
                        Some(Fault::Say(error)) => Value::Error(error.into()),
                        Some(Fault::LoseRequest) => return,
                        Some(Fault::LoseReply) => {
                            self.lock().request(&words);
                            return;
                        }
                        Some(Fault::Hang) => std::future::pending().await,
                        Some(Fault::Garbage) => {
                            // An error means that the clerk was faster.
                            let _ = socket.write_all(b"?what\r\n").await;
                            continue;
                        }
                    }
                };
                encode(&reply, Protocol::Resp2, &mut output);
            }
            let held = {
                let state = self.lock();
                state.requests.len() < state.hold
            };
            if !held && socket.write_all(&output.split()).await.is_err() {
                return;
            }
            match socket.read_buf(&mut input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

impl State {
    fn request(&mut self, words: &[Bytes]) -> Value {
        self.requests
            .push(words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" "));
        let number = |word: &Bytes| String::from_utf8_lossy(word).parse::<u64>().expect("a number");
        match &words[0][..] {
            b"SESSION" if words[1] == "OPEN" => {
                self.next_sid += 1;
                self.sessions.insert(self.next_sid, BTreeMap::new());
                Value::Integer(self.next_sid.cast_signed())
            }
            b"SESSION" => {
                let sid = number(&words[2]);
                let known = if words[1] == "CLOSE" {
                    self.sessions.remove(&sid).is_some()
                } else {
                    self.sessions.contains_key(&sid)
                };
                if known { Value::OK } else { Value::Error("SESSIONEXPIRED".into()) }
            }
            b"ONCE" => {
                let (sid, seq, ack) = (number(&words[1]), number(&words[2]), number(&words[3]));
                self.widest_window = self.widest_window.max(seq - ack + 1);
                let Some(session) = self.sessions.get(&sid) else {
                    return Value::Error("SESSIONEXPIRED".into());
                };
                if let Some(recorded) = session.get(&seq) {
                    return recorded.clone();
                }
                let reply = self.execute(&words[4..]);
                let session = self.sessions.get_mut(&sid).expect("it was found above");
                session.insert(seq, reply.clone());
                *session = session.split_off(&ack);
                reply
            }
            _ => self.execute(words),
        }
    }

    fn execute(&mut self, words: &[Bytes]) -> Value {
        match &words[0][..] {
            b"GET" => {
                self.data.get(&words[1]).map_or(Value::Null, |value| Value::Bulk(Bytes::from(value.clone())))
            }
            b"SET" => {
                self.data.insert(words[1].clone(), words[2].to_vec());
                Value::OK
            }
            b"APPEND" => {
                let value = self.data.entry(words[1].clone()).or_default();
                value.extend_from_slice(&words[2]);
                Value::Integer(value.len() as i64)
            }
            b"DEL" => Value::Integer(i64::from(self.data.remove(&words[1]).is_some())),
            b"BATCH" => {
                let mut rest = &words[2..];
                let mut replies = Vec::new();
                while let Some((count, words)) = rest.split_first() {
                    let count: usize = String::from_utf8_lossy(count).parse().expect("a number");
                    replies.push(self.execute(&words[..count]));
                    rest = &words[count..];
                }
                Value::Array(replies)
            }
            _ => Value::Error("ERR unknown command".into()),
        }
    }
}
