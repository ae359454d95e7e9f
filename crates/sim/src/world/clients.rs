//! Clients: what they ask and when, and how their requests and replies travel.

use bytes::Bytes;
use pontoon_kv::{Command, NodeId, Reply};
use pontoon_replica::{Answer, Input, Request, Ticket};

use super::{ClientId, Server, World, event::Event, network::Fate, node};
use crate::{
    check::Violation,
    client::{Act, Attempt, Caller, Ending, Op},
    history::command,
    linearizability::Action,
    rng::Rng,
    time::SECOND,
};

/// Operations from here on are on no record: no history tells of them.
const OFF_RECORD: Op = 1 << 32;

/// Stands for whoever asks past all clients.
const BARE: ClientId = ClientId::MAX;

/// Stands for whoever asks and does not care for the answer.
pub(super) const NOISE: ClientId = ClientId::MAX - 1;

/// Who waits for a ticket's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) client: ClientId,
    pub(crate) attempt: Attempt,
    /// The client was told long ago that it failed.
    pub(crate) late: bool,
}

/// Which keys a client uses, each named `<prefix><number>`.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Its own, named by the client's number.
    Own(String),
    /// Any of so many, shared with the other clients.
    Shared(String, u64),
}

/// What a client asks when left to itself.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Of these keys.
    pub keys: Keys,
    /// Requests in flight at once.
    pub in_flight: usize,
    /// Pause between requests, in microseconds, from and to.
    pub think_us: (u64, u64),
    /// Shares of appends, puts and deletes, in percent; the rest are gets.
    pub appends: u64,
    /// See `appends`.
    pub puts: u64,
    /// See `appends`.
    pub deletes: u64,
    /// Values are padded by up to so many bytes now and then.
    pub padding_bytes_max: u64,
    /// Now and then any other request is thrown at a server, its answer ignored.
    pub noise: bool,
}

/// A client of the world.
#[derive(Debug)]
pub(crate) struct Client {
    caller: Box<dyn Caller>,
    rng: Rng,
    workload: Option<Workload>,
    in_flight: usize,
    /// Tokens written so far: each is unique.
    tokens: u64,
    /// How operations ended, by place in the history, for who asked by hand.
    endings: std::collections::BTreeMap<Op, Ending>,
}

impl World {
    /// A client. With a workload it asks on its own from now on.
    pub fn add_client(
        &mut self,
        workload: Option<Workload>,
        caller: impl FnOnce(Rng) -> Box<dyn Caller>,
    ) -> ClientId {
        let caller = caller(self.rng.fork());
        let rng = self.rng.fork();
        let active = workload.is_some();
        self.clients.push(Client {
            caller,
            rng,
            workload,
            in_flight: 0,
            tokens: 0,
            endings: Default::default(),
        });
        let id = self.clients.len() - 1;
        if active {
            self.after(0, Event::Think(id));
        }
        id
    }

    /// Replaces a client's workload; none: it asks nothing more on its own.
    pub fn set_workload(&mut self, client: ClientId, workload: Option<Workload>) {
        let idle = self.clients[client].workload.is_none();
        self.clients[client].workload = workload;
        if idle && self.clients[client].workload.is_some() {
            self.after(0, Event::Think(client));
        }
    }

    /// No client asks anything more on its own.
    pub fn quiet_clients(&mut self) {
        self.clients.iter_mut().for_each(|client| client.workload = None);
    }

    /// A client asks these servers from now on.
    pub fn set_servers(&mut self, client: ClientId, servers: Vec<Server>) {
        self.clients[client].caller.set_servers(servers);
    }

    /// How many operations are under way.
    pub fn in_flight(&self) -> usize {
        self.clients.iter().map(|client| client.in_flight).sum()
    }

    /// A client asks something. Its ending is told by [`World::ending`].
    pub fn call(&mut self, client: ClientId, key: &Bytes, action: Action) -> Op {
        let op = self.history.call(client as u64, key.clone(), action.clone());
        self.ask_op(client, op, command(key, &action));
        op
    }

    /// As [`World::call`], for what no history tells of.
    pub fn submit(&mut self, client: ClientId, command: Command) -> Op {
        let op = OFF_RECORD + self.submitted;
        self.submitted += 1;
        self.ask_op(client, op, command);
        op
    }

    fn ask_op(&mut self, client: ClientId, op: Op, command: Command) {
        self.trace.line(self.now, format_args!("c{client} calls {op}: {command:?}"));
        let asking = &mut self.clients[client];
        asking.in_flight += 1;
        asking.caller.call(self.now, op, command);
        self.act(client);
    }

    /// How an operation ended, if it has.
    pub fn ending(&self, client: ClientId, op: Op) -> Option<&Ending> {
        self.clients[client].endings.get(&op)
    }

    pub(super) fn on_wake(&mut self, client: ClientId) {
        self.clients[client].caller.on_wake(self.now);
        self.act(client);
    }

    pub(super) fn on_think(&mut self, id: ClientId) {
        let client = &mut self.clients[id];
        let Some(workload) = client.workload.clone() else { return };
        let again = client.rng.within(workload.think_us);
        if client.in_flight < workload.in_flight {
            let key = match &workload.keys {
                Keys::Own(prefix) => format!("{prefix}{id}"),
                Keys::Shared(prefix, keys) => format!("{prefix}{}", client.rng.below(*keys)),
            };
            let key = Bytes::from(key);
            let action = client.next_action(id, &workload);
            self.call(id, &key, action);
        }
        if workload.noise && self.rng.chance(0.05) {
            self.make_noise();
        }
        self.after(again.max(1), Event::Think(id));
    }

    pub(super) fn on_reply(&mut self, client: ClientId, attempt: Attempt, answer: Option<Answer>) {
        if client == NOISE {
            return;
        }
        if client == BARE {
            self.bare_answers[attempt as usize] = answer;
            return;
        }
        self.trace.line(self.now, format_args!("c{client} hears of attempt {attempt}: {answer:?}"));
        self.clients[client].caller.on_answer(self.now, attempt, answer);
        self.act(client);
    }

    fn act(&mut self, id: ClientId) {
        while let Some(act) = self.clients[id].caller.poll() {
            match act {
                Act::WakeAt(at) => self.queue.push(at.max(self.now), Event::Wake(id)),
                Act::Send { server, attempt, request } => self.ask(id, server, attempt, request),
                Act::End(op, ending) => {
                    self.trace.line(self.now, format_args!("c{id} ends {op}: {ending:?}"));
                    if op < OFF_RECORD {
                        self.history.end(op, &ending);
                    }
                    self.counts.operations += 1;
                    self.counts.unknown += u64::from(ending == Ending::Unknown);
                    let client = &mut self.clients[id];
                    client.in_flight -= 1;
                    if client.workload.is_none() {
                        client.endings.insert(op, ending);
                    }
                }
            }
        }
    }

    fn ask(&mut self, client: ClientId, server: Server, attempt: Attempt, request: Request) {
        match self.network.request() {
            Fate::Arrives { after } => {
                self.after(after, Event::Request { server, client, attempt, request, late: false });
            }
            Fate::Fails { after, late } => {
                self.after(after, Event::Reply { client, attempt, answer: None });
                if let Some(late) = late {
                    self.after(late, Event::Request { server, client, attempt, request, late: true });
                }
            }
        }
    }

    pub(super) fn on_request(
        &mut self,
        server: Server,
        client: ClientId,
        attempt: Attempt,
        request: Request,
        late: bool,
    ) {
        let waiting = Waiting { client, attempt, late };
        if let Some(held) = &mut self.servers[server].paused {
            return held.push(Event::Request { server, client, attempt, request, late });
        }
        if self.servers[server].life.is_none() {
            return self.fail(waiting);
        }
        self.trace.line(self.now, format_args!("n{} is asked by c{client}: {request:?}", node(server)));
        let life = self.servers[server].life();
        let ticket = life.next_ticket;
        life.next_ticket += 1;
        #[cfg(feature = "mutants")]
        if self.asked_wrongly(server, ticket, waiting, &request) {
            return;
        }
        let life = self.servers[server].life();
        // An answer to a late request finds an attempt that nobody waits for any more.
        life.tickets.insert(ticket, waiting);
        self.input(server, Input::Request(Ticket(ticket), request));
    }

    pub(super) fn reply(&mut self, server: Server, waiting: Waiting, answer: Answer) {
        self.trace.line(self.now, format_args!("n{} answers c{}: {answer:?}", node(server), waiting.client));
        let (after, arrives) = self.network.reply();
        let answer = arrives.then_some(answer);
        self.after(after, Event::Reply { client: waiting.client, attempt: waiting.attempt, answer });
    }

    /// A client hears that its server is gone.
    pub(super) fn fail(&mut self, waiting: Waiting) {
        if waiting.late {
            return;
        }
        let after = self.network.failure_after();
        self.after(after, Event::Reply { client: waiting.client, attempt: waiting.attempt, answer: None });
    }

    /// Asks a server past all clients and their network, and lets things happen until it answers, for a minute at most.
    ///
    /// # Errors
    ///
    /// A property was violated, or there was no answer.
    pub fn ask_server(&mut self, server: Server, request: Request) -> Result<Answer, Violation> {
        let attempt = self.bare_answers.len() as u64;
        self.bare_answers.push(None);
        self.on_request(server, BARE, attempt, request, false);
        self.run_while(60 * SECOND, |world| world.bare_answers[attempt as usize].is_none())?;
        let answer = self.bare_answers[attempt as usize].take();
        answer.ok_or_else(|| Violation::new("a request is answered", format!("server {server} does not")))
    }

    /// Asks and lets things happen until there is an answer, for a minute at most.
    ///
    /// # Errors
    ///
    /// A property was violated, or there was no reply.
    pub fn ask_for(&mut self, client: ClientId, key: &str, action: Action) -> Result<Reply, Violation> {
        let op = self.call(client, &Bytes::copy_from_slice(key.as_bytes()), action);
        self.run_while(60 * SECOND, |world| world.ending(client, op).is_none())?;
        match self.ending(client, op) {
            Some(Ending::Reply(reply)) => Ok(reply.clone()),
            other => Err(Violation::new(
                "a request is answered",
                format!("operation {op} on {key} by c{client} came to {other:?}"),
            )),
        }
    }

    /// Who leads, as far as the member of the highest term knows.
    pub fn leader(&self) -> Option<Server> {
        let known = (0..self.len()).filter_map(|server| self.status(server));
        let latest = known.filter(|status| status.leader.is_some()).max_by_key(|status| status.term)?;
        latest.leader.map(|NodeId(id)| id as usize - 1)
    }
}

impl Client {
    fn next_action(&mut self, id: ClientId, workload: &Workload) -> Action {
        let drawn = self.rng.below(100);
        let token = self.tokens + 1;
        let padding =
            if self.rng.chance(0.1) { self.rng.below(workload.padding_bytes_max + 1) as usize } else { 0 };
        let value = |kind: char| Bytes::from(format!("{kind}{id}.{token}{:-<padding$};", ""));
        let (puts, deletes) =
            (workload.appends + workload.puts, workload.appends + workload.puts + workload.deletes);
        let action = match drawn {
            _ if drawn < workload.appends => Action::Append(value('a')),
            _ if drawn < puts => Action::Put(value('p')),
            _ if drawn < deletes => Action::Delete,
            _ => Action::Get,
        };
        self.tokens += u64::from(action.written().is_some());
        action
    }
}
