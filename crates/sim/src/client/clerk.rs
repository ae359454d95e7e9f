//! The Clerk's real decisions ([`pontoon_clerk::machine`]), on the simulator's network. Requests and replies pass through their
//! bytes, and replies come in the order of the requests, as on a connection.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pontoon_clerk::{
    ClerkError,
    machine::{CallId, ConnectionId, Input, Machine, Output, Request as ClerkRequest, Sending, Settings},
};
use pontoon_kv::{Command, Refusal, Reply, Seq, SessionId, SetCondition};
use pontoon_replica::{Answer, NotExecuted, Request};
use pontoon_wire::resp::{
    Parsed, Protocol, ReplyLimits, ReplyParser, RequestLimits, RequestParser, Value, encode,
};

use super::{Act, Attempt, Caller, Ending, Op};
use crate::{rng::Rng, world::Server};

/// A client that decides as the Clerk does.
#[derive(Debug)]
pub struct ClerkCaller {
    machine: Machine,
    servers: Vec<Server>,
    give_up_us: u64,
    connections: BTreeMap<ConnectionId, Connection>,
    next_attempt: Attempt,
    /// The earliest time at which it will be woken, if that is still to come.
    wakes_at: u64,
    acts: VecDeque<Act>,
}

#[derive(Debug)]
struct Connection {
    server: Server,
    /// What was asked, in order, with the replies that are here already.
    owed: VecDeque<(Attempt, Option<Value>)>,
}

impl ClerkCaller {
    /// A clerk of these servers, whose sessions expire after `session_ttl_ms`.
    pub fn new(mut rng: Rng, servers: Vec<Server>, give_up_us: u64, session_ttl_ms: u64) -> ClerkCaller {
        let settings = Settings {
            servers: servers.iter().map(|server| format!("n{}", server + 1)).collect(),
            inflight_max: rng.within((2, 256)) as usize,
            connect_timeout: Duration::from_secs(1),
            silence_max: Duration::from_secs(3),
            session_ttl: Duration::from_millis(session_ttl_ms),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(500),
            seed: rng.next(),
        };
        ClerkCaller {
            machine: Machine::new(settings),
            servers,
            give_up_us,
            connections: BTreeMap::new(),
            next_attempt: 1,
            wakes_at: 0,
            acts: VecDeque::new(),
        }
    }

    fn step(&mut self, now: u64, input: Input) {
        self.machine.step(Duration::from_micros(now), input);
        for output in self.machine.outputs() {
            match output {
                Output::Connect { connection, server } => {
                    let server = self.servers[server % self.servers.len()];
                    self.connections.insert(connection, Connection { server, owed: VecDeque::new() });
                    self.step(now, Input::Connected(connection));
                }
                Output::Disconnect(connection) => drop(self.connections.remove(&connection)),
                Output::Send { connection, sending } => self.send(connection, &sending),
                Output::Finish { call, outcome } => self.acts.push_back(Act::End(call.0, ending(outcome))),
                Output::Closed => {}
            }
        }
        if let Some(at) = self.machine.wake_at() {
            // Rounded up: a timer that is not due yet would be asked for again and again.
            let at = at.as_nanos().div_ceil(1_000) as u64;
            if self.wakes_at <= now || at < self.wakes_at {
                self.wakes_at = at;
                self.acts.push_back(Act::WakeAt(at));
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, sending: &Sending) {
        let Some(Connection { server, owed }) = self.connections.get_mut(&connection) else { return };
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        owed.push_back((attempt, None));
        self.acts.push_back(Act::Send { server: *server, attempt, request: request(sending) });
    }
}

impl Caller for ClerkCaller {
    fn call(&mut self, now: u64, op: Op, command: Command) {
        let is_read = command.is_read();
        let words: Arc<[Bytes]> = words(command).into();
        let request = if is_read { ClerkRequest::Read(words) } else { ClerkRequest::Write(words) };
        let deadline = Duration::from_micros(now + self.give_up_us);
        self.step(now, Input::Submit { call: CallId(op), request, deadline });
    }

    fn on_answer(&mut self, now: u64, attempt: Attempt, answer: Option<Answer>) {
        let owes = |connection: &Connection| connection.owed.iter().position(|owed| owed.0 == attempt);
        let found = self.connections.iter().find_map(|(id, connection)| Some((*id, owes(connection)?)));
        let Some((id, at)) = found else { return };
        let Some(answer) = answer else {
            self.connections.remove(&id);
            return self.step(now, Input::Lost(id, "the connection is lost".to_string()));
        };
        let connection = self.connections.get_mut(&id).expect("it was just found");
        connection.owed[at].1 = Some(through_bytes(&value(answer)));
        while let Some(Connection { owed, .. }) = self.connections.get_mut(&id)
            && owed.front().is_some_and(|(_, reply)| reply.is_some())
        {
            let reply = owed.pop_front().and_then(|(_, reply)| reply).expect("the first has its reply");
            self.step(now, Input::Reply(id, reply));
        }
    }

    fn on_wake(&mut self, now: u64) {
        self.step(now, Input::Tick);
    }

    fn set_servers(&mut self, servers: Vec<Server>) {
        self.servers = servers;
    }

    fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }
}

fn words(command: Command) -> Vec<Bytes> {
    let word = Bytes::from_static;
    match command {
        Command::Get { key } => vec![word(b"GET"), key],
        Command::Set { key, value, .. } => vec![word(b"SET"), key, value],
        Command::Append { key, value } => vec![word(b"APPEND"), key, value],
        Command::IncrBy { key, delta } => vec![word(b"INCRBY"), key, Bytes::from(delta.to_string())],
        Command::Del { keys } => [vec![word(b"DEL")], keys].concat(),
        other => panic!("clients of the simulator do not ask for {other:?}"),
    }
}

/// What a server makes of the bytes that are sent.
fn request(sending: &Sending) -> Request {
    let mut bytes = BytesMut::new();
    sending.encode(&mut bytes);
    let parsed = RequestParser::new(RequestLimits::default()).parse(&mut bytes);
    let Ok(Some(Parsed::Request(words))) = parsed else { panic!("{sending:?} cannot be parsed: {parsed:?}") };
    let number = |at: usize| {
        let text = std::str::from_utf8(&words[at]).expect("a number is text");
        text.parse::<u64>().expect("a number is one")
    };
    match (&words[0][..], words.get(1).map(|word| &word[..])) {
        (b"SESSION", Some(b"OPEN")) => Request::OpenSession,
        (b"SESSION", Some(b"KEEPALIVE")) => Request::KeepAliveSession(SessionId(number(2))),
        (b"SESSION", Some(b"CLOSE")) => Request::CloseSession(SessionId(number(2))),
        (b"ONCE", _) => {
            let (session, seq, ack) = (SessionId(number(1)), Seq(number(2)), Seq(number(3)));
            Request::Once { session, seq, ack, command: command(&words[4..]) }
        }
        _ => Request::Plain(command(&words)),
    }
}

fn command(words: &[Bytes]) -> Command {
    let key = words[1].clone();
    match &words[0][..] {
        b"GET" => Command::Get { key },
        b"SET" => {
            let condition = SetCondition::Always;
            Command::Set { key, value: words[2].clone(), condition, return_old: false }
        }
        b"APPEND" => Command::Append { key, value: words[2].clone() },
        b"DEL" => Command::Del { keys: words[1..].to_vec() },
        b"INCRBY" => {
            let delta = std::str::from_utf8(&words[2]).expect("a number is text");
            Command::IncrBy { key, delta: delta.parse().expect("a number is one") }
        }
        other => panic!("no client of the simulator sends {other:?}"),
    }
}

fn through_bytes(value: &Value) -> Value {
    let mut bytes = BytesMut::new();
    encode(value, Protocol::Resp2, &mut bytes);
    let parsed = ReplyParser::new(ReplyLimits::default()).parse(&mut bytes);
    parsed.expect("what was encoded can be parsed").expect("it is whole")
}

/// An answer as a server puts it; the codes are those that clients go by.
fn value(answer: Answer) -> Value {
    let error = |code: &'static str| Value::Error(code.into());
    match answer {
        Answer::Reply(Reply::Ok) | Answer::Done => Value::OK,
        Answer::Reply(Reply::Nil) => Value::Null,
        Answer::Reply(Reply::Integer(number)) => Value::Integer(number),
        Answer::Reply(Reply::Bytes(bytes)) => Value::Bulk(bytes),
        Answer::Reply(other) => panic!("no client of the simulator asks for {other:?}"),
        Answer::Opened(session) => Value::Integer(session.0 as i64),
        Answer::Unknown(_) => error("UNKNOWN it may have been executed"),
        Answer::NotExecuted(why) => error(match why {
            NotExecuted::NotReady => "NOTREADY no majority",
            NotExecuted::Busy => "BUSY too many wait",
            NotExecuted::Stopping => "STOPPING try another",
            NotExecuted::TooLarge(_) => "ERR too large",
            NotExecuted::Refused(Refusal::SessionUnknown) => "SESSIONEXPIRED open another",
            NotExecuted::Refused(Refusal::Stale) => "STALE it was given up",
            NotExecuted::Refused(Refusal::OutsideWindow) => "OUTSIDEWINDOW wait",
            NotExecuted::Refused(Refusal::TooManySessions) => "TOOMANYSESSIONS wait",
            NotExecuted::Refused(Refusal::Gap { .. }) => panic!("a gap is the server's own affair"),
        }),
    }
}

fn ending(outcome: Result<Value, ClerkError>) -> Ending {
    match outcome {
        Ok(Value::Simple(_)) => Ending::Reply(Reply::Ok),
        Ok(Value::Null) => Ending::Reply(Reply::Nil),
        Ok(Value::Integer(number)) => Ending::Reply(Reply::Integer(number)),
        Ok(Value::Bulk(bytes)) => Ending::Reply(Reply::Bytes(bytes)),
        Ok(other) => panic!("no server answers with {other:?}"),
        Err(ClerkError::NotExecuted { .. }) => Ending::NotExecuted,
        Err(ClerkError::Unknown { .. }) => Ending::Unknown,
        Err(ClerkError::Rejected(why)) => panic!("a request that is well was rejected: {why}"),
    }
}
