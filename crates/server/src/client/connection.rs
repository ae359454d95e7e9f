//! One client's connection: bytes in, batches to the core, replies out.
//!
//! A turn reads what there is, parses and submits all of it, and writes whatever replies are due; then it waits for the socket or
//! for the core, whichever comes first. All memory of a connection is bounded: while its pipeline has no room, its socket is not
//! read, which in the end stops the client.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use pontoon_kv::{Command, Limits, limits::COMMAND_PARTS_MAX};
use pontoon_replica::{Answer, NotExecuted, Request};
use pontoon_wire::resp::{Parsed, RequestLimits, RequestParser, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::Instant,
};

use super::{
    caller::Caller,
    command::{self, Action, Reject},
    memory::Part,
    order::Access,
    pipeline::Pipeline,
    reply,
    service::{DigestFuture, Service},
};
use crate::{
    buffer,
    gateway::{Answers, Port, SubmitError},
    network::Desk,
    room::{Place, PlaceFuture, Room},
};

/// A client that has left replies untaken for so long, while there is no room for more, is closed.
const STALL_MAX: Duration = Duration::from_secs(60);

/// A read asks for at least so many bytes...
const READ_BYTES_MIN: usize = 4 << 10;
/// ...and for up to so many when there is more to read.
const READ_BYTES_MAX: usize = 256 << 10;

/// An output buffer that had to grow beyond this is not kept.
const OUTPUT_BYTES_KEPT_MAX: usize = 64 << 10;

/// What the framing, the name and the options of one command, or the framing of one key, may take on the wire.
const FRAMING_BYTES_MAX: u64 = 128;

/// Serves a client until it leaves, breaks the protocol, or `stop` turns true and what is in flight is answered.
pub(crate) async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    service: &Service,
    desk: &Arc<Desk>,
    stop: watch::Receiver<bool>,
) {
    let mut connection = Connection::new(service, desk, address);
    match connection.run(&mut stream, stop).await {
        Ok(()) => {}
        // The only errors of this kind are our own.
        Err(error) if error.kind() == io::ErrorKind::Other => {
            tracing::warn!(%address, %error, "client connection closed");
        }
        Err(error) => tracing::debug!(%address, %error, "client connection lost"),
    }
}

struct Connection<'a> {
    service: &'a Service,
    caller: Caller,
    port: Port,
    answers: Answers,
    parser: RequestParser,
    input: BytesMut,
    /// How much the next read asks for.
    read_bytes: usize,
    /// Replies that the socket has not taken yet.
    output: BytesMut,
    /// When the socket last took something, or had nothing to take.
    output_moved: Instant,
    pipeline: Pipeline,
    memory: Part<'a>,
    /// The next request, which must wait for earlier ones, or for its place.
    held: Option<Held>,
    /// The place that the next request waits for.
    entering: Option<PlaceFuture>,
    /// The place of the next request.
    place: Option<Place>,
    /// A `DEBUG DIGEST` under way, and its request's number.
    digest: Option<(u32, DigestFuture)>,
    /// The server is stopping: what was read is refused, and nothing more is read.
    stopping: bool,
    /// No request follows. Replies still leave.
    ending: bool,
}

/// A request on its way to the core, with its number and, if it needs one, its place.
type Submitted = (u32, Request, Option<Place>);

enum Held {
    Request(Request, Access),
    Digest,
}

impl<'a> Connection<'a> {
    fn new(service: &'a Service, desk: &Arc<Desk>, address: SocketAddr) -> Connection<'a> {
        let (port, answers) = service.gateway.open(desk);
        let caller = Caller::new(port.id(), address, service.settings.password.as_deref());
        let limits = request_limits(&service.settings.cluster.limits, caller.authenticated);
        Connection {
            service,
            caller,
            port,
            answers,
            parser: RequestParser::new(limits),
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            output: BytesMut::new(),
            output_moved: Instant::now(),
            pipeline: Pipeline::new(),
            memory: service.memory.open(),
            held: None,
            entering: None,
            place: None,
            digest: None,
            stopping: false,
            ending: false,
        }
    }

    async fn run(&mut self, stream: &mut TcpStream, stop: watch::Receiver<bool>) -> io::Result<()> {
        let (mut reader, mut writer) = stream.split();
        let stopped = stopped(stop);
        tokio::pin!(stopped);
        loop {
            let wants_bytes = self.turn();
            self.memory.set(self.bytes()).map_err(io::Error::other)?;
            if self.is_finished() {
                return writer.shutdown().await;
            }
            if wants_bytes {
                self.make_room();
            }
            let stalled_at =
                self.pipeline.replies_full(self.output.len()).then(|| self.output_moved + STALL_MAX);
            tokio::select! {
                biased;
                written = writer.write(&self.output), if !self.output.is_empty() => self.on_written(written?)?,
                Some(answers) = self.answers.recv(), if self.pipeline.is_waiting() => self.on_answers(answers),
                read = reader.read_buf(&mut self.input), if wants_bytes => self.on_read(read?),
                place = pending_place(&mut self.entering) => self.on_place(place),
                digest = pending_digest(&mut self.digest) => self.on_digest(digest),
                () = pending_until(stalled_at) => return Err(io::Error::other("the client has taken no replies for a minute")),
                () = &mut stopped, if !self.stopping => self.stopping = true,
            }
        }
    }

    /// What it holds in memory.
    fn bytes(&self) -> usize {
        let held = match &self.held {
            Some(Held::Request(request, _)) => request.command().map_or(0, Command::bytes),
            Some(Held::Digest) | None => 0,
        };
        self.input.len() + self.output.len() + self.pipeline.bytes() + held as usize
    }

    /// Nothing comes in any more and all that is due has left.
    fn is_finished(&self) -> bool {
        self.ending && self.pipeline.is_empty() && self.output.is_empty()
    }

    fn on_written(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        buffer::written(&mut self.output, bytes, OUTPUT_BYTES_KEPT_MAX);
        self.output_moved = Instant::now();
        Ok(())
    }

    /// All answers that have come by now leave with one write.
    fn on_answers(&mut self, mut answers: Vec<(u32, Answer)>) {
        loop {
            for (number, answer) in answers {
                self.pipeline.answer(number, answer);
            }
            match self.answers.try_recv() {
                Ok(more) => answers = more,
                Err(_) => return,
            }
        }
    }

    fn on_read(&mut self, bytes: usize) {
        // All requests before it were taken in, or no bytes would have been wanted.
        if bytes == 0 {
            self.ending = true;
        }
        let filled = self.input.len() == self.input.capacity();
        let next = if filled { self.read_bytes * 2 } else { bytes.next_power_of_two() };
        self.read_bytes = next.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
    }

    fn on_place(&mut self, place: Option<Place>) {
        self.entering = None;
        self.place = place;
        if self.place.is_none() {
            self.held = None;
            self.complete(reply::answer(Answer::NotExecuted(NotExecuted::Busy)));
        }
    }

    fn on_digest(&mut self, (number, digest): (u32, Result<String, String>)) {
        self.digest = None;
        let reply = match digest {
            Ok(hash) => Value::Simple(hash.into()),
            Err(why) => reply::error(format_args!("ERR {why}")),
        };
        self.pipeline.finish(number, reply);
    }

    /// Takes in all requests that are here and have room, and moves replies to the output. True: more bytes are wanted.
    fn turn(&mut self) -> bool {
        let mut batch = Vec::new();
        let mut wants_bytes = false;
        let mut commands = 0;
        // What has its place must not keep it from others until the client takes replies.
        while !self.ending
            && self.digest.is_none()
            && (self.place.is_some() || self.pipeline.has_room(self.output.len()))
        {
            if let Some(held) = self.held.take() {
                if !self.admit(held, &mut batch) {
                    break;
                }
                continue;
            }
            let input_bytes = self.input.len();
            match self.parser.parse(&mut self.input) {
                Ok(Some(parsed)) => {
                    commands += 1;
                    if input_bytes - self.input.len() > READ_BYTES_MAX {
                        // The buffer goes with the long request; its end would keep all of it.
                        self.input = BytesMut::from(&self.input[..]);
                    }
                    self.on_request(parsed);
                }
                Ok(None) if self.stopping => self.ending = true,
                Ok(None) => {
                    wants_bytes = true;
                    break;
                }
                Err(error) => {
                    self.complete(reply::error(format_args!("ERR {error}")));
                    self.ending = true;
                }
            }
        }
        if commands > 0 {
            self.service.counters.commands.fetch_add(commands, Ordering::Relaxed);
        }
        self.submit(batch);
        if self.output.is_empty() {
            self.output_moved = Instant::now();
        }
        self.pipeline.encode(&mut self.output);
        wants_bytes
    }

    /// Answers it, or leaves it in `held` for [`Connection::admit`].
    fn on_request(&mut self, parsed: Parsed) {
        let limits = &self.service.settings.cluster.limits;
        let arguments = match parsed {
            Parsed::Request(arguments) => arguments,
            Parsed::TooLarge { bytes } => return self.complete(too_large(bytes, limits, &self.caller)),
        };
        let authenticated = self.caller.authenticated;
        let action = command::interpret(&arguments, &mut self.caller, self.service);
        if self.caller.authenticated != authenticated {
            self.parser.set_limits(request_limits(limits, self.caller.authenticated));
        }
        if self.caller.leaving {
            self.ending = true;
        }
        match action {
            Ok(Action::Reply(reply)) => self.complete(reply),
            Ok(Action::Request(request)) => {
                let access = self.pipeline.access(&request);
                self.held = Some(Held::Request(request, access));
            }
            Ok(Action::Digest) => self.held = Some(Held::Digest),
            Err(reject) => self.complete(reply::error(reject)),
        }
    }

    /// Puts the next request into the batch. False: it has to wait, and all after it.
    fn admit(&mut self, held: Held, batch: &mut Vec<Submitted>) -> bool {
        match held {
            _ if self.stopping => {
                (self.entering, self.place) = (None, None);
                self.complete(reply::answer(Answer::NotExecuted(NotExecuted::Stopping)));
            }
            Held::Request(_, ref access) if self.pipeline.conflicts(access) => {
                self.held = Some(held);
                return false;
            }
            Held::Request(ref request, _) if !self.has_place(request) => {
                self.held = Some(held);
                return false;
            }
            Held::Request(request, access) => {
                let number = self.pipeline.submit(&request, access, self.caller.protocol);
                batch.push((number, request, self.place.take()));
            }
            // It is to see all earlier writes.
            Held::Digest if !self.pipeline.is_empty() => {
                self.held = Some(Held::Digest);
                return false;
            }
            Held::Digest => {
                let number = self.pipeline.defer(self.caller.protocol);
                self.digest = Some((number, (self.service.digest)()));
            }
        }
        true
    }

    /// Whether the next request has its place or needs none. Else the place is waited for.
    fn has_place(&mut self, request: &Request) -> bool {
        let Some(bytes) = Room::needed(request).filter(|_| self.place.is_none()) else { return true };
        if self.entering.is_none() {
            let room = &self.service.room;
            self.place = room.try_enter(bytes);
            self.entering = self.place.is_none().then(|| room.enter(bytes));
        }
        self.place.is_some()
    }

    fn complete(&mut self, reply: Value) {
        self.pipeline.complete(reply, self.caller.protocol);
    }

    /// Hands the batch to the core. If it does not take it, its requests are answered at once.
    fn submit(&mut self, batch: Vec<Submitted>) {
        if batch.is_empty() {
            return;
        }
        let numbers: Vec<u32> = batch.iter().map(|(number, ..)| *number).collect();
        let Err(error) = self.port.submit(batch) else { return };
        let why = match error {
            SubmitError::Busy => NotExecuted::Busy,
            SubmitError::Stopped => NotExecuted::Stopping,
        };
        for number in numbers {
            self.pipeline.answer(number, Answer::NotExecuted(why.clone()));
        }
    }

    /// Room for the next read. An idle connection keeps little.
    fn make_room(&mut self) {
        if self.input.is_empty()
            && self.input.capacity() > READ_BYTES_MIN
            && self.read_bytes == READ_BYTES_MIN
        {
            self.input = BytesMut::new();
        }
        if self.input.capacity() - self.input.len() < self.read_bytes / 2 {
            self.input.reserve(self.read_bytes);
        }
    }
}

/// Whoever has not authenticated gets no memory to speak of, as in Redis.
fn request_limits(limits: &Limits, authenticated: bool) -> RequestLimits {
    if !authenticated {
        return RequestLimits {
            arguments_max: 10,
            bulk_bytes_max: 16 << 10,
            request_bytes_max: 64 << 10,
            inline_bytes_max: 16 << 10,
        };
    }
    let framing = FRAMING_BYTES_MAX * COMMAND_PARTS_MAX as u64;
    RequestLimits {
        bulk_bytes_max: limits.key_bytes_max.max(limits.value_bytes_max) as usize,
        request_bytes_max: usize::try_from(limits.command_bytes_max() + framing).unwrap_or(usize::MAX),
        ..RequestLimits::default()
    }
}

fn too_large(bytes: u64, limits: &Limits, caller: &Caller) -> Value {
    if !caller.authenticated {
        return reply::error(Reject::NoAuth);
    }
    reply::error(format_args!(
        "ERR not executed; the request takes {bytes} bytes; a key may have key-bytes-max ({}), a value value-bytes-max ({}), and \
         all of one request twice their sum ({})",
        limits.key_bytes_max,
        limits.value_bytes_max,
        limits.command_bytes_max(),
    ))
}

async fn pending_digest(digest: &mut Option<(u32, DigestFuture)>) -> (u32, Result<String, String>) {
    match digest {
        Some((number, future)) => (*number, future.await),
        None => std::future::pending().await,
    }
}

async fn pending_place(place: &mut Option<PlaceFuture>) -> Option<Place> {
    match place {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn pending_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A sender that is gone stops, too.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
