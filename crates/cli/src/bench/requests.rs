//! Requests as bytes: drawn from a seed, copied from templates.

use std::{collections::VecDeque, rc::Rc};

use super::args::Op;

/// One request's command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `SET`
    Put,
    /// `GET`
    Get,
    /// `APPEND`
    Append,
}

impl Verb {
    /// Whether a session counts it: a read has no effect that could happen twice.
    pub fn writes(self) -> bool {
        self != Verb::Get
    }

    /// The command's name as a bulk string.
    fn name(self) -> &'static [u8] {
        match self {
            Verb::Put => b"$3\r\nSET\r\n",
            Verb::Get => b"$3\r\nGET\r\n",
            Verb::Append => b"$6\r\nAPPEND\r\n",
        }
    }
}

/// Which requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Keys at random, without end.
    Drawn(Op),
    /// A put of each key, shared out among the connections; without a session. One whose outcome is unknown is done again.
    EveryKey,
}

/// Where values come from: each is a stretch of random bytes, so that no two are alike and no server can compress them away.
#[derive(Debug)]
pub struct Values {
    pool: Vec<u8>,
    value_bytes: usize,
    header: Vec<u8>,
}

/// How many places a value can start at.
const VALUE_STARTS: usize = 64 << 10;

impl Values {
    /// Values of this length.
    pub fn new(value_bytes: usize) -> Values {
        let mut random = Random::new(0);
        let words = (VALUE_STARTS + value_bytes).div_ceil(8);
        let pool = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        Values { pool, value_bytes, header: format!("${value_bytes}\r\n").into_bytes() }
    }

    fn push(&self, random: &mut Random, out: &mut Vec<u8>) {
        let start = random.below(VALUE_STARTS as u64) as usize;
        out.extend_from_slice(&self.header);
        out.extend_from_slice(&self.pool[start..start + self.value_bytes]);
        out.extend_from_slice(b"\r\n");
    }
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Requests {
    random: Random,
    keys: u64,
    values: Rc<Values>,
    session: Option<Session>,
    every: EveryKey,
}

/// How far [`Work::EveryKey`] is.
#[derive(Debug)]
struct EveryKey {
    /// The next key, and the distance to the one after it.
    next: u64,
    step: u64,
    /// Those without an answer, oldest first.
    inflight: VecDeque<u64>,
    /// Those that are to be put again, and how many more may be: against a cluster that only says *unknown* a load ends, too.
    again: Vec<u64>,
    again_left: usize,
}

/// So many puts of one connection are done again at most.
const AGAIN_MAX: usize = 1_000;

impl Requests {
    /// Those of connection `number` of `connections`, over this many keys; writes go through the session, if there is one.
    pub fn new(
        number: usize,
        connections: usize,
        keys: u64,
        values: Rc<Values>,
        session: Option<u64>,
    ) -> Requests {
        Requests {
            random: Random::new(1 + number as u64),
            keys,
            values,
            session: session.map(Session::new),
            every: EveryKey {
                next: number as u64,
                step: connections as u64,
                inflight: VecDeque::new(),
                again: Vec::new(),
                again_left: AGAIN_MAX,
            },
        }
    }

    /// Appends the next request to `out`; none when the work is done.
    pub fn push(&mut self, work: Work, out: &mut Vec<u8>) -> Option<Verb> {
        let (verb, key) = match work {
            Work::Drawn(op) => (self.draw(op), self.random.below(self.keys)),
            Work::EveryKey => (Verb::Put, self.every.draw(self.keys)?),
        };
        match &mut self.session {
            Some(session) if verb.writes() && work != Work::EveryKey => session.push_head(out),
            _ if verb.writes() => out.extend_from_slice(b"*3\r\n"),
            _ => out.extend_from_slice(b"*2\r\n"),
        }
        out.extend_from_slice(verb.name());
        push_key(key, out);
        if verb.writes() {
            self.values.push(&mut self.random, out);
        }
        Some(verb)
    }

    /// Notes that the oldest unanswered request, which was this one, has its answer: an error or not. Whether it will be done again.
    pub fn answered(&mut self, verb: Verb, work: Work, error: Option<&[u8]>) -> bool {
        if work == Work::EveryKey {
            return self.every.answered(error);
        }
        if let Some(session) = &mut self.session
            && verb.writes()
        {
            session.answered += 1;
        }
        false
    }

    /// The request that ends the session, if there is one.
    pub fn farewell(&self) -> Option<Vec<u8>> {
        let session = self.session.as_ref()?;
        let mut out = b"*3\r\n$7\r\nSESSION\r\n$5\r\nCLOSE\r\n".to_vec();
        push_number(session.id, &mut out);
        Some(out)
    }

    fn draw(&mut self, op: Op) -> Verb {
        match op {
            Op::Put => Verb::Put,
            Op::Get => Verb::Get,
            Op::Append => Verb::Append,
            Op::Mixed if self.random.below(2) == 0 => Verb::Get,
            Op::Mixed => Verb::Put,
        }
    }
}

impl EveryKey {
    fn draw(&mut self, keys: u64) -> Option<u64> {
        let key = match self.again.pop() {
            Some(key) => key,
            None if self.next < keys => {
                self.next += self.step;
                self.next - self.step
            }
            None => return None,
        };
        self.inflight.push_back(key);
        Some(key)
    }

    fn answered(&mut self, error: Option<&[u8]>) -> bool {
        let key = self.inflight.pop_front().expect("what is answered was in flight");
        let again = error.is_some_and(|line| line.starts_with(b"UNKNOWN ")) && self.again_left > 0;
        if again {
            self.again_left -= 1;
            self.again.push(key);
        }
        again
    }
}

/// A session of one connection. Replies come in the order of requests, so the answered ones are counted, not remembered.
#[derive(Debug)]
struct Session {
    id: u64,
    /// `*7 ONCE sid`, as bytes.
    head: Vec<u8>,
    sent: u64,
    answered: u64,
}

impl Session {
    fn new(id: u64) -> Session {
        let mut head = b"*7\r\n$4\r\nONCE\r\n".to_vec();
        push_number(id, &mut head);
        Session { id, head, sent: 0, answered: 0 }
    }

    /// All that stands before a write's own command.
    fn push_head(&mut self, out: &mut Vec<u8>) {
        self.sent += 1;
        out.extend_from_slice(&self.head);
        push_number(self.sent, out);
        push_number(self.answered + 1, out);
    }
}

/// `key:` and twelve digits, as a bulk string.
fn push_key(key: u64, out: &mut Vec<u8>) {
    let mut text = *b"$16\r\nkey:000000000000\r\n";
    let mut rest = key;
    for digit in text[9..21].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&text);
}

/// A number as a bulk string.
fn push_number(number: u64, out: &mut Vec<u8>) {
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    // A number of 64 bits has at most 20 digits.
    out.push(b'$');
    if digits >= 10 {
        out.push(b'0' + (digits / 10) as u8);
    }
    out.push(b'0' + (digits % 10) as u8);
    out.extend_from_slice(b"\r\n");
    let start = out.len();
    out.resize(start + digits, 0);
    let mut rest = number;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(b"\r\n");
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few instructions a number.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // Neighbouring seeds would give shifted copies of one sequence.
        Random(Random(seed.wrapping_mul(0xA076_1D64_78BD_642F)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`, but for a bias that no measurement sees (Lemire 2019).
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(session: Option<u64>) -> Requests {
        Requests::new(1, 3, 8, Rc::new(Values::new(5)), session)
    }

    /// A request's words, read back.
    fn words(bytes: &[u8]) -> Vec<Vec<u8>> {
        use pontoon_wire::resp::{ReplyLimits, ReplyParser, Value};
        let mut bytes = bytes.into();
        let mut parser = ReplyParser::new(ReplyLimits::default());
        let Some(Value::Array(values)) = parser.parse(&mut bytes).unwrap() else { panic!("an array") };
        assert!(bytes.is_empty());
        let word = |value| if let Value::Bulk(bytes) = value { bytes.to_vec() } else { panic!("{value:?}") };
        values.into_iter().map(word).collect()
    }

    fn next(requests: &mut Requests, work: Work) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        requests.push(work, &mut out).unwrap();
        words(&out)
    }

    #[test]
    fn a_request_is_a_command_with_a_key_and_a_value() {
        let mut requests = requests(None);
        let get = next(&mut requests, Work::Drawn(Op::Get));
        assert_eq!((get.len(), &get[0][..], get[1].len()), (2, &b"GET"[..], 16));
        let append = next(&mut requests, Work::Drawn(Op::Append));
        assert_eq!((append.len(), &append[0][..], append[2].len()), (3, &b"APPEND"[..], 5));
        let key: u64 = std::str::from_utf8(&append[1][4..]).unwrap().parse().unwrap();
        assert!(append[1].starts_with(b"key:") && key < 8);
    }

    #[test]
    fn a_session_numbers_its_writes_and_acknowledges_what_was_answered() {
        let mut requests = requests(Some(1234567890123));
        let put = Work::Drawn(Op::Put);
        for seq in 1..=12 {
            let words = next(&mut requests, put);
            assert_eq!(words[1], b"1234567890123");
            assert_eq!(words[2], seq.to_string().as_bytes());
            assert_eq!(words[3], b"1");
            assert_eq!(words[4], b"SET");
        }
        (0..11).for_each(|_| assert!(!requests.answered(Verb::Put, put, None)));
        assert!(!requests.answered(Verb::Get, put, Some(b"UNKNOWN of a read")));
        assert_eq!(next(&mut requests, Work::Drawn(Op::Get))[0], b"GET");
        assert_eq!(next(&mut requests, put)[3], b"12");
        assert_eq!(words(&requests.farewell().unwrap())[2], b"1234567890123");
    }

    #[test]
    fn every_key_is_written_once_by_all_connections_together() {
        let values = Rc::new(Values::new(0));
        let mut keys = Vec::new();
        for number in 0..3 {
            let mut requests = Requests::new(number, 3, 8, values.clone(), Some(9));
            let mut out = Vec::new();
            while requests.push(Work::EveryKey, &mut out).is_some() {
                keys.push(words(&out)[1].clone());
                out.clear();
            }
        }
        keys.sort();
        let all: Vec<_> = (0..8).map(|key| format!("key:{key:012}").into_bytes()).collect();
        assert_eq!(keys, all);
    }

    #[test]
    fn a_put_of_every_key_whose_outcome_is_unknown_is_done_again_and_not_without_end() {
        let mut requests = Requests::new(0, 1, 3, Rc::new(Values::new(0)), None);
        let key = |requests: &mut Requests| {
            let mut out = Vec::new();
            requests.push(Work::EveryKey, &mut out).map(|_| words(&out)[1].last().copied().unwrap())
        };
        let answered = |requests: &mut Requests, error| requests.answered(Verb::Put, Work::EveryKey, error);
        let unknown = Some(&b"UNKNOWN what happened"[..]);
        assert_eq!([key(&mut requests), key(&mut requests)], [Some(b'0'), Some(b'1')]);
        assert!(answered(&mut requests, unknown) && !answered(&mut requests, Some(b"BUSY try later")));
        assert_eq!([key(&mut requests), key(&mut requests)], [Some(b'0'), Some(b'2')]);
        assert!(!answered(&mut requests, None));
        for _ in 1..AGAIN_MAX {
            assert!(answered(&mut requests, unknown));
            assert_eq!(key(&mut requests), Some(b'2'));
        }
        assert!(!answered(&mut requests, unknown));
        assert_eq!(key(&mut requests), None);
    }
}
