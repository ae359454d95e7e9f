//! `Command` and `Reply`.
//!
//! Command (version 1): a tag byte, then
//!
//! | tag | command | fields |
//! | --- | --- | --- |
//! | 1 | Get | key: bytes |
//! | 2 | StrLen | key: bytes |
//! | 3 | Exists | keys: list of bytes |
//! | 4 | MGet | keys: list of bytes |
//! | 5 | Set | flags: byte (bits 0-1: 0 always, 1 if absent, 2 if present; bit 2: return the old value; others 0), key: bytes, value: bytes |
//! | 6 | Append | key: bytes, value: bytes |
//! | 7 | Del | keys: list of bytes |
//! | 8 | MSet | pairs: list of (key: bytes, value: bytes) |
//! | 9 | IncrBy | key: bytes, delta: signed |
//! | 10 | Batch | commands: list of command; none of them a Batch |
//!
//! Reply (version 1): a tag byte, then
//!
//! | tag | reply | fields |
//! | --- | --- | --- |
//! | 1 | Ok | |
//! | 2 | Nil | |
//! | 3 | Integer | signed |
//! | 4 | Bytes | bytes |
//! | 5 | Array | list of reply; arrays nest at most [`REPLY_DEPTH_MAX`] deep |
//! | 6 | Error | byte: 1 not an integer, 2 overflow, 3 value too large, 4 reply too large |

use bytes::Bytes;

use super::{DecodeError, Decoder, Encoding, put_bytes, put_list, put_signed};
use crate::{Command, CommandError, Reply, SetCondition};

/// A batch of multi-key reads: an array of arrays.
const REPLY_DEPTH_MAX: u32 = 2;

const RETURN_OLD: u8 = 4;

impl Encoding for Command {
    const NAME: &'static str = "command";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Command::Get { key } => put_key(out, 1, key),
            Command::StrLen { key } => put_key(out, 2, key),
            Command::Exists { keys } => put_keys(out, 3, keys),
            Command::MGet { keys } => put_keys(out, 4, keys),
            Command::Set { key, value, condition, return_old } => {
                let condition = match condition {
                    SetCondition::Always => 0,
                    SetCondition::IfAbsent => 1,
                    SetCondition::IfPresent => 2,
                };
                out.extend([5, condition | if *return_old { RETURN_OLD } else { 0 }]);
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Command::Append { key, value } => {
                put_key(out, 6, key);
                put_bytes(out, value);
            }
            Command::Del { keys } => put_keys(out, 7, keys),
            Command::MSet { pairs } => {
                out.push(8);
                put_list(out, pairs, |out, (key, value)| {
                    put_bytes(out, key);
                    put_bytes(out, value);
                });
            }
            Command::IncrBy { key, delta } => {
                put_key(out, 9, key);
                put_signed(out, *delta);
            }
            Command::Batch { commands } => {
                out.push(10);
                put_list(out, commands, |out, command| {
                    assert!(
                        !matches!(command, Command::Batch { .. }),
                        "a batch holds no batch (Command::check)"
                    );
                    command.write(out);
                });
            }
        }
    }

    fn read(from: &mut Decoder) -> Result<Command, DecodeError> {
        match from.byte()? {
            10 => {
                // The shortest command is a tag and an empty list or key.
                let commands = from.list(2, |from| {
                    let tag = from.byte()?;
                    read_single(from, tag)
                })?;
                Ok(Command::Batch { commands })
            }
            tag => read_single(from, tag),
        }
    }
}

fn put_key(out: &mut Vec<u8>, tag: u8, key: &[u8]) {
    out.push(tag);
    put_bytes(out, key);
}

fn put_keys(out: &mut Vec<u8>, tag: u8, keys: &[Bytes]) {
    out.push(tag);
    put_list(out, keys, |out, key| put_bytes(out, key));
}

fn read_single(from: &mut Decoder, tag: u8) -> Result<Command, DecodeError> {
    Ok(match tag {
        1 => Command::Get { key: from.bytes()? },
        2 => Command::StrLen { key: from.bytes()? },
        3 => Command::Exists { keys: read_keys(from)? },
        4 => Command::MGet { keys: read_keys(from)? },
        5 => {
            let flags = from.byte()?;
            let condition = match flags & !RETURN_OLD {
                0 => SetCondition::Always,
                1 => SetCondition::IfAbsent,
                2 => SetCondition::IfPresent,
                _ => return Err(DecodeError::Tag { what: "set", tag: flags }),
            };
            let return_old = flags & RETURN_OLD != 0;
            Command::Set { key: from.bytes()?, value: from.bytes()?, condition, return_old }
        }
        6 => Command::Append { key: from.bytes()?, value: from.bytes()? },
        7 => Command::Del { keys: read_keys(from)? },
        8 => Command::MSet { pairs: from.list(2, |from| Ok((from.bytes()?, from.bytes()?)))? },
        9 => Command::IncrBy { key: from.bytes()?, delta: from.signed()? },
        10 => return Err(DecodeError::Invalid("a batch holds a batch")),
        tag => return Err(DecodeError::Tag { what: "command", tag }),
    })
}

fn read_keys(from: &mut Decoder) -> Result<Vec<Bytes>, DecodeError> {
    from.list(1, Decoder::bytes)
}

impl Encoding for Reply {
    const NAME: &'static str = "reply";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Ok => out.push(1),
            Reply::Nil => out.push(2),
            Reply::Integer(n) => {
                out.push(3);
                put_signed(out, *n);
            }
            Reply::Bytes(bytes) => {
                out.push(4);
                put_bytes(out, bytes);
            }
            Reply::Array(replies) => {
                out.push(5);
                put_list(out, replies, |out, reply| reply.write(out));
            }
            Reply::Error(error) => {
                let code = match error {
                    CommandError::NotAnInteger => 1,
                    CommandError::Overflow => 2,
                    CommandError::ValueTooLarge => 3,
                    CommandError::ReplyTooLarge => 4,
                };
                out.extend([6, code]);
            }
        }
    }

    fn read(from: &mut Decoder) -> Result<Reply, DecodeError> {
        let tag = from.byte()?;
        read_reply(from, tag, 0)
    }
}

/// Reads a reply whose tag has been read; for records in which other tags stand beside it.
pub(crate) fn read_tagged_reply(from: &mut Decoder, tag: u8) -> Result<Reply, DecodeError> {
    read_reply(from, tag, 0)
}

fn read_reply(from: &mut Decoder, tag: u8, depth: u32) -> Result<Reply, DecodeError> {
    Ok(match tag {
        1 => Reply::Ok,
        2 => Reply::Nil,
        3 => Reply::Integer(from.signed()?),
        4 => Reply::Bytes(from.bytes()?),
        5 if depth == REPLY_DEPTH_MAX => return Err(DecodeError::Invalid("a reply nests too deep")),
        5 => Reply::Array(from.list(1, |from| {
            let tag = from.byte()?;
            read_reply(from, tag, depth + 1)
        })?),
        6 => Reply::Error(match from.byte()? {
            1 => CommandError::NotAnInteger,
            2 => CommandError::Overflow,
            3 => CommandError::ValueTooLarge,
            4 => CommandError::ReplyTooLarge,
            tag => return Err(DecodeError::Tag { what: "command error", tag }),
        }),
        tag => return Err(DecodeError::Tag { what: "reply", tag }),
    })
}
