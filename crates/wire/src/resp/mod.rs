//! The Redis protocol (RESP2 and RESP3, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! A server uses [`RequestParser`] and [`encode`]; a client uses [`encode_request`] and [`ReplyParser`].

mod encode;
mod inline;
mod reply;
mod request;

use std::borrow::Cow;

use bytes::Bytes;

pub use encode::{encode, encode_request};
pub use reply::{ReplyLimits, ReplyParser};
pub use request::{BULK_BYTES_HARD_MAX, Parsed, RequestLimits, RequestParser};

/// Which of the two versions a connection speaks; `HELLO` changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What every connection starts with.
    #[default]
    Resp2,
    /// Adds maps, sets, booleans, doubles, a null of its own and pushes.
    Resp3,
}

/// A reply, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A short status such as `OK`.
    Simple(Cow<'static, str>),
    /// An error; its first word is its code, as in `ERR syntax error`.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bulk(Bytes),
    /// Nothing there.
    Null,
    /// Values in order.
    Array(Vec<Value>),
    /// Pairs in order; RESP2 sees a flat array.
    Map(Vec<(Value, Value)>),
    /// Values without order; RESP2 sees an array.
    Set(Vec<Value>),
    /// Said without having been asked; RESP2 sees an array.
    Push(Vec<Value>),
    /// RESP2 sees 1 or 0.
    Boolean(bool),
    /// RESP2 sees its decimal form as a bulk string.
    Double(f64),
    /// An integer of any size, in decimal digits; RESP2 sees a bulk string.
    BigNumber(Cow<'static, str>),
    /// Text meant for a person, with its format (`txt` or `mkd`); RESP2 sees a bulk string.
    Verbatim {
        /// Three characters.
        format: [u8; 3],
        /// The text.
        text: Bytes,
    },
}

impl Value {
    /// The status of most writes.
    pub const OK: Value = Value::Simple(Cow::Borrowed("OK"));
}

/// The other side does not speak the protocol (or breaks one of our bounds on its grammar): the connection has lost its
/// place in the stream and must be closed. The texts are those of Redis, without the `-ERR ` before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The number of arguments is no number, or above `arguments_max`.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The line that gives the number of arguments does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkLengthUnended,
    /// A length is no number, or above 512 MiB.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// The line that gives a length does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkLengthUnended,
    /// An argument does not start as one.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// A string goes on after its declared length.
    #[error("Protocol error: expected CRLF after a bulk string")]
    ExpectedLineEnd,
    /// An inline request does not end within `inline_bytes_max`.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// An inline request opens a quote and does not close it, or goes on right after a closing one.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A reply starts with a byte that names no type.
    #[error("Protocol error: unknown reply type '{}'", .0.escape_ascii())]
    UnknownReplyType(u8),
    /// A reply's line is not what its type wants.
    #[error("Protocol error: malformed {0}")]
    Malformed(&'static str),
    /// A reply breaks one of [`ReplyLimits`].
    #[error("Protocol error: reply exceeds {0}")]
    ReplyTooLarge(&'static str),
}

/// A decimal integer as Redis accepts it in lengths: no spaces, no `+`, no leading zeros.
fn parse_integer(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [] | [b'0', ..] => return None,
        _ => {}
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        // Counting downwards reaches i64::MIN, which has no positive counterpart.
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::parse_integer;

    #[test]
    fn integers_are_read_as_strictly_as_redis_does() {
        for (text, value) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1x", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), value, "{text:?}");
        }
    }
}
