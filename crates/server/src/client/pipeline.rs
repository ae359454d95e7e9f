//! One connection's requests in flight: their replies come in any order and leave in the order of the requests.

use std::collections::VecDeque;

use bytes::BytesMut;
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

/// Above so many bytes of replies that the client has not taken, no further request is submitted.
pub(crate) const REPLY_BYTES_MAX: usize = 32 << 20;

/// Above so many encoded bytes, further replies are left as they are, for encoding copies them.
const ENCODED_BYTES_MAX: usize = 256 << 10;

/// What a reply takes beside its text.
const REPLY_OVERHEAD_BYTES: usize = 64;

/// Invariants:
///
/// - `slots[i]` is of the request number `first + i`; the first one waits or will leave with the next [`Pipeline::encode`].
/// - `request_bytes`, `reply_bytes` and `order` are sums over the slots.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    first: u32,
    slots: VecDeque<Slot>,
    waiting: usize,
    request_bytes: u64,
    reply_bytes: usize,
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
    Waiting { bytes: u64, access: Access },
    Done(Value),
}

impl Pipeline {
    /// Whether another request may come in, given so many bytes of encoded replies that the client has not taken.
    pub(crate) fn has_room(&self, encoded_bytes: usize) -> bool {
        self.slots.len() < REQUESTS_MAX
            && self.request_bytes < REQUEST_BYTES_MAX
            && !self.replies_full(encoded_bytes)
    }

    /// Whether the client must take replies before anything else happens.
    pub(crate) fn replies_full(&self, encoded_bytes: usize) -> bool {
        self.reply_bytes + encoded_bytes >= REPLY_BYTES_MAX
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
    pub(crate) fn submit(&mut self, bytes: u64, access: Access, protocol: Protocol) -> u32 {
        let number = self.first.wrapping_add(self.slots.len() as u32);
        self.order.enter(&access);
        self.request_bytes += bytes;
        self.waiting += 1;
        self.slots.push_back(Slot { protocol, state: State::Waiting { bytes, access } });
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
        match std::mem::replace(state, State::Done(reply)) {
            State::Waiting { bytes, access } => {
                self.order.leave(&access);
                self.request_bytes -= bytes;
                self.reply_bytes += reply_bytes;
                self.waiting -= 1;
            }
            State::Done(_) => panic!("request {number} was answered twice"),
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
