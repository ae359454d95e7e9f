//! Replies, as a client reads them.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};

use super::{ProtocolError, Value, parse_integer};

/// What a reply may be; all beyond is a [`ProtocolError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyLimits {
    /// One string, in bytes.
    pub bulk_bytes_max: usize,
    /// A whole reply with its framing, in bytes.
    pub reply_bytes_max: usize,
    /// Values in one reply, nested ones included.
    pub elements_max: usize,
    /// Arrays within arrays.
    pub depth_max: usize,
    /// A line: a status, an error, a number.
    pub line_bytes_max: usize,
}

impl Default for ReplyLimits {
    fn default() -> ReplyLimits {
        ReplyLimits {
            bulk_bytes_max: 512 << 20,
            reply_bytes_max: 1 << 30,
            elements_max: 1 << 20,
            depth_max: 32,
            line_bytes_max: 64 << 10,
        }
    }
}

/// Takes replies off a buffer, one by one; RESP2 and RESP3.
///
/// What is read of a reply leaves the buffer at once, value by value, so no byte is looked at twice. Attributes (`|`) are
/// read and dropped. After an error the place in the stream is lost: close the connection.
#[derive(Debug, Default)]
pub struct ReplyParser {
    limits: ReplyLimits,
    /// The aggregates around the next value, outermost first.
    open: Vec<Aggregate>,
    /// A string whose header was read.
    string: Option<(StringKind, usize)>,
    /// So many bytes of the buffer hold no line end.
    scanned: usize,
    /// Values and bytes of this reply so far.
    elements: usize,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StringKind {
    Bulk,
    Error,
    Verbatim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AggregateKind {
    Array,
    Map,
    Set,
    Push,
    Attribute,
}

#[derive(Debug)]
struct Aggregate {
    kind: AggregateKind,
    /// Values yet to come; a map's pair is two.
    left: usize,
    values: Vec<Value>,
}

/// What a line turned out to be.
enum Line {
    Value(Value),
    String(StringKind, usize),
    Aggregate(AggregateKind, usize),
}

impl ReplyParser {
    /// A parser at the start of a connection.
    pub fn new(limits: ReplyLimits) -> ReplyParser {
        ReplyParser { limits, ..ReplyParser::default() }
    }

    /// Takes the first reply off `buf`; `None`: more bytes are needed. Call it again until then.
    pub fn parse(&mut self, buf: &mut BytesMut) -> Result<Option<Value>, ProtocolError> {
        loop {
            let value = match self.string {
                Some((kind, length)) => {
                    let Some(value) = self.take_string(buf, kind, length)? else { return Ok(None) };
                    value
                }
                None => match self.take_line(buf)? {
                    None => return Ok(None),
                    Some(Line::Value(value)) => value,
                    Some(Line::String(kind, length)) => {
                        self.string = Some((kind, length));
                        continue;
                    }
                    Some(Line::Aggregate(kind, count)) => {
                        self.open_aggregate(kind, count)?;
                        let Some(value) = self.settle(None) else { continue };
                        return Ok(Some(value));
                    }
                },
            };
            if let Some(value) = self.settle(Some(value)) {
                return Ok(Some(value));
            }
        }
    }

    /// Puts a value into the innermost aggregate and closes those that are full. Gives the reply back if it is whole.
    fn settle(&mut self, mut value: Option<Value>) -> Option<Value> {
        loop {
            if let Some(value) = value.take() {
                let Some(aggregate) = self.open.last_mut() else {
                    self.elements = 0;
                    self.bytes = 0;
                    return Some(value);
                };
                aggregate.values.push(value);
                aggregate.left -= 1;
            }
            let full = self.open.pop_if(|aggregate| aggregate.left == 0)?;
            // An attribute closes into nothing: it belongs to the value that comes next.
            value = Some(full.close()?);
        }
    }

    fn open_aggregate(&mut self, kind: AggregateKind, count: usize) -> Result<(), ProtocolError> {
        let paired = matches!(kind, AggregateKind::Map | AggregateKind::Attribute);
        let left = if paired { count.saturating_mul(2) } else { count };
        if left > self.limits.elements_max.saturating_sub(self.elements) {
            return Err(ProtocolError::ReplyTooLarge("elements_max"));
        }
        if self.open.len() >= self.limits.depth_max {
            return Err(ProtocolError::ReplyTooLarge("depth_max"));
        }
        // The count is only declared: what comes makes it grow.
        self.open.push(Aggregate { kind, left, values: Vec::with_capacity(left.min(16)) });
        Ok(())
    }

    fn take_string(
        &mut self,
        buf: &mut BytesMut,
        kind: StringKind,
        length: usize,
    ) -> Result<Option<Value>, ProtocolError> {
        if buf.len() < length + 2 {
            return Ok(None);
        }
        if &buf[length..length + 2] != b"\r\n" {
            return Err(ProtocolError::ExpectedLineEnd);
        }
        self.string = None;
        let mut bytes = buf.split_to(length).freeze();
        buf.advance(2);
        Ok(Some(match kind {
            StringKind::Bulk => Value::Bulk(bytes),
            StringKind::Error => Value::Error(text(&bytes)),
            StringKind::Verbatim => match bytes[..] {
                [a, b, c, b':', ..] => {
                    bytes.advance(4);
                    Value::Verbatim { format: [a, b, c], text: bytes }
                }
                _ => return Err(ProtocolError::Malformed("verbatim string")),
            },
        }))
    }

    fn take_line(&mut self, buf: &mut BytesMut) -> Result<Option<Line>, ProtocolError> {
        let Some(end) =
            buf[self.scanned..].iter().position(|&byte| byte == b'\n').map(|at| self.scanned + at)
        else {
            self.scanned = buf.len();
            return if buf.len() > self.limits.line_bytes_max {
                Err(ProtocolError::ReplyTooLarge("line_bytes_max"))
            } else {
                Ok(None)
            };
        };
        self.scanned = 0;
        if end > self.limits.line_bytes_max {
            return Err(ProtocolError::ReplyTooLarge("line_bytes_max"));
        }
        if end < 2 || buf[end - 1] != b'\r' {
            return Err(ProtocolError::Malformed("line"));
        }
        let line = interpret(buf[0], &buf[1..end - 1])?;
        buf.advance(end + 1);
        self.count(end + 1, &line)?;
        Ok(Some(line))
    }

    /// Holds what has come, and what was announced, against the limits.
    fn count(&mut self, line_bytes: usize, line: &Line) -> Result<(), ProtocolError> {
        self.elements += 1;
        if self.elements > self.limits.elements_max {
            return Err(ProtocolError::ReplyTooLarge("elements_max"));
        }
        self.bytes = self.bytes.saturating_add(line_bytes);
        if let &Line::String(_, length) = line {
            if length > self.limits.bulk_bytes_max {
                return Err(ProtocolError::ReplyTooLarge("bulk_bytes_max"));
            }
            self.bytes = self.bytes.saturating_add(length).saturating_add(2);
        }
        if self.bytes > self.limits.reply_bytes_max {
            return Err(ProtocolError::ReplyTooLarge("reply_bytes_max"));
        }
        Ok(())
    }
}

impl Aggregate {
    /// The value it became; `None`: an attribute.
    fn close(self) -> Option<Value> {
        match self.kind {
            AggregateKind::Array => Some(Value::Array(self.values)),
            AggregateKind::Set => Some(Value::Set(self.values)),
            AggregateKind::Push => Some(Value::Push(self.values)),
            AggregateKind::Attribute => None,
            AggregateKind::Map => {
                let mut pairs = Vec::with_capacity(self.values.len() / 2);
                let mut values = self.values.into_iter();
                while let (Some(key), Some(value)) = (values.next(), values.next()) {
                    pairs.push((key, value));
                }
                Some(Value::Map(pairs))
            }
        }
    }
}

/// A line's type byte and the rest of it, without its CRLF.
fn interpret(kind: u8, rest: &[u8]) -> Result<Line, ProtocolError> {
    let line = match kind {
        b'+' => Line::Value(Value::Simple(text(rest))),
        b'-' => Line::Value(Value::Error(text(rest))),
        b':' => Line::Value(Value::Integer(parse_integer(rest).ok_or(ProtocolError::Malformed("integer"))?)),
        b'_' if rest.is_empty() => Line::Value(Value::Null),
        b'#' if rest == b"t" => Line::Value(Value::Boolean(true)),
        b'#' if rest == b"f" => Line::Value(Value::Boolean(false)),
        b',' => Line::Value(Value::Double(double(rest)?)),
        b'(' => Line::Value(Value::BigNumber(big_number(rest)?)),
        // RESP2 has two nulls, which look like a string and an array of length -1.
        b'$' | b'*' if rest == b"-1" => Line::Value(Value::Null),
        b'$' => Line::String(StringKind::Bulk, length(rest)?),
        b'!' => Line::String(StringKind::Error, length(rest)?),
        b'=' => Line::String(StringKind::Verbatim, length(rest)?),
        b'*' => Line::Aggregate(AggregateKind::Array, length(rest)?),
        b'%' => Line::Aggregate(AggregateKind::Map, length(rest)?),
        b'~' => Line::Aggregate(AggregateKind::Set, length(rest)?),
        b'>' => Line::Aggregate(AggregateKind::Push, length(rest)?),
        b'|' => Line::Aggregate(AggregateKind::Attribute, length(rest)?),
        b'_' => return Err(ProtocolError::Malformed("null")),
        b'#' => return Err(ProtocolError::Malformed("boolean")),
        other => return Err(ProtocolError::UnknownReplyType(other)),
    };
    Ok(line)
}

fn length(digits: &[u8]) -> Result<usize, ProtocolError> {
    // Half of the range, so that adding a line end cannot overflow.
    parse_integer(digits)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= usize::MAX / 2 - 2)
        .ok_or(ProtocolError::Malformed("length"))
}

fn double(rest: &[u8]) -> Result<f64, ProtocolError> {
    let text = std::str::from_utf8(rest).map_err(|_| ProtocolError::Malformed("double"))?;
    text.parse().map_err(|_| ProtocolError::Malformed("double"))
}

fn big_number(rest: &[u8]) -> Result<Cow<'static, str>, ProtocolError> {
    let digits = rest.strip_prefix(b"-").unwrap_or(rest);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::Malformed("big number"));
    }
    Ok(text(rest))
}

/// Statuses and errors are for people: what is not UTF-8 in them is replaced.
fn text(bytes: &[u8]) -> Cow<'static, str> {
    Cow::Owned(String::from_utf8_lossy(bytes).into_owned())
}
