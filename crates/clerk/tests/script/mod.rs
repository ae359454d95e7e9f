//! A machine, its clock and its connections, with one verb for each thing that can happen to it. Each verb says what the
//! machine wants done, as lines.

#![allow(unreachable_pub)] // a module of one test

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use pontoon_clerk::{
    ClerkError,
    machine::{CallId, ConnectionId, Input, Machine, Output, Request, Sending, Settings},
};
use pontoon_wire::resp::Value;

const NAMES: [&str; 3] = ["a", "b", "c"];

pub fn settings() -> Settings {
    Settings {
        servers: NAMES.map(String::from).to_vec(),
        inflight_max: 4,
        connect_timeout: Duration::from_millis(1_000),
        silence_max: Duration::from_millis(3_000),
        session_ttl: Duration::from_millis(60_000),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(500),
        seed: 0,
    }
}

pub struct Script {
    pub machine: Machine,
    now: Duration,
    /// The latest connection to each server.
    pub connections: BTreeMap<&'static str, ConnectionId>,
}

impl Script {
    pub fn new(settings: Settings) -> Script {
        Script { machine: Machine::new(settings), now: Duration::ZERO, connections: BTreeMap::new() }
    }

    /// A clerk whose server a is connected and whose session 7 is open; call 0 did that.
    pub fn with_session() -> Script {
        let mut script = Script::new(settings());
        assert_eq!(script.write(0, "SET k 0"), ["connect a"]);
        assert_eq!(script.connected("a"), ["a < SESSION OPEN"]);
        assert_eq!(script.reply("a", Value::Integer(7)), ["a < ONCE 7 1 1 SET k 0"]);
        assert_eq!(script.reply("a", Value::OK), ["0: OK"]);
        script
    }

    pub fn write(&mut self, call: u64, command: &str) -> Vec<String> {
        self.submit(call, Request::Write(words(command)))
    }

    pub fn read(&mut self, call: u64, command: &str) -> Vec<String> {
        self.submit(call, Request::Read(words(command)))
    }

    fn submit(&mut self, call: u64, request: Request) -> Vec<String> {
        let deadline = self.now + Duration::from_secs(10);
        self.step(Input::Submit { call: CallId(call), request, deadline })
    }

    pub fn connected(&mut self, server: &str) -> Vec<String> {
        self.step(Input::Connected(self.connections[server]))
    }

    pub fn refused(&mut self, server: &str, why: &str) -> Vec<String> {
        self.step(Input::Refused(self.connections[server], why.to_string()))
    }

    pub fn lost(&mut self, server: &str) -> Vec<String> {
        self.step(Input::Lost(self.connections[server], "reset".to_string()))
    }

    pub fn reply(&mut self, server: &str, value: Value) -> Vec<String> {
        self.step(Input::Reply(self.connections[server], value))
    }

    pub fn error(&mut self, server: &str, text: &'static str) -> Vec<String> {
        self.reply(server, Value::Error(text.into()))
    }

    /// Lets so many milliseconds pass, waking the machine when it wants that.
    pub fn pass(&mut self, ms: u64) -> Vec<String> {
        let end = self.now + Duration::from_millis(ms);
        let mut outputs = Vec::new();
        while let Some(at) = self.machine.wake_at().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            outputs.extend(self.step(Input::Tick));
        }
        self.now = end;
        outputs
    }

    pub fn step(&mut self, input: Input) -> Vec<String> {
        self.machine.step(self.now, input);
        self.machine.outputs().into_iter().map(|output| self.show(output)).collect()
    }

    fn show(&mut self, output: Output) -> String {
        let name = |connection| {
            *self
                .connections
                .iter()
                .find(|(_, known)| **known == connection)
                .expect("a connection it asked for")
                .0
        };
        match output {
            Output::Connect { connection, server } => {
                self.connections.insert(NAMES[server], connection);
                format!("connect {}", NAMES[server])
            }
            Output::Disconnect(connection) => format!("disconnect {}", name(connection)),
            Output::Send { connection, sending } => format!("{} < {}", name(connection), text(&sending)),
            Output::Finish { call, outcome } => match outcome {
                Ok(Value::Simple(status)) => format!("{}: {status}", call.0),
                Ok(value) => format!("{}: {value:?}", call.0),
                Err(ClerkError::NotExecuted { .. }) => format!("{}: not executed", call.0),
                Err(ClerkError::Unknown { .. }) => format!("{}: unknown", call.0),
                Err(ClerkError::Rejected(why)) => format!("{}: rejected {why}", call.0),
            },
            Output::Closed => "closed".to_string(),
        }
    }
}

fn words(command: &str) -> Arc<[Bytes]> {
    command.split(' ').map(|word| Bytes::from(word.to_string())).collect()
}

fn text(sending: &Sending) -> String {
    let mut bytes = bytes::BytesMut::new();
    sending.encode(&mut bytes);
    let text = String::from_utf8(bytes.to_vec()).expect("the scripts are text");
    // Every second line of an array of bulk strings is a length.
    text.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")
}
