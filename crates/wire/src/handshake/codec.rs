//! The parts of a handshake as bytes.
//!
//! ```text
//! every part:  "PONT"   u8 kind   u32 length, contents       all numbers little-endian
//!
//! 1 Hello:     u16 version   u8 role (1 initiator, 2 responder)   u8 purpose (1 messages, 2 snapshot)
//!              u64 from, to   32 bytes nonce   the rest: cluster id, UTF-8
//! 2 Proof:     32 bytes MAC   the rest: settings, UTF-8
//! 3 Refusal:   why, UTF-8
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pontoon_kv::NodeId;

use super::{HandshakeError, Nonce, PROTOCOL_VERSION, Purpose};

/// The contents of one part, in bytes: all that a stranger can make us hold.
pub const PART_BYTES_MAX: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"PONT";
const HEADER_BYTES: usize = 4 + 1 + 4;
const HELLO_FIXED_BYTES: usize = 2 + 1 + 1 + 8 + 8 + 32;
const MAC_BYTES: usize = 32;
const REFUSAL_BYTES_MAX: usize = 1024;

const HELLO: u8 = 1;
const PROOF: u8 = 2;
const REFUSAL: u8 = 3;

/// Which side says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Initiator,
    Responder,
}

impl Role {
    pub(super) fn other(self) -> Role {
        match self {
            Role::Initiator => Role::Responder,
            Role::Responder => Role::Initiator,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) role: Role,
    pub(super) purpose: Purpose,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) nonce: Nonce,
    pub(super) cluster: String,
}

pub(super) enum Part {
    Hello(Hello),
    Proof { settings: String, mac: [u8; MAC_BYTES] },
    Refusal(String),
}

pub(super) fn encode(part: &Part, out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(MAGIC);
    match part {
        Part::Hello(hello) => {
            out.put_u8(HELLO);
            out.put_u32_le(0);
            out.put_u16_le(PROTOCOL_VERSION);
            out.put_u8(match hello.role {
                Role::Initiator => 1,
                Role::Responder => 2,
            });
            out.put_u8(match hello.purpose {
                Purpose::Messages => 1,
                Purpose::Snapshot => 2,
            });
            out.put_u64_le(hello.from.0);
            out.put_u64_le(hello.to.0);
            out.put_slice(&hello.nonce);
            out.put_slice(hello.cluster.as_bytes());
        }
        Part::Proof { settings, mac } => {
            out.put_u8(PROOF);
            out.put_u32_le(0);
            out.put_slice(mac);
            out.put_slice(settings.as_bytes());
        }
        Part::Refusal(why) => {
            out.put_u8(REFUSAL);
            out.put_u32_le(0);
            out.put_slice(&why.as_bytes()[..why.floor_char_boundary(REFUSAL_BYTES_MAX)]);
        }
    }
    let length = u32::try_from(out.len() - start - HEADER_BYTES).expect("parts are short");
    out[start + 5..start + HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Takes the first part off `input`. `None`: more bytes are needed.
pub(super) fn decode(input: &mut BytesMut) -> Result<Option<Part>, HandshakeError> {
    // Whoever speaks another protocol is found out by the first byte, not after waiting for a whole header.
    let compared = input.len().min(MAGIC.len());
    if input[..compared] != MAGIC[..compared] {
        return Err(HandshakeError::Garbled("its first bytes are not PONT"));
    }
    let Some(header) = input.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let kind = header[4];
    let length = (&header[5..]).get_u32_le() as usize;
    let length_max = if kind == REFUSAL { REFUSAL_BYTES_MAX } else { PART_BYTES_MAX };
    if length > length_max {
        return Err(HandshakeError::Garbled("a part of the handshake is too long"));
    }
    if input.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    input.advance(HEADER_BYTES);
    let contents = input.split_to(length).freeze();
    let part = match kind {
        HELLO => Part::Hello(decode_hello(contents)?),
        PROOF => decode_proof(contents)?,
        REFUSAL => Part::Refusal(printable(&String::from_utf8_lossy(&contents))),
        _ => return Err(HandshakeError::Garbled("an unknown part of the handshake")),
    };
    Ok(Some(part))
}

fn decode_hello(mut contents: Bytes) -> Result<Hello, HandshakeError> {
    // The version stands first and is looked at first: what follows it may change with it.
    let version = contents.try_get_u16_le().map_err(|_| HandshakeError::Garbled("a short hello"))?;
    if version != PROTOCOL_VERSION {
        return Err(HandshakeError::Version { theirs: version });
    }
    if contents.len() < HELLO_FIXED_BYTES - 2 {
        return Err(HandshakeError::Garbled("a short hello"));
    }
    let role = match contents.get_u8() {
        1 => Role::Initiator,
        2 => Role::Responder,
        _ => return Err(HandshakeError::Garbled("an unknown role")),
    };
    let purpose = match contents.get_u8() {
        1 => Purpose::Messages,
        2 => Purpose::Snapshot,
        _ => return Err(HandshakeError::Garbled("an unknown purpose")),
    };
    let (from, to) = (NodeId(contents.get_u64_le()), NodeId(contents.get_u64_le()));
    let mut nonce = Nonce::default();
    contents.copy_to_slice(&mut nonce);
    let cluster = utf8(&contents)?;
    Ok(Hello { role, purpose, from, to, nonce, cluster })
}

fn decode_proof(mut contents: Bytes) -> Result<Part, HandshakeError> {
    if contents.len() < MAC_BYTES {
        return Err(HandshakeError::Garbled("a short proof"));
    }
    let mut mac = [0; MAC_BYTES];
    contents.copy_to_slice(&mut mac);
    Ok(Part::Proof { settings: utf8(&contents)?, mac })
}

fn utf8(contents: &[u8]) -> Result<String, HandshakeError> {
    String::from_utf8(contents.to_vec()).map_err(|_| HandshakeError::Garbled("text that is not UTF-8"))
}

/// What a stranger says goes into our log: one line, no control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
