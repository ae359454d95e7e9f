//! A server's figures, asked over its client port with `INFO`.

use std::{
    collections::BTreeMap,
    fmt, io,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use pontoon_wire::resp::{self, ReplyLimits, ReplyParser, Value};
use serde::Serialize;

/// What a server says of its group. Its names are those of `INFO`'s raft section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Its id.
    pub node_id: u64,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// The last log entry that it knows to be on a majority.
    pub commit_index: u64,
    /// The last log entry that its state holds.
    pub applied_index: u64,
    /// The log's last entry.
    pub last_index: u64,
    /// Older entries, and this one, are in the state only.
    pub trimmed_index: u64,
    /// Bytes of entries in the log.
    pub log_bytes: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Requests without an answer yet.
    pub waiting: u64,
}

/// Why a server's figures are unknown.
#[derive(Debug, thiserror::Error)]
pub enum InfoError {
    /// No such host, nobody there, or no answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// It refused.
    #[error("refused: {0}")]
    Refused(String),
    /// It is no Pontoon server.
    #[error("not a Pontoon server: {0}")]
    Strange(String),
}

/// Asks one server again and again, over one connection as long as it holds.
#[derive(Debug)]
pub struct Probe {
    address: String,
    password: Option<String>,
    connection: Option<Connection>,
}

impl Probe {
    /// A probe of the server at this `host:port`.
    pub fn new(address: String, password: Option<String>) -> Probe {
        Probe { address, password, connection: None }
    }

    /// The server's figures now. It takes about `timeout` at most (a name that has to be looked up may take longer).
    pub fn info(&mut self, timeout: Duration) -> Result<Info, InfoError> {
        let deadline = Instant::now() + timeout;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address, self.password.as_deref(), deadline)?,
        };
        let info = match connection.call(&["INFO", "raft"], deadline)? {
            Value::Bulk(text) => parse(&String::from_utf8_lossy(&text)),
            Value::Verbatim { text, .. } => parse(&String::from_utf8_lossy(&text)),
            Value::Error(why) => Err(InfoError::Refused(why.into_owned())),
            _ => Err(InfoError::Strange("its INFO is no text".to_string())),
        }?;
        self.connection = Some(connection);
        Ok(info)
    }
}

/// A connection that waits for each reply.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    parser: ReplyParser,
    received: BytesMut,
}

impl Connection {
    /// Connects to this `host:port` and presents the password, if there is one.
    pub fn open(address: &str, password: Option<&str>, deadline: Instant) -> Result<Connection, InfoError> {
        let found = address.to_socket_addrs().map_err(unreachable)?;
        let mut last = InfoError::Unreachable("no such host".to_string());
        for address in found {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => {
                    let parser = ReplyParser::new(ReplyLimits::default());
                    let mut connection = Connection { stream, parser, received: BytesMut::new() };
                    connection.authenticate(password, deadline)?;
                    return Ok(connection);
                }
                Err(error) => last = unreachable(error),
            }
        }
        Err(last)
    }

    fn authenticate(&mut self, password: Option<&str>, deadline: Instant) -> Result<(), InfoError> {
        let Some(password) = password else { return Ok(()) };
        match self.call(&["AUTH", password], deadline)? {
            // A server without a password is as well.
            Value::Error(why) if why.contains("without any password configured") => Ok(()),
            Value::Error(why) => Err(InfoError::Refused(why.into_owned())),
            _ => Ok(()),
        }
    }

    /// Sends a request and waits for its reply.
    pub fn call(&mut self, words: &[&str], deadline: Instant) -> Result<Value, InfoError> {
        let mut request = BytesMut::new();
        resp::encode_request(words, &mut request);
        self.stream.set_write_timeout(Some(left(deadline)?)).map_err(unreachable)?;
        self.stream.write_all(&request).map_err(unreachable)?;
        let mut chunk = [0; 4096];
        loop {
            let reply = self.parser.parse(&mut self.received);
            if let Some(reply) = reply.map_err(|error| InfoError::Strange(error.to_string()))? {
                return Ok(reply);
            }
            self.stream.set_read_timeout(Some(left(deadline)?)).map_err(unreachable)?;
            match self.stream.read(&mut chunk).map_err(unreachable)? {
                0 => return Err(InfoError::Unreachable("it closed the connection".to_string())),
                count => self.received.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// The socket, for whoever goes on with it: every reply has been read.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// Never zero: the system takes that for "without a bound".
fn left(deadline: Instant) -> Result<Duration, InfoError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(InfoError::Unreachable("no answer in time".to_string())) } else { Ok(left) }
}

fn unreachable(error: io::Error) -> InfoError {
    InfoError::Unreachable(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_string(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "it closed the connection".to_string(),
        _ => error.to_string(),
    })
}

/// Reads the lines `raft_name:value` of an `INFO`.
fn parse(text: &str) -> Result<Info, InfoError> {
    let pairs: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("raft_")?.split_once(':')).collect();
    let text = |name: &str| pairs.get(name).copied().ok_or_else(|| lacks(name));
    let number = |name: &str| text(name)?.parse::<u64>().map_err(|_| lacks(name));
    Ok(Info {
        node_id: number("node_id")?,
        role: text("role")?.to_string(),
        term: number("term")?,
        // Nobody is 0, or no number.
        leader: text("leader")?.parse().ok().filter(|leader| *leader != 0),
        commit_index: number("commit_index")?,
        applied_index: number("applied_index")?,
        last_index: number("last_index")?,
        trimmed_index: number("trimmed_index")?,
        log_bytes: number("log_bytes")?,
        sessions: number("sessions")?,
        waiting: number("waiting")?,
    })
}

fn lacks(name: impl fmt::Display) -> InfoError {
    InfoError::Strange(format!("its INFO lacks raft_{name}"))
}

/// The server that leads, among these: a leader of an older term has been replaced and does not know it yet.
pub fn leader<'a>(infos: impl IntoIterator<Item = &'a Info>) -> Option<&'a Info> {
    infos.into_iter().filter(|info| info.role == "leader").max_by_key(|info| info.term)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Figures of a server in this role and term.
    pub fn info(node_id: u64, role: &str, term: u64) -> Info {
        Info {
            node_id,
            role: role.to_string(),
            term,
            leader: None,
            commit_index: 9,
            applied_index: 8,
            last_index: 10,
            trimmed_index: 3,
            log_bytes: 4096,
            sessions: 2,
            waiting: 0,
        }
    }

    const TEXT: &str = "# Raft\r\nraft_node_id:2\r\nraft_role:follower\r\nraft_term:7\r\nraft_leader:1\r\nraft_commit_index:9\r\n\
        raft_applied_index:8\r\nraft_last_index:10\r\nraft_trimmed_index:3\r\nraft_log_bytes:4096\r\nraft_sessions:2\r\nraft_waiting:0\r\n";

    #[test]
    fn an_info_is_read_by_its_names() {
        assert_eq!(parse(TEXT).unwrap(), Info { leader: Some(1), ..info(2, "follower", 7) });
        assert_eq!(parse(&TEXT.replace("raft_leader:1", "raft_leader:0")).unwrap().leader, None);
    }

    #[test]
    fn another_servers_info_is_told_from_ours() {
        let error = parse("# Server\r\nredis_version:7.0.0\r\n").unwrap_err();
        assert_eq!(error.to_string(), "not a Pontoon server: its INFO lacks raft_node_id");
        assert!(parse(&TEXT.replace("raft_term:7", "raft_term:x")).is_err());
    }

    #[test]
    fn of_two_leaders_the_one_of_the_later_term_leads() {
        let infos = [info(1, "leader", 3), info(2, "leader", 4), info(3, "follower", 5)];
        assert_eq!(leader(&infos).map(|info| info.node_id), Some(2));
        assert_eq!(leader(&infos[2..]), None);
    }
}
