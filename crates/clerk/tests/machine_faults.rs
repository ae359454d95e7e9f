//! The machine against servers and a network that do everything wrong that they may: what it tells its callers is true.
//!
//! The servers are a model of the exactly-once rules (sessions, windows, recorded replies). Copies of a request may be
//! executed now, much later, or never, whatever the sender was told that does not say otherwise.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pontoon_clerk::{
    ClerkError,
    machine::{CallId, ConnectionId, Input, Machine, Output, Request, Settings},
};
use pontoon_wire::resp::{Parsed, RequestLimits, RequestParser, Value};

const WINDOW: u64 = 8;

#[test]
fn every_outcome_is_true_and_comes_in_time() {
    let seeds = match std::env::var("CLERK_SEED") {
        Ok(seed) => seed.parse().map(|seed: u64| seed..seed + 1).expect("CLERK_SEED is a number"),
        Err(_) => 0..400,
    };
    let mut seen = Seen::default();
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| World::new(seed).run());
        match std::panic::catch_unwind(run) {
            Ok(world) => seen.add(world),
            Err(panic) => {
                std::panic::panic_any(format!("CLERK_SEED={seed}: {:?}", panic.downcast_ref::<String>()));
            }
        }
    }
    // A world in which nothing went wrong would prove nothing.
    if std::env::var("CLERK_SEED").is_err() {
        assert!(seen.results > 1000 && seen.unknown > 100 && seen.not_executed > 100, "{seen:?}");
        assert!(seen.unknown_executed > 10 && seen.unknown_not_executed > 10, "{seen:?}");
        assert!(seen.joined > 100 && seen.stale > 10 && seen.expired > 10, "{seen:?}");
    }
}

#[derive(Debug, Default)]
struct Seen {
    results: u64,
    unknown: u64,
    unknown_executed: u64,
    unknown_not_executed: u64,
    not_executed: u64,
    joined: u64,
    stale: u64,
    expired: u64,
}

impl Seen {
    fn add(&mut self, world: World) {
        for (call, outcome) in &world.outcomes {
            let executed = world.cluster.executed.get(call).copied().unwrap_or_default();
            match outcome {
                Ok(_) => self.results += 1,
                Err(ClerkError::Unknown { .. }) => {
                    self.unknown += 1;
                    self.unknown_executed += executed;
                    self.unknown_not_executed += 1 - executed;
                }
                Err(_) => self.not_executed += 1,
            }
        }
        self.joined += world.cluster.joined;
        self.stale += world.cluster.stale;
        self.expired += world.cluster.expired;
    }
}

/// What the servers agree on.
#[derive(Default)]
struct Cluster {
    sessions: BTreeMap<u64, Session>,
    next_sid: u64,
    /// How often each call was executed.
    executed: BTreeMap<u64, u64>,
    joined: u64,
    stale: u64,
    expired: u64,
}

#[derive(Default)]
struct Session {
    floor: u64,
    replies: BTreeMap<u64, i64>,
}

struct World {
    random: Random,
    machine: Machine,
    now: Duration,
    cluster: Cluster,
    /// Open connections: requests that the server has not looked at, and whether it is stuck.
    connections: BTreeMap<ConnectionId, Line>,
    /// Copies that may be executed at some time or never.
    limbo: Vec<Vec<Bytes>>,
    /// How hostile this world is, in percent.
    trouble: u64,
    deadlines: BTreeMap<u64, Duration>,
    outcomes: BTreeMap<u64, Result<Value, ClerkError>>,
}

#[derive(Default)]
struct Line {
    open: bool,
    requests: VecDeque<Vec<Bytes>>,
    silent: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let machine = Machine::new(Settings {
            servers: ["a", "b", "c"].map(String::from).to_vec(),
            inflight_max: WINDOW as usize,
            connect_timeout: Duration::from_millis(100),
            silence_max: Duration::from_millis(300),
            session_ttl: Duration::from_millis(2_000),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(100),
            seed,
        });
        let mut random = Random(seed);
        let trouble = random.below(40);
        World {
            random,
            machine,
            now: Duration::ZERO,
            cluster: Cluster::default(),
            connections: BTreeMap::new(),
            limbo: Vec::new(),
            trouble,
            deadlines: BTreeMap::new(),
            outcomes: BTreeMap::new(),
        }
    }

    fn run(mut self) -> World {
        let calls = 60;
        let mut next = 1;
        while self.outcomes.len() < calls as usize {
            self.now += Duration::from_millis(1);
            if next <= calls && self.random.below(8) == 0 {
                for _ in 0..1 + self.random.below(4).min(calls - next) {
                    self.submit(next);
                    next += 1;
                }
            }
            if self.machine.wake_at().is_some_and(|at| at <= self.now) {
                self.step(Input::Tick);
            }
            self.network();
            self.late_copies(50);
            if self.random.below(3000) < self.trouble {
                self.cluster.sessions.clear();
            }
            for (call, deadline) in &self.deadlines {
                let told = self.outcomes.contains_key(call);
                assert!(told || self.now <= *deadline + Duration::from_millis(2), "call {call} hangs");
            }
        }
        // Whatever may still be executed is.
        while !self.limbo.is_empty() {
            self.late_copies(1);
        }
        for (call, outcome) in &self.outcomes {
            let executed = self.cluster.executed.get(call).copied().unwrap_or_default();
            match outcome {
                Ok(value) => {
                    assert_eq!(executed, 1, "call {call} has a result");
                    assert_eq!(value, &Value::Integer(call.cast_signed()), "and it is its own");
                }
                Err(ClerkError::Unknown { .. }) => {
                    assert!(executed <= 1, "call {call} was executed {executed} times")
                }
                Err(error) => assert_eq!(executed, 0, "call {call}: {error}"),
            }
        }
        self
    }

    fn submit(&mut self, call: u64) {
        let deadline = self.now + Duration::from_millis(20 + self.random.below(3_000));
        self.deadlines.insert(call, deadline);
        let command: Arc<[Bytes]> = [Bytes::from("APPEND"), Bytes::from(call.to_string())].into();
        self.step(Input::Submit { call: CallId(call), request: Request::Write(command), deadline });
    }

    fn step(&mut self, input: Input) {
        self.machine.step(self.now, input);
        for output in self.machine.outputs() {
            match output {
                Output::Connect { connection, .. } => {
                    self.connections.insert(connection, Line::default());
                }
                Output::Disconnect(connection) => self.cut(connection),
                Output::Send { connection, sending } => {
                    let mut bytes = BytesMut::new();
                    sending.encode(&mut bytes);
                    let parsed = RequestParser::new(RequestLimits::default()).parse(&mut bytes);
                    let Ok(Some(Parsed::Request(words))) = parsed else { panic!("{parsed:?}") };
                    if let Some(line) = self.connections.get_mut(&connection) {
                        line.requests.push_back(words);
                    }
                }
                Output::Finish { call, outcome } => {
                    assert!(
                        self.outcomes.insert(call.0, outcome).is_none(),
                        "call {} has two outcomes",
                        call.0
                    );
                }
                Output::Closed => panic!("nobody closed it"),
            }
        }
    }

    /// The connection ends here; what was on its way may arrive or not.
    fn cut(&mut self, connection: ConnectionId) {
        if let Some(line) = self.connections.remove(&connection) {
            self.limbo.extend(line.requests.into_iter().filter(|words| words[0] == "ONCE"));
        }
    }

    fn network(&mut self) {
        let connections: Vec<ConnectionId> = self.connections.keys().copied().collect();
        for connection in connections {
            let trouble = self.random.below(100) < self.trouble;
            let Some(line) = self.connections.get_mut(&connection) else { continue };
            if !line.open {
                match self.random.below(10) {
                    0 if trouble => {
                        self.cut(connection);
                        self.step(Input::Lost(connection, "refused".to_string()));
                    }
                    0 => {
                        line.open = true;
                        self.step(Input::Connected(connection));
                    }
                    _ => {}
                }
                continue;
            }
            if trouble && self.random.below(40) == 0 {
                line.silent = true;
            }
            if trouble && self.random.below(40) == 0 {
                self.cut(connection);
                self.step(Input::Lost(connection, "reset".to_string()));
                continue;
            }
            if !line.silent
                && self.random.below(3) == 0
                && let Some(words) = line.requests.pop_front()
            {
                self.serve(connection, words, trouble);
            }
        }
    }

    /// A server looks at a request.
    fn serve(&mut self, connection: ConnectionId, words: Vec<Bytes>, trouble: bool) {
        let error = |text: &'static str| Value::Error(text.into());
        let reply = match self.random.below(8) {
            0 if trouble => error("NOTREADY no majority"),
            1 if trouble => error("BUSY"),
            2 | 3 if trouble => {
                self.limbo.extend((words[0] == "ONCE").then_some(words));
                error("UNKNOWN timed out")
            }
            4 if trouble => {
                // Executed, and the reply is lost with the connection.
                self.cluster.execute(&words);
                self.cut(connection);
                return self.step(Input::Lost(connection, "reset".to_string()));
            }
            _ => self.cluster.execute(&words),
        };
        self.step(Input::Reply(connection, reply));
    }

    /// Some of the copies in limbo are executed, in any order; others are lost.
    fn late_copies(&mut self, one_in: u64) {
        if !self.limbo.is_empty() && self.random.below(one_in) == 0 {
            let at = self.random.below(self.limbo.len() as u64) as usize;
            let words = self.limbo.swap_remove(at);
            if self.random.below(4) > 0 {
                self.cluster.execute(&words);
            }
            // A network may also deliver it twice.
            if self.random.below(8) == 0 {
                self.limbo.push(words);
            }
        }
    }
}

impl Cluster {
    fn execute(&mut self, words: &[Bytes]) -> Value {
        let words: Vec<&str> = words.iter().map(|word| std::str::from_utf8(word).expect("text")).collect();
        let number = |word: &str| word.parse::<u64>().expect("a number");
        match words[..] {
            ["SESSION", "OPEN"] => {
                self.next_sid += 1;
                self.sessions.insert(self.next_sid, Session::default());
                Value::Integer(self.next_sid.cast_signed())
            }
            ["SESSION", "KEEPALIVE", sid] if self.sessions.contains_key(&number(sid)) => Value::OK,
            ["SESSION", ..] => Value::Error("SESSIONEXPIRED".into()),
            ["ONCE", sid, seq, ack, "APPEND", call] => {
                let (sid, seq, ack, call) = (number(sid), number(seq), number(ack), number(call));
                assert!(
                    ack >= 1 && ack <= seq && seq < ack + WINDOW,
                    "seq {seq} is outside of the window from {ack}"
                );
                let Some(session) = self.sessions.get_mut(&sid) else {
                    self.expired += 1;
                    return Value::Error("SESSIONEXPIRED".into());
                };
                if seq < session.floor {
                    self.stale += 1;
                    return Value::Error("STALE".into());
                }
                let reply = match session.replies.get(&seq) {
                    Some(&recorded) => {
                        self.joined += 1;
                        recorded
                    }
                    None => {
                        *self.executed.entry(call).or_default() += 1;
                        session.replies.insert(seq, call.cast_signed());
                        call.cast_signed()
                    }
                };
                session.floor = session.floor.max(ack);
                session.replies = session.replies.split_off(&session.floor);
                Value::Integer(reply)
            }
            _ => panic!("the machine sent {words:?}"),
        }
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn one_seed_decides_the_same_every_time() {
    let lines = |world: World| -> BTreeSet<String> {
        world.outcomes.iter().map(|(call, outcome)| format!("{call} {outcome:?}")).collect()
    };
    assert_eq!(lines(World::new(7).run()), lines(World::new(7).run()));
}
