//! Replies and requests into bytes.

use bytes::{BufMut, BytesMut};

use super::{Protocol, Value};

/// Appends a reply to `out`. Line ends inside of simple strings and errors become spaces, so that no text can forge a reply.
pub fn encode(value: &Value, protocol: Protocol, out: &mut BytesMut) {
    let resp3 = protocol == Protocol::Resp3;
    match value {
        Value::Simple(text) => line(b'+', text, out),
        Value::Error(text) => line(b'-', text, out),
        Value::Integer(number) => header(b':', *number, out),
        Value::Bulk(bytes) => bulk(bytes, out),
        Value::Null => out.put_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
        Value::Array(values) => all(b'*', values, protocol, out),
        Value::Set(values) => all(if resp3 { b'~' } else { b'*' }, values, protocol, out),
        Value::Push(values) => all(if resp3 { b'>' } else { b'*' }, values, protocol, out),
        Value::Map(pairs) => {
            let (kind, count) = if resp3 { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
            header(kind, length(count), out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Value::Boolean(truth) if resp3 => out.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Boolean(truth) => header(b':', i64::from(*truth), out),
        Value::Double(number) if resp3 => line(b',', &decimal(*number), out),
        Value::Double(number) => bulk(decimal(*number).as_bytes(), out),
        Value::BigNumber(digits) if resp3 => line(b'(', digits, out),
        Value::BigNumber(digits) => bulk(digits.as_bytes(), out),
        Value::Verbatim { format, text } if resp3 => {
            header(b'=', length(text.len() + 4), out);
            out.put_slice(format);
            out.put_u8(b':');
            out.put_slice(text);
            out.put_slice(b"\r\n");
        }
        Value::Verbatim { text, .. } => bulk(text, out),
    }
}

/// Appends a request to `out`: an array of bulk strings, in RESP2 and RESP3 alike.
pub fn encode_request(args: &[impl AsRef<[u8]>], out: &mut BytesMut) {
    header(b'*', length(args.len()), out);
    for arg in args {
        bulk(arg.as_ref(), out);
    }
}

fn all(kind: u8, values: &[Value], protocol: Protocol, out: &mut BytesMut) {
    header(kind, length(values.len()), out);
    for value in values {
        encode(value, protocol, out);
    }
}

fn bulk(bytes: &[u8], out: &mut BytesMut) {
    // One reservation for all of it: 32 bytes hold the header and the line end.
    out.reserve(bytes.len() + 32);
    header(b'$', length(bytes.len()), out);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn line(kind: u8, text: &str, out: &mut BytesMut) {
    out.reserve(text.len() + 3);
    out.put_u8(kind);
    let start = out.len();
    out.put_slice(text.as_bytes());
    for byte in &mut out[start..] {
        if *byte == b'\r' || *byte == b'\n' {
            *byte = b' ';
        }
    }
    out.put_slice(b"\r\n");
}

/// `<kind><number>\r\n`, without the detour through `fmt`: several of these stand in every reply.
fn header(kind: u8, number: i64, out: &mut BytesMut) {
    let mut text = [0; 24];
    let mut at = text.len() - 2;
    text[at..].copy_from_slice(b"\r\n");
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        text[at] = b'-';
    }
    at -= 1;
    text[at] = kind;
    out.put_slice(&text[at..]);
}

fn length(count: usize) -> i64 {
    i64::try_from(count).expect("no collection in memory has 2^63 elements")
}

/// RESP3's spelling of a double.
fn decimal(number: f64) -> String {
    if number.is_nan() {
        "nan".to_string()
    } else if number.is_infinite() {
        if number > 0.0 { "inf" } else { "-inf" }.to_string()
    } else {
        format!("{number}")
    }
}
