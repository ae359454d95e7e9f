//! One connection's requests in flight: their replies come in any order and leave in the order of the requests.

use std::collections::VecDeque;

use bytes::BytesMut;
use pontoon_kv::Command;
use pontoon_replica::{Answer, Request};
use pontoon_wire::resp::{self, Protocol, Value};

use super::{
    order::{Access, Order},
    reply,
};

/// Requests of one connection that wait for their own or for an earlier reply, at most.
pub(crate) const REQUESTS_MAX: usize = 1024;

/// Above so many bytes of requests that the core has not answered, no further one is submitted.
pub(crate) const REQUEST_BYTES_MAX: u64 = 32 << 20;

/// Above so many bytes of replies that the client has not taken or that are to be expected, no further request is submitted.
pub(crate) const REPLY_BYTES_MAX: usize = 32 << 20;

/// How large a value is taken to be as long as none was seen, in bytes: a connection starts with few reads in flight.
const VALUE_BYTES_EXPECTED: usize = 1 << 20;

/// Above so many encoded bytes, further replies are left as they are, for encoding copies them.
const ENCODED_BYTES_MAX: usize = 256 << 10;

/// What a reply takes beside its text.
const REPLY_OVERHEAD_BYTES: usize = 64;

/// Invariants:
///
/// - `slots[i]` is of the request number `first + i`; the first one waits or will leave with the next [`Pipeline::encode`].
/// - `waiting`, `request_bytes`, `reply_bytes`, `values` and `order` are sums over the slots.
#[derive(Debug)]
pub(crate) struct Pipeline {
    first: u32,
    slots: VecDeque<Slot>,
    waiting: usize,
    request_bytes: u64,
    reply_bytes: usize,
    /// Values that the core was asked for.
    values: usize,
    /// How large each of them is taken to be: as large as the last ones, fading from the largest.
    value_bytes: usize,
    order: Order,
}

#[derive(Debug)]
struct Slot {
    /// `HELLO` may have changed it for later ones.
    protocol: Protocol,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Waiting),
    Done(Value),
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    values: usize,
    access: Access,
}

impl Pipeline {
    /// Nothing in flight.
    pub(crate) fn new() -> Pipeline {
        Pipeline {
            first: 0,
            slots: VecDeque::new(),
            waiting: 0,
            request_bytes: 0,
            reply_bytes: 0,
            values: 0,
            value_bytes: VALUE_BYTES_EXPECTED,
            order: Order::default(),
        }
    }

    /// Whether another request may come in, given so many bytes of encoded replies that the client has not taken.
    pub(crate) fn has_room(&self, encoded_bytes: usize) -> bool {
        self.slots.len() < REQUESTS_MAX
            && self.request_bytes < REQUEST_BYTES_MAX
            && encoded_bytes + self.reply_bytes + self.values * self.value_bytes < REPLY_BYTES_MAX
    }

    /// Whether the client must take replies before anything else happens.
    pub(crate) fn replies_full(&self, encoded_bytes: usize) -> bool {
        self.reply_bytes + encoded_bytes >= REPLY_BYTES_MAX
    }

    /// What it holds in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.reply_bytes + self.request_bytes as usize
    }

    /// No request waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the core owes an answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// What the request would touch, for [`Pipeline::submit`].
    pub(crate) fn access(&self, request: &Request) -> Access {
        self.order.access(request)
    }

    /// Whether it has to wait for an earlier request.
    pub(crate) fn conflicts(&self, access: &Access) -> bool {
        self.order.conflicts(access)
    }

    /// Takes a request in that is about to be handed to the core; returns its number.
    pub(crate) fn submit(&mut self, request: &Request, access: Access, protocol: Protocol) -> u32 {
        let command = request.command();
        let (bytes, values) = (command.map_or(0, Command::bytes), command.map_or(0, values));
        self.wait(Waiting { bytes, values, access }, protocol)
    }

    /// Takes a request in that something else than the core will answer, by [`Pipeline::finish`]; returns its number.
    pub(crate) fn defer(&mut self, protocol: Protocol) -> u32 {
        self.wait(Waiting { bytes: 0, values: 0, access: Access::default() }, protocol)
    }

    fn wait(&mut self, waiting: Waiting, protocol: Protocol) -> u32 {
        let number = self.first.wrapping_add(self.slots.len() as u32);
        self.order.enter(&waiting.access);
        self.request_bytes += waiting.bytes;
        self.values += waiting.values;
        self.waiting += 1;
        self.slots.push_back(Slot { protocol, state: State::Waiting(waiting) });
        number
    }

    /// Takes a request in together with its reply.
    pub(crate) fn complete(&mut self, reply: Value, protocol: Protocol) {
        self.reply_bytes += size(&reply);
        self.slots.push_back(Slot { protocol, state: State::Done(reply) });
    }

    /// The core's answer to a request.
    pub(crate) fn answer(&mut self, number: u32, answer: Answer) {
        self.finish(number, reply::answer(answer));
    }

    /// The reply to a request that waits.
    pub(crate) fn finish(&mut self, number: u32, reply: Value) {
        let slot = self.slots.get_mut(number.wrapping_sub(self.first) as usize);
        let state = slot.map(|slot| &mut slot.state).expect("only requests in flight are answered");
        let reply_bytes = size(&reply);
        let State::Waiting(was) = std::mem::replace(state, State::Done(reply)) else {
            panic!("request {number} was answered twice");
        };
        self.order.leave(&was.access);
        self.request_bytes -= was.bytes;
        self.reply_bytes += reply_bytes;
        self.values -= was.values;
        self.waiting -= 1;
        if let Some(value_bytes) = reply_bytes.checked_div(was.values) {
            let faded = self.value_bytes - self.value_bytes / 8;
            self.value_bytes = faded.max(value_bytes);
        }
    }

    /// Moves replies whose turn it is to `out`, until that is long enough for a write.
    pub(crate) fn encode(&mut self, out: &mut BytesMut) {
        while out.len() < ENCODED_BYTES_MAX {
            let Some(Slot { state: State::Done(_), .. }) = self.slots.front() else { return };
            let slot = self.slots.pop_front().expect("it was just seen there");
            self.first = self.first.wrapping_add(1);
            if let State::Done(reply) = slot.state {
                self.reply_bytes -= size(&reply);
                resp::encode(&reply, slot.protocol, out);
            }
        }
    }
}

/// Values that the command's reply may hold.
fn values(command: &Command) -> usize {
    match command {
        Command::Get { .. } | Command::Set { return_old: true, .. } => 1,
        Command::MGet { keys } => keys.len(),
        Command::Batch { commands } => commands.iter().map(values).sum(),
        _ => 0,
    }
}

/// About what a reply takes in memory, in bytes.
fn size(value: &Value) -> usize {
    REPLY_OVERHEAD_BYTES
        + match value {
            Value::Bulk(bytes) => bytes.len(),
            Value::Verbatim { text, .. } => text.len(),
            Value::Simple(text) | Value::Error(text) | Value::BigNumber(text) => text.len(),
            Value::Array(values) | Value::Set(values) | Value::Push(values) => values.iter().map(size).sum(),
            Value::Map(pairs) => pairs.iter().map(|(key, value)| size(key) + size(value)).sum(),
            Value::Integer(_) | Value::Null | Value::Boolean(_) | Value::Double(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pontoon_kv::Reply;

    fn submit(pipeline: &mut Pipeline, command: Command) -> u32 {
        let request = Request::Plain(command);
        let access = pipeline.access(&request);
        pipeline.submit(&request, access, Protocol::Resp2)
    }

    fn get() -> Command {
        Command::Get { key: "k".into() }
    }

    fn reads_that_have_room(pipeline: &mut Pipeline) -> Vec<u32> {
        let mut numbers = Vec::new();
        while pipeline.has_room(0) {
            numbers.push(submit(pipeline, get()));
        }
        numbers
    }

    #[test]
    fn requests_in_flight_are_bounded_in_bytes() {
        let mut pipeline = Pipeline::new();
        let value = vec![0; REQUEST_BYTES_MAX as usize];
        let number = submit(&mut pipeline, Command::Append { key: "k".into(), value: value.into() });
        assert!(!pipeline.has_room(0));
        pipeline.answer(number, Answer::Reply(Reply::Integer(1)));
        assert!(pipeline.has_room(0));
    }

    #[test]
    fn untaken_replies_are_bounded_in_bytes() {
        let mut pipeline = Pipeline::new();
        assert!(pipeline.has_room(REPLY_BYTES_MAX - 1) && !pipeline.has_room(REPLY_BYTES_MAX));
        pipeline.complete(Value::Bulk(vec![0; REPLY_BYTES_MAX].into()), Protocol::Resp2);
        assert!(!pipeline.has_room(0) && pipeline.replies_full(0));
        pipeline.encode(&mut BytesMut::new());
        assert!(pipeline.has_room(0) && !pipeline.replies_full(0));
        assert_eq!(pipeline.bytes(), 0);
    }

    #[test]
    fn reads_in_flight_are_as_many_as_the_values_seen_last_let_expect() {
        let mut pipeline = Pipeline::new();
        let mut answer_all = |bytes: usize| {
            let numbers = reads_that_have_room(&mut pipeline);
            let value = bytes::Bytes::from(vec![0; bytes]);
            for &number in &numbers {
                pipeline.answer(number, Answer::Reply(Reply::Bytes(value.clone())));
            }
            while !pipeline.is_empty() {
                pipeline.encode(&mut BytesMut::new());
            }
            numbers.len()
        };
        assert_eq!(answer_all(100), 32, "nothing is known yet");
        answer_all(100);
        assert_eq!(answer_all(4 << 20), REQUESTS_MAX, "small values: only their number counts");
        assert_eq!(answer_all(4 << 20), 8, "large values");
    }

    #[test]
    fn numbers_go_on_after_the_last() {
        let mut pipeline = Pipeline { first: u32::MAX, ..Pipeline::new() };
        let numbers = [submit(&mut pipeline, get()), submit(&mut pipeline, get())];
        assert_eq!(numbers, [u32::MAX, 0]);
        pipeline.answer(0, Answer::Reply(Reply::Integer(2)));
        pipeline.answer(u32::MAX, Answer::Reply(Reply::Integer(1)));
        let mut out = BytesMut::new();
        pipeline.encode(&mut out);
        assert_eq!(&out[..], b":1\r\n:2\r\n");
    }
}
