//! Replies as bytes: where each ends, and whether it is an error.
//!
//! The generator has no use for what the replies say, so nothing is copied out of them: `wire`'s parser, which makes values of
//! them, would be most of its cost.

/// A reply that has come as a whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A result.
    Result,
    /// A get's *no such key*.
    Nothing,
    /// An error's line, without its `-`.
    Error(&'a [u8]),
}

/// These bytes are no reply to any of our requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Strange;

/// A line longer than this is none of ours.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The first reply and its length in bytes; none if it has not come as a whole yet.
pub fn first(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Strange> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(Strange) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Strange)?;
    let (kind, rest) = line.split_first().ok_or(Strange)?;
    let after = end + 1;
    match kind {
        b'+' | b':' => Ok(Some((Reply::Result, after))),
        b'-' => Ok(Some((Reply::Error(rest), after))),
        b'$' if rest == b"-1" => Ok(Some((Reply::Nothing, after))),
        b'$' => {
            let length: usize =
                std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()).ok_or(Strange)?;
            let whole = length.checked_add(after + 2).ok_or(Strange)?;
            Ok((bytes.len() >= whole).then_some((Reply::Result, whole)))
        }
        _ => Err(Strange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_and_measured() {
        for (bytes, reply) in [
            (&b"+OK\r\n"[..], Reply::Result),
            (b":12\r\n", Reply::Result),
            (b"$5\r\na\r\nbc\r\n", Reply::Result),
            (b"$0\r\n\r\n", Reply::Result),
            (b"$-1\r\n", Reply::Nothing),
            (b"-BUSY try again\r\n", Reply::Error(b"BUSY try again")),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(first(&bytes[..end]), Ok(None), "{}", bytes.escape_ascii());
            }
            let followed = [bytes, b"+more"].concat();
            assert_eq!(first(&followed), Ok(Some((reply, bytes.len()))));
        }
    }

    #[test]
    fn what_is_no_reply_of_ours_is_refused() {
        for bytes in [
            &b"HTTP/1.1 400\r\n"[..],
            b"*1\r\n",
            b"\r\n",
            b"+OK\n",
            b"$x\r\n",
            b"$-2\r\n",
            &[b'+'; LINE_BYTES_MAX],
        ] {
            assert_eq!(first(bytes), Err(Strange), "{}", bytes.escape_ascii());
        }
    }
}
