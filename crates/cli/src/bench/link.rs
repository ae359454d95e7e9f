//! One connection: requests out, replies in, the time of each between them.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
    time::Instant,
};

use super::{
    pace::Pace,
    replies::{self, Reply},
    requests::{Requests, Verb, Work},
    tally::Tally,
};

/// Bytes that may wait for the socket before requests stop being added: large values are not all held in memory.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;
/// Room for what is read at once.
const READ_BYTES: usize = 64 << 10;

/// A connection under load.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    number: usize,
    requests: Requests,
    out: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    received_len: usize,
    /// Requests without an answer, oldest first: when they started (or should have), and what they are.
    inflight: VecDeque<(Instant, Verb)>,
    /// Requests of this phase.
    sent: u64,
}

impl Link {
    /// Connection `number` of all.
    pub fn new(stream: TcpStream, number: usize, requests: Requests) -> io::Result<Link> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Link {
            stream,
            number,
            requests,
            out: Vec::new(),
            written: 0,
            received: vec![0; READ_BYTES],
            received_len: 0,
            inflight: VecDeque::new(),
            sent: 0,
        })
    }

    /// Begins a phase: requests are counted anew.
    pub fn begin(&mut self) {
        self.sent = 0;
    }

    /// Adds the requests whose time has come and for which there is room, and writes what the socket takes. Whether it took all.
    pub fn send(&mut self, work: Work, inflight_max: usize, pace: &Pace, now: Instant) -> io::Result<bool> {
        loop {
            while self.inflight.len() < inflight_max && self.out.len() - self.written < UNWRITTEN_BYTES_MAX {
                let Some(start) = pace.start_of(self.number, self.sent, now) else { break };
                let Some(verb) = self.requests.push(work, &mut self.out) else { break };
                self.inflight.push_back((start, verb));
                self.sent += 1;
            }
            if self.written == self.out.len() {
                return Ok(true);
            }
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
            }
        }
    }

    /// Reads once, and counts the replies that have come.
    pub fn receive(&mut self, work: Work, tally: &mut Tally) -> io::Result<()> {
        if self.received_len == self.received.len() {
            self.received.resize(2 * self.received.len(), 0);
        }
        match self.stream.read(&mut self.received[self.received_len..]) {
            Ok(0) => {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
            Ok(count) => self.received_len += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let mut at = 0;
        while let Some((reply, length)) =
            replies::first(&self.received[at..self.received_len]).map_err(|_| strange())?
        {
            let (start, verb) = self.inflight.pop_front().ok_or_else(strange)?;
            let error = if let Reply::Error(line) = reply { Some(line) } else { None };
            let again = self.requests.answered(verb, work, error);
            match reply {
                Reply::Result => tally.success(start, now),
                Reply::Nothing => tally.missing(start, now),
                Reply::Error(_) if again => {}
                Reply::Error(line) => tally.error(line),
            }
            at += length;
        }
        if at > 0 {
            tally.heard(now);
            self.received.copy_within(at..self.received_len, 0);
            self.received_len -= at;
        }
        Ok(())
    }

    /// How many requests have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.inflight.len()
    }

    /// How many requests were added in this phase.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Ends the session, if there is one. A session that nobody ends expires by itself, so nothing is waited for.
    pub fn close(mut self) {
        if let Some(farewell) = self.requests.farewell() {
            let _ = self.stream.write(&farewell);
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn strange() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the server sent what is no reply to a request")
}
