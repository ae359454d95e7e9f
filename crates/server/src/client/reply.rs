//! What came of a request, in the words of the Redis protocol.
//!
//! An error's first word is its code. Every text says whether the request happened and what to do next.

use std::borrow::Cow;

use pontoon_kv::{Refusal, Reply};
use pontoon_replica::{Answer, NotExecuted, Unknown};
use pontoon_wire::resp::Value;

/// The core's answer as a reply.
pub(crate) fn answer(answer: Answer) -> Value {
    match answer {
        Answer::Reply(reply) => executed(reply),
        Answer::Opened(session) => Value::Integer(
            i64::try_from(session.0).expect("a session's id is a log index below 2^47, shifted by 16 bits"),
        ),
        Answer::Done => Value::OK,
        Answer::NotExecuted(why) => Value::Error(not_executed(why)),
        Answer::Unknown(why) => Value::Error(Cow::Borrowed(unknown(why))),
    }
}

/// An error reply.
pub(crate) fn error(text: impl std::fmt::Display) -> Value {
    Value::Error(Cow::Owned(text.to_string()))
}

fn executed(reply: Reply) -> Value {
    match reply {
        Reply::Ok => Value::OK,
        Reply::Nil => Value::Null,
        Reply::Integer(number) => Value::Integer(number),
        Reply::Bytes(bytes) => Value::Bulk(bytes),
        Reply::Array(replies) => Value::Array(replies.into_iter().map(executed).collect()),
        Reply::Error(why) => error(format_args!("ERR {why}")),
    }
}

fn not_executed(why: NotExecuted) -> Cow<'static, str> {
    let text = match why {
        NotExecuted::NotReady => {
            "NOTREADY not executed; no majority of the cluster could be reached within the request timeout; \
             try again or another server"
        }
        NotExecuted::Busy => {
            "BUSY surely not executed; too many requests wait on this server; try again later or another server"
        }
        NotExecuted::Stopping => "STOPPING not executed; this server is stopping; try another server",
        NotExecuted::Refused(why) => refused(why),
        NotExecuted::TooLarge(limit) => {
            return Cow::Owned(format!("ERR not executed; {}", String::from_utf8_lossy(&limit)));
        }
    };
    Cow::Borrowed(text)
}

/// A retry is refused like a first attempt, so these speak of this attempt alone.
fn refused(why: Refusal) -> &'static str {
    match why {
        Refusal::SessionUnknown => {
            "SESSIONEXPIRED not executed by this attempt; the session was never opened, or was closed, or has expired; \
             open another with SESSION OPEN (an earlier attempt of the same request may have been executed)"
        }
        Refusal::Stale => {
            "STALE not executed by this attempt; its number is below the session's ack: the client has said that it has the \
             answer; use the next number for another request"
        }
        Refusal::OutsideWindow => {
            "OUTSIDEWINDOW not executed; its number is not below ack + session-window; wait for earlier answers and send it \
             again with a higher ack"
        }
        Refusal::Gap { .. } => "NOTREADY not executed; an earlier request of this server was lost; try again",
        Refusal::TooManySessions => {
            "TOOMANYSESSIONS not executed; sessions-max sessions are open; close some with SESSION CLOSE, or try again when \
             idle ones have expired"
        }
    }
}

fn unknown(why: Unknown) -> &'static str {
    match why {
        Unknown::TimedOut => {
            "UNKNOWN no outcome within the request timeout: it may or may not have been executed, or may yet be; \
             in a session (ONCE) send it again with the same number, else look at the data before trying again"
        }
        Unknown::Missed => {
            "UNKNOWN this server caught up from a snapshot meanwhile: it may or may not have been executed; \
             in a session (ONCE) send it again with the same number, else look at the data before trying again"
        }
        Unknown::Stopping => {
            "UNKNOWN this server stopped before there was an outcome: it may or may not have been executed, or may yet be; \
             in a session (ONCE) send it to another server with the same number, else look at the data before trying again"
        }
    }
}
