//! What somebody between two members understands of their handshake: a proxy of a test, which must know whose connection it
//! carries and where the frames begin.

use bytes::BytesMut;

use super::{
    HandshakeError, Peer,
    codec::{self, Part},
};

/// The first part of what one side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overheard {
    /// Its length. Each side of a handshake that ends well says two parts; what follows is frames.
    pub bytes: usize,
    /// Who speaks and what for, if it says so. Nothing of it is proved.
    pub claimed: Option<Peer>,
}

/// Understands the first part of `said`; `None`: more bytes are needed.
pub fn overhear(said: &[u8]) -> Result<Option<Overheard>, HandshakeError> {
    let mut rest = BytesMut::from(said);
    let Some(part) = codec::decode(&mut rest)? else { return Ok(None) };
    let claimed = match part {
        Part::Hello(hello) => Some(Peer { node: hello.from, purpose: hello.purpose }),
        Part::Proof { .. } | Part::Refusal(_) => None,
    };
    Ok(Some(Overheard { bytes: said.len() - rest.len(), claimed }))
}
