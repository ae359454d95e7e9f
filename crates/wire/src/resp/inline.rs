//! Inline requests: a line as a person types it into telnet, split by Redis's quoting rules (`sdssplitargs`).

use bytes::Bytes;

use super::ProtocolError;

/// Splits a line into its arguments. Arguments without quotes share the line's memory.
///
/// `"..."` knows the escapes `\xHH`, `\n`, `\r`, `\t`, `\b`, `\a` and stands for the next byte after any other backslash;
/// `'...'` knows only `\'`. A closing quote must be followed by a space or by the line's end.
pub(super) fn split(line: &Bytes) -> Result<Vec<Bytes>, ProtocolError> {
    let mut arguments = Vec::new();
    let mut at = 0;
    loop {
        while at < line.len() && is_space(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(arguments);
        }
        arguments.push(argument(line, &mut at)?);
    }
}

/// One argument from `at` on, which it moves behind it.
fn argument(line: &Bytes, at: &mut usize) -> Result<Bytes, ProtocolError> {
    let start = *at;
    while *at < line.len() && !is_space(line[*at]) && !is_quote(line[*at]) {
        *at += 1;
    }
    if *at == line.len() || is_space(line[*at]) {
        return Ok(line.slice(start..*at));
    }
    // A quote may also open in the middle of a word: `a"b c"` is one argument.
    let mut text = line[start..*at].to_vec();
    while *at < line.len() && !is_space(line[*at]) {
        let byte = line[*at];
        *at += 1;
        match byte {
            b'"' => double_quoted(line, at, &mut text)?,
            b'\'' => single_quoted(line, at, &mut text)?,
            _ => {
                text.push(byte);
                continue;
            }
        }
        if *at < line.len() && !is_space(line[*at]) {
            return Err(ProtocolError::UnbalancedQuotes);
        }
    }
    Ok(Bytes::from(text))
}

fn double_quoted(line: &[u8], at: &mut usize, text: &mut Vec<u8>) -> Result<(), ProtocolError> {
    loop {
        let (byte, length) = match line[*at..] {
            [b'"', ..] => {
                *at += 1;
                return Ok(());
            }
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(high) << 4 | hex(low), 4)
            }
            [b'\\', escaped, ..] => (unescape(escaped), 2),
            [byte, ..] => (byte, 1),
            [] => return Err(ProtocolError::UnbalancedQuotes),
        };
        text.push(byte);
        *at += length;
    }
}

fn single_quoted(line: &[u8], at: &mut usize, text: &mut Vec<u8>) -> Result<(), ProtocolError> {
    loop {
        let (byte, length) = match line[*at..] {
            [b'\'', ..] => {
                *at += 1;
                return Ok(());
            }
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (byte, 1),
            [] => return Err(ProtocolError::UnbalancedQuotes),
        };
        text.push(byte);
        *at += length;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

fn is_quote(byte: u8) -> bool {
    byte == b'"' || byte == b'\''
}

/// C's `isspace`, and the NUL at which Redis's scanner ends a word.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | 0)
}
