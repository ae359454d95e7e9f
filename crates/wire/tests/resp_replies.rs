//! Replies there and back.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Random, with_seeds};
use pontoon_wire::resp::{Protocol, ProtocolError, ReplyLimits, ReplyParser, Value, encode};

fn encoded(value: &Value, protocol: Protocol) -> BytesMut {
    let mut out = BytesMut::new();
    encode(value, protocol, &mut out);
    out
}

fn parse(bytes: &[u8]) -> Result<Option<Value>, ProtocolError> {
    ReplyParser::default().parse(&mut BytesMut::from(bytes))
}

#[test]
fn each_type_has_its_bytes_in_each_protocol() {
    let bulk = |text: &'static str| Value::Bulk(Bytes::from(text));
    for (value, resp2, resp3) in [
        (Value::OK, "+OK\r\n", "+OK\r\n"),
        (Value::Error("ERR no".into()), "-ERR no\r\n", "-ERR no\r\n"),
        (Value::Integer(0), ":0\r\n", ":0\r\n"),
        (Value::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
        (bulk(""), "$0\r\n\r\n", "$0\r\n\r\n"),
        (bulk("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
        (Value::Null, "$-1\r\n", "_\r\n"),
        (Value::Array(vec![]), "*0\r\n", "*0\r\n"),
        (Value::Array(vec![bulk("a"), Value::Null]), "*2\r\n$1\r\na\r\n$-1\r\n", "*2\r\n$1\r\na\r\n_\r\n"),
        (
            Value::Map(vec![(bulk("k"), Value::Integer(1))]),
            "*2\r\n$1\r\nk\r\n:1\r\n",
            "%1\r\n$1\r\nk\r\n:1\r\n",
        ),
        (Value::Set(vec![Value::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
        (Value::Push(vec![Value::Integer(1)]), "*1\r\n:1\r\n", ">1\r\n:1\r\n"),
        (Value::Boolean(true), ":1\r\n", "#t\r\n"),
        (Value::Boolean(false), ":0\r\n", "#f\r\n"),
        (Value::Double(-1.5), "$4\r\n-1.5\r\n", ",-1.5\r\n"),
        (Value::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
        (
            Value::BigNumber("12345678901234567890".into()),
            "$20\r\n12345678901234567890\r\n",
            "(12345678901234567890\r\n",
        ),
        (Value::Verbatim { format: *b"txt", text: Bytes::from("hi") }, "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
    ] {
        assert_eq!(encoded(&value, Protocol::Resp2), resp2.as_bytes(), "{value:?}");
        assert_eq!(encoded(&value, Protocol::Resp3), resp3.as_bytes(), "{value:?}");
    }
}

#[test]
fn a_text_cannot_forge_a_second_reply() {
    let forged = Value::Error("ERR unknown command 'x\r\n+OK'".into());
    assert_eq!(encoded(&forged, Protocol::Resp2), &b"-ERR unknown command 'x  +OK'\r\n"[..]);
}

#[test]
fn every_value_survives_the_way_there_and_back_cut_anywhere() {
    with_seeds(0..500, |random| {
        let sent: Vec<Value> = (0..1 + random.below(4)).map(|_| value(random, 4)).collect();
        let mut bytes = BytesMut::new();
        sent.iter().for_each(|value| encode(value, Protocol::Resp3, &mut bytes));
        let (mut parser, mut buf, mut received) = (ReplyParser::default(), BytesMut::new(), Vec::new());
        while !bytes.is_empty() {
            let packet = 1 + random.below(bytes.len().min(20));
            buf.unsplit(bytes.split_to(packet));
            while let Some(value) = parser.parse(&mut buf).expect("well-formed") {
                received.push(value);
            }
        }
        assert_eq!(received, sent);
    });
}

fn value(random: &mut Random, depth: usize) -> Value {
    let length = random.below(20);
    let below = depth.saturating_sub(1);
    match random.below(if depth == 0 { 9 } else { 13 }) {
        0 => Value::Simple("OK then".into()),
        1 => Value::Error("ERR why".into()),
        2 => Value::Integer(random.number().cast_signed()),
        3 => Value::Bulk(Bytes::from(random.bytes(length))),
        4 => Value::Null,
        5 => Value::Boolean(random.chance(2)),
        6 => Value::Double(random.next() as f64 / 1024.0),
        7 => Value::BigNumber(format!("-{}", random.next()).into()),
        8 => Value::Verbatim { format: *b"mkd", text: Bytes::from(random.bytes(length)) },
        9 => Value::Map((0..random.below(4)).map(|_| (value(random, below), value(random, below))).collect()),
        10 => Value::Set((0..random.below(4)).map(|_| value(random, below)).collect()),
        11 => Value::Push((0..random.below(4)).map(|_| value(random, below)).collect()),
        _ => Value::Array((0..random.below(4)).map(|_| value(random, below)).collect()),
    }
}

#[test]
fn both_nulls_of_resp2_and_long_errors_are_understood() {
    assert_eq!(parse(b"$-1\r\n"), Ok(Some(Value::Null)));
    assert_eq!(parse(b"*-1\r\n"), Ok(Some(Value::Null)));
    assert_eq!(parse(b"!8\r\nERR a\r\nb\r\n"), Ok(Some(Value::Error("ERR a\r\nb".into()))));
}

#[test]
fn attributes_are_read_and_dropped() {
    assert_eq!(parse(b"|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n"), Ok(Some(Value::Bulk(Bytes::from("a")))));
    let nested = b"*2\r\n|0\r\n:1\r\n|1\r\n+a\r\n*1\r\n+b\r\n:2\r\n";
    assert_eq!(parse(nested), Ok(Some(Value::Array(vec![Value::Integer(1), Value::Integer(2)]))));
}

#[test]
fn what_is_no_reply_is_refused() {
    for bytes in [
        &b"x\r\n"[..],
        b":1x\r\n",
        b":\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"$?\r\n",
        b"*-2\r\n",
        b"#x\r\n",
        b"_x\r\n",
        b",x\r\n",
        b"(x\r\n",
        b"(-\r\n",
        b"=2\r\nab\r\n",
        b"$1\r\nabc",
        b"+OK\n",
        b"\r\n",
    ] {
        assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn sizes_counts_and_nesting_are_bounded() {
    let limits = ReplyLimits {
        bulk_bytes_max: 10,
        reply_bytes_max: 60,
        elements_max: 5,
        depth_max: 2,
        line_bytes_max: 25,
    };
    let parse = |bytes: &[u8]| ReplyParser::new(limits).parse(&mut BytesMut::from(bytes));
    assert_eq!(parse(b"$11\r\n"), Err(ProtocolError::ReplyTooLarge("bulk_bytes_max")));
    assert_eq!(parse(b"*6\r\n"), Err(ProtocolError::ReplyTooLarge("elements_max")));
    assert_eq!(parse(b"*9223372036854775807\r\n"), Err(ProtocolError::Malformed("length")));
    assert_eq!(parse(b"%4611686018427387903\r\n"), Err(ProtocolError::ReplyTooLarge("elements_max")));
    assert_eq!(parse(b"*1\r\n*1\r\n*1\r\n"), Err(ProtocolError::ReplyTooLarge("depth_max")));
    assert_eq!(parse(b"+aaaaaaaaaaaaaaaaaaaaaaaaaa"), Err(ProtocolError::ReplyTooLarge("line_bytes_max")));
    let five = b"*4\r\n$10\r\naaaaaaaaaa\r\n$10\r\naaaaaaaaaa\r\n$10\r\naaaaaaaaaa\r\n$10\r\n";
    assert_eq!(parse(five), Err(ProtocolError::ReplyTooLarge("reply_bytes_max")));
    assert_eq!(parse(b"*2\r\n$10\r\naaaaaaaaaa\r\n*1\r\n:1\r\n").map(|value| value.is_some()), Ok(true));
}

#[test]
fn deep_nesting_does_not_exhaust_the_stack() {
    let bytes = b"*1\r\n".repeat(1_000_000);
    assert_eq!(parse(&bytes), Err(ProtocolError::ReplyTooLarge("depth_max")));
}
