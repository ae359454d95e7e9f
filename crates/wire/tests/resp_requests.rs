//! What a server makes of the bytes that clients send.

mod common;

use bytes::{Bytes, BytesMut};
use common::with_seeds;
use pontoon_wire::resp::{Parsed, ProtocolError, RequestLimits, RequestParser, encode_request};

fn parser() -> RequestParser {
    RequestParser::new(RequestLimits::default())
}

/// All requests in `bytes`, and how it ended.
fn requests(bytes: &[u8]) -> (Vec<Vec<Bytes>>, Result<(), ProtocolError>) {
    let (mut parser, mut buf) = (parser(), BytesMut::from(bytes));
    let mut requests = Vec::new();
    loop {
        match parser.parse(&mut buf) {
            Ok(Some(Parsed::Request(arguments))) => requests.push(arguments),
            Ok(Some(large)) => panic!("{large:?}"),
            Ok(None) => return (requests, Ok(())),
            Err(error) => return (requests, Err(error)),
        }
    }
}

fn one(bytes: &[u8]) -> Vec<Bytes> {
    let (mut requests, end) = requests(bytes);
    assert_eq!((requests.len(), end), (1, Ok(())), "{}", bytes.escape_ascii());
    requests.remove(0)
}

fn error(bytes: &[u8]) -> String {
    let (_, end) = requests(bytes);
    end.expect_err(&bytes.escape_ascii().to_string()).to_string()
}

#[test]
fn arrays_of_bulk_strings_are_requests_and_may_hold_any_bytes() {
    assert_eq!(one(b"*2\r\n$3\r\nGET\r\n$4\r\na\r\n\x00\r\n"), [&b"GET"[..], b"a\r\n\0"]);
    assert_eq!(one(b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"), [&b"ECHO"[..], b""]);
}

#[test]
fn pipelined_requests_come_one_by_one_and_in_order() {
    let (requests, end) =
        requests(b"*1\r\n$4\r\nPING\r\nGET a\r\n*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n*1\r\n$4\r\nPI");
    assert_eq!(requests, [vec!["PING"], vec!["GET", "a"], vec!["DEL", "b"]]);
    assert_eq!(end, Ok(()), "half a request waits for its other half");
}

#[test]
fn empty_arrays_and_lines_are_passed_over() {
    let (requests, end) = requests(b"\r\n*0\r\n*-1\r\n\n   \r\nPING\r\n");
    assert_eq!((requests, end), (vec![vec![Bytes::from("PING")]], Ok(())));
}

#[test]
fn inline_requests_follow_redis_quoting_rules() {
    for (line, arguments) in [
        (&b"SET key value\r\n"[..], vec![&b"SET"[..], b"key", b"value"]),
        (b"  SET\tkey   value  \n", vec![b"SET", b"key", b"value"]),
        (b"ECHO \"a b\"\r\n", vec![b"ECHO", b"a b"]),
        (
            b"ECHO \"\\x00\\xfF\\n\\r\\t\\b\\a\\\"\\\\\\q\\xg\"\r\n",
            vec![b"ECHO", b"\0\xff\n\r\t\x08\x07\"\\qxg"],
        ),
        (b"ECHO 'a \\' \\n \"b'\r\n", vec![b"ECHO", b"a ' \\n \"b"]),
        (b"ECHO a\"b c\" ''\r\n", vec![b"ECHO", b"ab c", b""]),
    ] {
        assert_eq!(one(line), arguments, "{}", line.escape_ascii());
    }
    for line in
        [&b"ECHO \"a\r\n"[..], b"ECHO 'a\r\n", b"ECHO \"a\"b\r\n", b"ECHO 'a'b\r\n", b"ECHO \"a\\\r\n"]
    {
        assert_eq!(error(line), "Protocol error: unbalanced quotes in request", "{}", line.escape_ascii());
    }
}

#[test]
fn errors_have_the_texts_of_redis() {
    for (bytes, text) in [
        (&b"*x\r\n"[..], "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
        (b"*+1\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$x\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
        (b"*1\r\n\x01", "Protocol error: expected '$', got '\\x01'"),
        (b"*1111111111111111111111111111111", "Protocol error: too big mbulk count string"),
        (b"*1\r\n$111111111111111111111111111111111", "Protocol error: too big bulk count string"),
        (b"*1\r\n$1\r\nab\r\n", "Protocol error: expected CRLF after a bulk string"),
    ] {
        assert_eq!(error(bytes), text, "{}", bytes.escape_ascii());
    }
    assert_eq!(error(&[b'a'; 65 << 10]), "Protocol error: too big inline request");
    let mut line = vec![b'a'; 65 << 10];
    line.push(b'\n');
    assert_eq!(error(&line), "Protocol error: too big inline request");
}

#[test]
fn requests_survive_being_encoded_and_cut_anywhere() {
    with_seeds(0..300, |random| {
        let sent: Vec<Vec<Vec<u8>>> = (0..1 + random.below(5))
            .map(|_| {
                (0..1 + random.below(6))
                    .map(|_| {
                        let length = random.below(40);
                        random.bytes(length)
                    })
                    .collect()
            })
            .collect();
        let mut bytes = BytesMut::new();
        sent.iter().for_each(|request| encode_request(request, &mut bytes));
        let (mut parser, mut buf, mut received) = (parser(), BytesMut::new(), Vec::new());
        while !bytes.is_empty() {
            let packet = 1 + random.below(bytes.len().min(30));
            buf.unsplit(bytes.split_to(packet));
            while let Some(parsed) = parser.parse(&mut buf).expect("well-formed") {
                let Parsed::Request(arguments) = parsed else { panic!("{parsed:?}") };
                received.push(arguments);
            }
        }
        assert_eq!(received, sent);
        assert!(buf.is_empty());
    });
}

#[test]
fn arguments_share_the_buffers_memory() {
    let mut buf = BytesMut::from(&b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n"[..]);
    let memory = buf.as_ptr() as usize..buf.as_ptr() as usize + buf.len();
    let Ok(Some(Parsed::Request(arguments))) = parser().parse(&mut buf) else { panic!("whole") };
    assert!(arguments.iter().all(|argument| memory.contains(&(argument.as_ptr() as usize))));
}

#[test]
fn a_large_value_in_small_packets_takes_time_in_proportion_to_its_size() {
    const LENGTH: usize = 16 << 20;
    let mut parser = parser();
    let mut buf = BytesMut::new();
    buf.extend_from_slice(format!("*1\r\n${LENGTH}\r\n").as_bytes());
    let start = std::time::Instant::now();
    // A parser that looked at all bytes anew for each packet would touch 2^42 of them.
    for _ in 0..LENGTH / 32 {
        assert_eq!(parser.parse(&mut buf), Ok(None));
        buf.extend_from_slice(&[7; 32]);
    }
    buf.extend_from_slice(b"\r\n");
    let Ok(Some(Parsed::Request(arguments))) = parser.parse(&mut buf) else { panic!("whole") };
    assert_eq!(arguments[0].len(), LENGTH);
    assert!(start.elapsed().as_secs() < 20, "took {:?}", start.elapsed());
}

#[test]
fn a_declared_length_allocates_nothing() {
    let mut parser = parser();
    let mut buf = BytesMut::from(&b"*1048576\r\n$16777216\r\nabc"[..]);
    let capacity = buf.capacity();
    assert_eq!(parser.parse(&mut buf), Ok(None));
    assert_eq!(buf.capacity(), capacity);
}

#[test]
fn a_request_over_a_limit_is_skipped_in_bounded_memory_and_the_next_one_is_read() {
    let limits = RequestLimits {
        bulk_bytes_max: 100,
        request_bytes_max: 300,
        arguments_max: 100,
        inline_bytes_max: 100,
    };
    let long = vec![b'x'; 1_000_000];
    let cases: [Vec<&[u8]>; 4] = [
        vec![b"SET", b"k", &long],
        vec![b"SET", &long, &long, b"NX"],
        vec![b"MSET", &long[..90], &long[..90], &long[..90], &long[..90], b"z"],
        vec![&long],
    ];
    for request in cases {
        let mut bytes = BytesMut::new();
        encode_request(&request, &mut bytes);
        let length = bytes.len() as u64;
        encode_request(&["PING"], &mut bytes);
        let (mut parser, mut buf, mut parsed) = (RequestParser::new(limits), BytesMut::new(), Vec::new());
        while !bytes.is_empty() {
            let packet = bytes.len().min(64);
            buf.extend_from_slice(&bytes.split_to(packet));
            while let Some(one) = parser.parse(&mut buf).expect("well-formed") {
                parsed.push(one);
            }
            assert!(buf.len() <= limits.request_bytes_max + 64, "{} bytes are held", buf.len());
        }
        assert_eq!(parsed, [Parsed::TooLarge { bytes: length }, Parsed::Request(vec![Bytes::from("PING")])]);
    }
}

#[test]
fn limits_are_inclusive() {
    let mut bytes = BytesMut::new();
    encode_request(&[vec![b'x'; 100], vec![b'y'; 100]], &mut bytes);
    let exact = RequestLimits {
        arguments_max: 2,
        bulk_bytes_max: 100,
        request_bytes_max: bytes.len(),
        inline_bytes_max: 100,
    };
    let parse = |limits, bytes: &BytesMut| RequestParser::new(limits).parse(&mut bytes.clone());
    assert!(matches!(parse(exact, &bytes), Ok(Some(Parsed::Request(_)))));
    let tighter = RequestLimits { bulk_bytes_max: 99, ..exact };
    assert!(matches!(parse(tighter, &bytes), Ok(Some(Parsed::TooLarge { .. }))));
    let tighter = RequestLimits { request_bytes_max: bytes.len() - 1, ..exact };
    assert!(matches!(parse(tighter, &bytes), Ok(Some(Parsed::TooLarge { .. }))));
    let tighter = RequestLimits { arguments_max: 1, ..exact };
    assert_eq!(parse(tighter, &bytes), Err(ProtocolError::InvalidMultibulkLength));
}
