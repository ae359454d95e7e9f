//! Performs what the machine decides: one task for the machine, one for each connection.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pontoon_wire::resp::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    ClerkError, ClerkOptions,
    connection::{self, Event},
    machine::{CallId, ConnectionId, Input, Machine, Output, Request, Settings},
};

/// What a handle asks of the driver.
#[derive(Debug)]
pub(crate) enum Job {
    Call { request: Request, deadline: Instant, answer: oneshot::Sender<Result<Value, ClerkError>> },
    Close(oneshot::Sender<()>),
}

/// Jobs and events that are taken in before anything is sent: what comes together goes together.
const TURN_MAX: usize = 256;

/// Packets of replies that wait for the driver, over all connections.
const EVENTS_MAX: usize = 64;

/// Serves the handles until the last of them is gone or one asks to close.
pub(crate) async fn run(options: ClerkOptions, mut jobs: mpsc::Receiver<Job>) {
    let (events, mut event_queue) = mpsc::channel(EVENTS_MAX);
    let mut driver = Driver::new(options, events);
    let mut jobs_open = true;
    while !driver.closed {
        // Without a timer it sleeps until something happens, an hour at most.
        let wake_at = driver.start + driver.machine.wake_at().unwrap_or(driver.start.elapsed() + HOUR);
        tokio::select! {
            job = jobs.recv(), if jobs_open => match job {
                Some(job) => driver.job(job),
                None => {
                    jobs_open = false;
                    driver.step(Input::Close);
                }
            },
            Some((connection, event)) = event_queue.recv() => driver.event(connection, event),
            () = sleep_until(wake_at) => driver.step(Input::Tick),
        }
        for _ in 0..TURN_MAX {
            let (job, event) = (jobs.try_recv().ok(), event_queue.try_recv().ok());
            if job.is_none() && event.is_none() {
                break;
            }
            job.into_iter().for_each(|job| driver.job(job));
            event.into_iter().for_each(|(connection, event)| driver.event(connection, event));
        }
        driver.flush();
    }
    driver.end();
    // From now on a send fails at its sender. What was sent before that is told here.
    jobs.close();
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Call { answer, .. } => {
                // A caller that has gone needs no outcome.
                let _ = answer.send(Err(ClerkError::NotExecuted { why: "the clerk is closed".to_string() }));
            }
            Job::Close(done) => drop(done),
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

struct Driver {
    machine: Machine,
    options: Arc<ClerkOptions>,
    /// The zero of the machine's clock.
    start: Instant,
    next_call: u64,
    calls: HashMap<CallId, oneshot::Sender<Result<Value, ClerkError>>>,
    connections: BTreeMap<ConnectionId, Connection>,
    events: mpsc::Sender<(ConnectionId, Event)>,
    closers: Vec<oneshot::Sender<()>>,
    closed: bool,
}

/// A connection's task; it ends with this.
struct Connection {
    /// Requests of this turn.
    unsent: BytesMut,
    /// Bounded by the calls in flight, each of which is in it once.
    packets: mpsc::UnboundedSender<Bytes>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Driver {
    fn new(options: ClerkOptions, events: mpsc::Sender<(ConnectionId, Event)>) -> Driver {
        let machine = Machine::new(Settings {
            servers: options.servers.clone(),
            inflight_max: options.inflight_max,
            connect_timeout: options.connect_timeout,
            silence_max: options.silence_max,
            session_ttl: options.session_ttl,
            backoff_min: options.backoff_min,
            backoff_max: options.backoff_max,
            // Without randomness clerks still work; they only retry more in step.
            seed: getrandom::u64().unwrap_or_default(),
        });
        Driver {
            machine,
            options: Arc::new(options),
            start: Instant::now(),
            next_call: 1,
            calls: HashMap::new(),
            connections: BTreeMap::new(),
            events,
            closers: Vec::new(),
            closed: false,
        }
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Call { request, deadline, answer } => {
                let call = CallId(self.next_call);
                self.next_call += 1;
                self.calls.insert(call, answer);
                let deadline = deadline.saturating_duration_since(self.start);
                self.step(Input::Submit { call, request, deadline });
            }
            Job::Close(done) => {
                self.closers.push(done);
                self.step(Input::Close);
            }
        }
    }

    fn event(&mut self, connection: ConnectionId, event: Event) {
        match event {
            Event::Connected => self.step(Input::Connected(connection)),
            Event::Refused(why) => self.step(Input::Refused(connection, why)),
            Event::Replies(values) => {
                values.into_iter().for_each(|value| self.step(Input::Reply(connection, value)));
            }
            Event::Lost(why) => {
                self.connections.remove(&connection);
                self.step(Input::Lost(connection, why));
            }
        }
    }

    fn step(&mut self, input: Input) {
        self.machine.step(self.start.elapsed(), input);
        for output in self.machine.outputs() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { connection, server } => {
                let (packets, queue) = mpsc::unbounded_channel();
                let options = self.options.clone();
                let task =
                    tokio::spawn(connection::run(options, server, connection, queue, self.events.clone()));
                self.connections.insert(connection, Connection { unsent: BytesMut::new(), packets, task });
            }
            Output::Disconnect(connection) => {
                self.connections.remove(&connection);
            }
            Output::Send { connection, sending } => {
                // If it is gone, the machine is about to hear that.
                if let Some(connection) = self.connections.get_mut(&connection) {
                    sending.encode(&mut connection.unsent);
                }
            }
            Output::Finish { call, outcome } => {
                if let Some(answer) = self.calls.remove(&call) {
                    // A caller that has gone needs no outcome.
                    let _ = answer.send(outcome);
                }
            }
            Output::Closed => self.closed = true,
        }
    }

    /// Hands each connection what this turn brought.
    fn flush(&mut self) {
        for connection in self.connections.values_mut() {
            if !connection.unsent.is_empty() {
                // A task that has ended has said so in an event that is on its way.
                let _ = connection.packets.send(connection.unsent.split().freeze());
            }
        }
    }

    fn end(&mut self) {
        self.connections.clear();
        for done in self.closers.drain(..) {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }
}
