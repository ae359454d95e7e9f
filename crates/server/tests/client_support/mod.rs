//! A server whose core is the test: it sees what connections submit, and answers when and how it likes.

// Each test file uses its part of this one; a failing seed has to be told.
#![allow(dead_code, unreachable_pub, clippy::print_stderr)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::Receiver;
use pontoon_kv::{Command, NodeId, Reply, SetCondition};
use pontoon_replica::{Answer, Request, Ticket};
use pontoon_server::{
    Gateway, Settings,
    client::{Digest, Listener},
    inbox::{Event, Inbox},
    network::{Desk, NetworkThread},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
};

/// Nothing that a test waits for takes so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A listener on a free port, and the place of the core behind it.
pub struct Server {
    pub address: SocketAddr,
    pub gateway: Gateway,
    pub inbox: Receiver<Event>,
    pub stop: watch::Sender<bool>,
    pub serving: JoinHandle<()>,
    /// What `DEBUG DIGEST` replies from now on.
    pub digest: Arc<Mutex<&'static str>>,
}

impl Server {
    pub async fn start() -> Server {
        Server::with(settings(), 1024).await
    }

    pub async fn with(settings: Settings, inbox_len_max: usize) -> Server {
        let (sender, inbox) = Inbox::new(inbox_len_max);
        let desk = Desk::new(sender);
        tokio::spawn(desk.clone().run());
        Server::on(vec![NetworkThread { runtime: Handle::current(), desk }], settings, inbox).await
    }

    /// One whose connections are on these threads.
    pub async fn on(threads: Vec<NetworkThread>, settings: Settings, inbox: Receiver<Event>) -> Server {
        let gateway = Gateway::default();
        let listener = Listener::bind(&settings).await.expect("a free port");
        let address = listener.address();
        let (stop, stopped) = watch::channel(false);
        let digest = Arc::new(Mutex::new("c0ffee"));
        let ask = digest.clone();
        let ask: Digest = Arc::new(move || {
            let digest = ask.lock().expect("no panic").to_string();
            Box::pin(async { Ok(digest) })
        });
        let serving = tokio::spawn(listener.serve(gateway.clone(), ask, threads, stopped));
        Server { address, gateway, inbox, stop, serving, digest }
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.expect("the server accepts") }
    }

    /// The next batch that a connection submits.
    pub async fn next(&self) -> Vec<(Ticket, Request)> {
        let inbox = self.inbox.clone();
        let event =
            tokio::task::spawn_blocking(move || inbox.recv_timeout(PATIENCE)).await.expect("no panic");
        match event.expect("a connection submits something") {
            Event::Requests(requests) => requests,
            other => panic!("connections submit requests, not {other:?}"),
        }
    }

    /// The next `count` requests, however they are batched.
    pub async fn next_requests(&self, count: usize) -> Vec<(Ticket, Request)> {
        let mut requests = Vec::new();
        while requests.len() < count {
            requests.extend(self.next().await);
        }
        assert_eq!(requests.len(), count, "no more than that is submitted");
        requests
    }

    pub fn answer(&self, ticket: Ticket, reply: Reply) {
        self.gateway.answer(vec![(ticket, Answer::Reply(reply))]);
    }

    pub fn assert_nothing_submitted(&self) {
        assert!(self.inbox.is_empty(), "{:?}", self.inbox.try_recv());
    }

    /// Answers everything from now on in random order: writes are executed as submitted, reads at any time after they were.
    pub fn run_core(&self, mut random: Random) {
        let (inbox, gateway) = (self.inbox.clone(), self.gateway.clone());
        std::thread::spawn(move || {
            let mut data = BTreeMap::new();
            let mut writes = std::collections::VecDeque::new();
            let mut reads = Vec::new();
            loop {
                let wait = if writes.is_empty() && reads.is_empty() { PATIENCE } else { Duration::ZERO };
                match inbox.recv_timeout(wait) {
                    Ok(Event::Requests(requests)) => {
                        for (ticket, request) in requests {
                            let Request::Plain(command) = request else {
                                panic!("only plain requests: {request:?}")
                            };
                            match command.is_read() {
                                true => reads.push((ticket, command)),
                                false => writes.push_back((ticket, command)),
                            }
                        }
                    }
                    Ok(_) => return,
                    Err(_) if writes.is_empty() && reads.is_empty() => return,
                    Err(_) => {}
                }
                let mut answers = Vec::new();
                for _ in 0..random.below(64) {
                    let next = match random.below(2) {
                        0 if !reads.is_empty() => Some(reads.swap_remove(random.below(reads.len()))),
                        _ => writes.pop_front(),
                    };
                    let Some((ticket, command)) = next else { continue };
                    answers.push((ticket, Answer::Reply(execute(&mut data, &command))));
                }
                random.shuffle(&mut answers);
                gateway.answer(answers);
            }
        });
    }
}

pub fn settings() -> Settings {
    let mut settings = Settings::new(NodeId(1), "unused".into());
    settings.listen = "127.0.0.1:0".to_string();
    settings
}

/// A client's end of a connection: bytes.
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// The next replies, byte for byte.
    pub async fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut got = vec![0; expected.len()];
        let mut len = 0;
        while len < got.len() {
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut got[len..])).await;
            match read {
                Ok(Ok(bytes)) if bytes > 0 => len += bytes,
                other => panic!(
                    "{other:?} after \"{}\" instead of \"{}\"",
                    got[..len].escape_ascii(),
                    expected.escape_ascii()
                ),
            }
            assert!(
                expected.starts_with(&got[..len]),
                "got \"{}\" instead of \"{}\"",
                got[..len].escape_ascii(),
                expected.escape_ascii()
            );
        }
    }

    /// One line, without its end.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = tokio::time::timeout(PATIENCE, self.stream.read_u8()).await.expect("a line in time");
            line.push(byte.expect("a line before the end"));
        }
        String::from_utf8(line).expect("text").trim_end().to_string()
    }

    /// A bulk string as text.
    pub async fn text(&mut self) -> String {
        let header = self.line().await;
        let len: usize = header.strip_prefix('$').and_then(|len| len.parse().ok()).expect("a bulk string");
        let mut text = vec![0; len + 2];
        self.stream.read_exact(&mut text).await.expect("the whole string");
        String::from_utf8(text).expect("text").trim_end_matches("\r\n").to_string()
    }

    pub async fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        let read =
            tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("closed in time");
        // A reset is an end, too: the server may have closed with bytes unread.
        assert!(read.is_err() || rest.is_empty(), "before the end: {}", rest.escape_ascii());
    }

    /// Sends a request and expects a reply.
    pub async fn ask(&mut self, request: &[&str], reply: &str) {
        self.send(frame(request)).await;
        self.expect(reply).await;
    }
}

/// A request as an array of bulk strings.
pub fn frame(arguments: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    pontoon_wire::resp::encode_request(arguments, &mut out);
    out.to_vec()
}

/// Commands as Redis executes them, as far as the tests use them.
pub fn execute(data: &mut BTreeMap<Bytes, Bytes>, command: &Command) -> Reply {
    let value =
        |data: &BTreeMap<Bytes, Bytes>, key: &Bytes| data.get(key).cloned().map_or(Reply::Nil, Reply::Bytes);
    match command {
        Command::Get { key } => value(data, key),
        Command::StrLen { key } => Reply::Integer(data.get(key).map_or(0, Bytes::len) as i64),
        Command::Exists { keys } => {
            Reply::Integer(keys.iter().filter(|key| data.contains_key(*key)).count() as i64)
        }
        Command::MGet { keys } => Reply::Array(keys.iter().map(|key| value(data, key)).collect()),
        Command::Set { key, value, condition: SetCondition::Always, return_old: false } => {
            data.insert(key.clone(), value.clone());
            Reply::Ok
        }
        Command::Append { key, value } => {
            let joined = [data.get(key).map_or(&b""[..], |old| old), value].concat();
            let len = joined.len() as i64;
            data.insert(key.clone(), joined.into());
            Reply::Integer(len)
        }
        Command::Del { keys } => {
            Reply::Integer(keys.iter().filter_map(|key| data.remove(key)).count() as i64)
        }
        Command::MSet { pairs } => {
            data.extend(pairs.iter().cloned());
            Reply::Ok
        }
        Command::Batch { commands } => {
            Reply::Array(commands.iter().map(|command| execute(data, command)).collect())
        }
        other => panic!("not used here: {other:?}"),
    }
}

/// A small generator of random numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
