//! Requests, as a server reads them.

use bytes::{Buf, Bytes, BytesMut};

use super::{ProtocolError, inline, parse_integer};

/// A declared length above this is no mistake of a limit but garbage: the connection is closed (Redis's
/// `proto-max-bulk-len`).
pub const BULK_BYTES_HARD_MAX: u64 = 512 << 20;

/// The line `*<count>` or `$<length>`: an i64 has at most 20 characters.
const HEADER_BYTES_MAX: usize = 32;

/// What a request may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Arguments of one request; more is a protocol error.
    pub arguments_max: usize,
    /// One argument, in bytes; a longer one (up to 512 MiB) is skipped with its whole request.
    pub bulk_bytes_max: usize,
    /// A whole request with its framing, in bytes; a longer one is skipped.
    pub request_bytes_max: usize,
    /// An inline request, in bytes; more is a protocol error.
    pub inline_bytes_max: usize,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits {
            arguments_max: 1 << 20,
            bulk_bytes_max: 16 << 20,
            request_bytes_max: 64 << 20,
            inline_bytes_max: 64 << 10,
        }
    }
}

/// What came off the front of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A request: at least one argument. The arguments share one piece of memory, which lives as long as any of them.
    Request(Vec<Bytes>),
    /// A well-formed request over a limit. Its bytes are skipped and the next request follows.
    TooLarge {
        /// What it took on the wire.
        bytes: u64,
    },
}

/// Takes requests off a buffer, one by one.
///
/// - Nothing is taken off the buffer before the request is whole, except from one that is being skipped.
/// - Where parsing stopped for want of bytes is remembered, so no byte is looked at twice.
/// - The buffer needs at most `request_bytes_max` bytes for a request to become whole or be skipped.
/// - After an error the place in the stream is lost: close the connection.
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Between requests.
    Start,
    /// In an inline request; so many bytes hold no line end.
    Inline { scanned: usize },
    /// In an array whose bytes stay in the buffer until it is whole.
    Array(Array),
    /// In an array that breaks a limit.
    Skip(Skip),
}

#[derive(Debug)]
struct Array {
    /// Arguments yet to come, including one whose header was read.
    left: usize,
    /// Up to here the buffer is parsed.
    at: usize,
    /// The length of the argument at `at`, once its header was read.
    bulk: Option<usize>,
    /// Where the arguments lie in the buffer.
    arguments: Vec<(usize, usize)>,
}

#[derive(Debug)]
struct Skip {
    /// Arguments whose header is yet to come.
    left: usize,
    /// Bytes of the current argument, with its line end, yet to come.
    bulk_left: u64,
    /// Bytes taken off so far.
    bytes: u64,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new(limits: RequestLimits) -> RequestParser {
        RequestParser { limits, state: State::Start }
    }

    /// Changes the limits from the next argument on: clients that have not authenticated should get small ones.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// Takes the first request off `buf`; `None`: more bytes are needed. Call it again until then. Empty arrays and empty
    /// lines are passed over.
    pub fn parse(&mut self, buf: &mut BytesMut) -> Result<Option<Parsed>, ProtocolError> {
        loop {
            let parsed = match &mut self.state {
                State::Start => {
                    if !self.start(buf)? {
                        return Ok(None);
                    }
                    continue;
                }
                State::Inline { scanned } => {
                    let Some(arguments) = inline_request(buf, scanned, self.limits.inline_bytes_max)? else {
                        return Ok(None);
                    };
                    Parsed::Request(arguments)
                }
                State::Array(array) => match array.advance(buf, &self.limits)? {
                    Progress::NeedsBytes => return Ok(None),
                    Progress::Whole => Parsed::Request(array.take(buf)),
                    Progress::OverLimit { bulk } => {
                        let skip = array.abandon(buf, bulk);
                        self.state = State::Skip(skip);
                        continue;
                    }
                },
                State::Skip(skip) => {
                    if !skip.advance(buf)? {
                        return Ok(None);
                    }
                    Parsed::TooLarge { bytes: skip.bytes }
                }
            };
            self.state = State::Start;
            if !matches!(&parsed, Parsed::Request(arguments) if arguments.is_empty()) {
                return Ok(Some(parsed));
            }
        }
    }

    /// Looks at the first bytes of a request. False: more are needed.
    fn start(&mut self, buf: &mut BytesMut) -> Result<bool, ProtocolError> {
        match buf.first() {
            None => return Ok(false),
            Some(b'*') => {}
            Some(_) => {
                self.state = State::Inline { scanned: 0 };
                return Ok(true);
            }
        }
        let (unended, malformed) =
            (ProtocolError::MultibulkLengthUnended, ProtocolError::InvalidMultibulkLength);
        let Some(end) = header_end(buf, unended, malformed)? else { return Ok(false) };
        let count = parse_integer(&buf[1..end - 2]).ok_or(ProtocolError::InvalidMultibulkLength)?;
        if count <= 0 {
            buf.advance(end);
            return Ok(true);
        }
        let left = usize::try_from(count).unwrap_or(usize::MAX);
        if left > self.limits.arguments_max {
            return Err(ProtocolError::InvalidMultibulkLength);
        }
        // The count is only declared: most requests are short, and longer ones grow as they come.
        self.state =
            State::Array(Array { left, at: end, bulk: None, arguments: Vec::with_capacity(left.min(16)) });
        Ok(true)
    }
}

enum Progress {
    NeedsBytes,
    Whole,
    /// The argument at hand is so long that it, or the request with it, breaks a limit.
    OverLimit {
        bulk: u64,
    },
}

impl Array {
    fn advance(&mut self, buf: &[u8], limits: &RequestLimits) -> Result<Progress, ProtocolError> {
        while self.left > 0 {
            let length = match self.bulk {
                Some(length) => length,
                None => {
                    let Some((length, end)) = bulk_header(&buf[self.at..])? else {
                        return Ok(Progress::NeedsBytes);
                    };
                    self.at += end;
                    let whole = (self.at as u64).saturating_add(length).saturating_add(2);
                    if length > limits.bulk_bytes_max as u64 || whole > limits.request_bytes_max as u64 {
                        return Ok(Progress::OverLimit { bulk: length });
                    }
                    let length = length as usize;
                    self.bulk = Some(length);
                    length
                }
            };
            let end = self.at + length;
            if buf.len() < end + 2 {
                return Ok(Progress::NeedsBytes);
            }
            if &buf[end..end + 2] != b"\r\n" {
                return Err(ProtocolError::ExpectedLineEnd);
            }
            self.arguments.push((self.at, end));
            self.at = end + 2;
            self.bulk = None;
            self.left -= 1;
        }
        Ok(Progress::Whole)
    }

    /// Takes the whole request off the buffer.
    fn take(&mut self, buf: &mut BytesMut) -> Vec<Bytes> {
        let request = buf.split_to(self.at).freeze();
        self.arguments.iter().map(|&(start, end)| request.slice(start..end)).collect()
    }

    /// Gives up what was read so far, up to and with the header of an argument of `bulk` bytes.
    fn abandon(&self, buf: &mut BytesMut, bulk: u64) -> Skip {
        buf.advance(self.at);
        Skip { left: self.left - 1, bulk_left: bulk + 2, bytes: self.at as u64 }
    }
}

impl Skip {
    /// Drops what the buffer has of the request. True: that was all.
    fn advance(&mut self, buf: &mut BytesMut) -> Result<bool, ProtocolError> {
        loop {
            let dropped = self.bulk_left.min(buf.len() as u64);
            buf.advance(dropped as usize);
            self.bulk_left -= dropped;
            self.bytes += dropped;
            if self.bulk_left > 0 {
                return Ok(false);
            }
            if self.left == 0 {
                return Ok(true);
            }
            let Some((length, end)) = bulk_header(buf)? else { return Ok(false) };
            buf.advance(end);
            self.bytes += end as u64;
            self.left -= 1;
            self.bulk_left = length + 2;
        }
    }
}

/// The length that `$<length>\r\n` at the front declares, and where the string starts.
fn bulk_header(buf: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match buf.first() {
        None => return Ok(None),
        Some(b'$') => {}
        Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
    }
    let (unended, malformed) = (ProtocolError::BulkLengthUnended, ProtocolError::InvalidBulkLength);
    let Some(end) = header_end(buf, unended, malformed)? else { return Ok(None) };
    let length = parse_integer(&buf[1..end - 2]).and_then(|length| u64::try_from(length).ok());
    match length {
        Some(length) if length <= BULK_BYTES_HARD_MAX => Ok(Some((length, end))),
        _ => Err(ProtocolError::InvalidBulkLength),
    }
}

/// Where the header line at the front ends, behind its CRLF. The caller says what it is if it is none.
fn header_end(
    buf: &[u8],
    unended: ProtocolError,
    malformed: ProtocolError,
) -> Result<Option<usize>, ProtocolError> {
    let head = &buf[..buf.len().min(HEADER_BYTES_MAX)];
    match head.iter().position(|&byte| byte == b'\r') {
        Some(at) => match buf.get(at + 1) {
            Some(b'\n') => Ok(Some(at + 2)),
            Some(_) => Err(malformed),
            None => Ok(None),
        },
        None if buf.len() >= HEADER_BYTES_MAX => Err(unended),
        None => Ok(None),
    }
}

/// Takes a line off the buffer and splits it.
fn inline_request(
    buf: &mut BytesMut,
    scanned: &mut usize,
    bytes_max: usize,
) -> Result<Option<Vec<Bytes>>, ProtocolError> {
    let Some(newline) = buf[*scanned..].iter().position(|&byte| byte == b'\n').map(|at| *scanned + at) else {
        *scanned = buf.len();
        return if buf.len() > bytes_max { Err(ProtocolError::InlineTooBig) } else { Ok(None) };
    };
    if newline > bytes_max {
        return Err(ProtocolError::InlineTooBig);
    }
    let mut line = buf.split_to(newline + 1).freeze();
    line.truncate(newline);
    if line.last() == Some(&b'\r') {
        line.truncate(newline - 1);
    }
    inline::split(&line).map(Some)
}
