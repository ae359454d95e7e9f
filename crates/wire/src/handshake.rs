//! What two members prove to one another on a new connection, before any frame is parsed.
//!
//! ```text
//!   initiator                                       responder
//!   Hello { cluster, from, to, purpose, nonce } ──►
//!                                               ◄── Hello { cluster, from, to, purpose, nonce }
//!   Proof { settings, mac }                     ──►
//!                                               ◄── Proof { settings, mac }      or Refusal { why }
//! ```
//!
//! `mac` is HMAC-SHA256 under the cluster's shared secret over the sender's role, both hellos as they were sent, and the
//! sender's settings. So each side proves that it knows the secret *now* (the other side's fresh nonce is in it), for *this*
//! pair of members, purpose and direction: a proof can neither be replayed nor be reflected, and neither the hellos nor the
//! settings can be changed on the way. The initiator proves itself first: a stranger that connects gets no MAC to guess at.
//!
//! The secret itself never travels. The settings do, in clear: they hold nothing secret.
//!
//! Like all of this crate it does no I/O: the caller moves bytes, brings the nonce (from the operating system's source of
//! randomness, a new one each time) and ends a handshake that takes too long.

mod codec;
mod overheard;
mod settings;

use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use pontoon_kv::NodeId;
use sha2::Sha256;

pub use codec::PART_BYTES_MAX;
use codec::{Hello, Part, Role};
pub use overheard::{Overheard, overhear};

/// The version of everything that members say to one another: this handshake, frames, and what they mean.
pub const PROTOCOL_VERSION: u16 = 1;

/// Bytes that are used only once, so that no proof fits twice.
pub type Nonce = [u8; 32];

/// What a connection between members is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Messages of the groups, from the initiator to the responder.
    Messages,
    /// One snapshot.
    Snapshot,
}

/// Who a member is and what it goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name; members of different clusters refuse one another.
    pub cluster: String,
    /// This member.
    pub node: NodeId,
    /// What all members know. Empty: nothing is proved (only where all members are on loopback).
    pub secret: Vec<u8>,
    /// The settings that must agree on all members, as canonical text: one `name value` a line, in a fixed order.
    pub settings: String,
}

/// Who is at the other end, proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The member.
    pub node: NodeId,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// Why two members do not talk. Each text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not a Pontoon member, or a damaged stream.
    #[error(
        "the other side does not speak Pontoon's peer protocol ({0}): check that the address is a member's peer address"
    )]
    Garbled(&'static str),
    /// Another version of the program.
    #[error(
        "the other member speaks version {theirs} of the peer protocol, this one version {PROTOCOL_VERSION}: run the same version of pontoon on all members"
    )]
    Version {
        /// What it speaks.
        theirs: u16,
    },
    /// Another cluster.
    #[error(
        "the other member belongs to cluster {theirs:?}, this one to {ours:?}: check the members' addresses and the cluster id"
    )]
    Cluster {
        /// Our cluster.
        ours: String,
        /// Theirs.
        theirs: String,
    },
    /// The addresses are mixed up: the initiator wanted somebody else.
    #[error(
        "the connection was meant for member {wanted}, and this is member {found}: check the addresses in the cluster's membership"
    )]
    WrongMember {
        /// Whom the initiator wanted.
        wanted: NodeId,
        /// Whom it found.
        found: NodeId,
    },
    /// Two members run under one id, or a member reached itself.
    #[error("the other side is also member {0}: give each member its own id and address")]
    SameMember(NodeId),
    /// The proof is wrong.
    #[error(
        "member {0} does not know the cluster's secret, or somebody changed what it said: set the same secret on all members"
    )]
    WrongSecret(NodeId),
    /// The settings differ.
    #[error("member {peer} has other settings: {difference}; make the cluster settings equal on all members")]
    Settings {
        /// The other member.
        peer: NodeId,
        /// The first lines that differ.
        difference: String,
    },
    /// The other side found an error and said so. (Anybody can say so: nothing is proved at that point.)
    #[error("the other member refused the connection: {0}")]
    Refused(String),
    /// Our settings do not fit a handshake.
    #[error(
        "the cluster's id and settings take {0} bytes, more than the peer protocol carries ({PART_BYTES_MAX}): shorten the membership's addresses"
    )]
    SettingsTooLong(usize),
}

/// One side of a handshake: a step function of the bytes that come in.
pub struct Handshake {
    identity: Identity,
    state: State,
}

enum State {
    /// Initiator: has said nothing yet.
    Start { hello: Hello },
    /// Initiator: waits for the responder's hello.
    AwaitHello { ours: Hello },
    /// Responder: waits for the initiator's hello.
    AwaitInitiator { nonce: Nonce },
    /// Either side: waits for the other's proof.
    AwaitProof { hellos: Hellos, role: Role },
    /// It is over, well or not.
    Ended,
}

/// Both hellos, in the order they were said.
struct Hellos {
    initiator: Hello,
    responder: Hello,
}

impl Handshake {
    /// The side that opened the connection, to reach `peer`.
    pub fn initiator(identity: Identity, peer: NodeId, purpose: Purpose, nonce: Nonce) -> Handshake {
        let hello = Hello {
            role: Role::Initiator,
            purpose,
            from: identity.node,
            to: peer,
            nonce,
            cluster: identity.cluster.clone(),
        };
        Handshake { identity, state: State::Start { hello } }
    }

    /// The side that accepted the connection.
    pub fn responder(identity: Identity, nonce: Nonce) -> Handshake {
        Handshake { identity, state: State::AwaitInitiator { nonce } }
    }

    /// Goes on with the bytes in `input`, taking off what it understood; `out` gets what must be sent, *also when the result
    /// is an error*. Call it once at the start (the initiator speaks first) and then whenever bytes have come.
    ///
    /// `Some`: done; the rest of `input` belongs to the frames that follow. `None`: more bytes are needed. After an error
    /// send `out` and close the connection.
    pub fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Peer>, HandshakeError> {
        loop {
            match self.advance(input, out) {
                Ok(Progress::Again) => {}
                Ok(Progress::NeedsBytes) => return Ok(None),
                Ok(Progress::Done(peer)) => {
                    self.state = State::Ended;
                    return Ok(Some(peer));
                }
                Err(error) => {
                    self.state = State::Ended;
                    // A refusal is not answered with a refusal; and what garbles does not understand one.
                    if !matches!(error, HandshakeError::Refused(_) | HandshakeError::Garbled(_)) {
                        codec::encode(&Part::Refusal(error.to_string()), out);
                    }
                    return Err(error);
                }
            }
        }
    }

    fn advance(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Progress, HandshakeError> {
        if let State::Start { hello } = &self.state {
            self.check_room()?;
            let ours = hello.clone();
            codec::encode(&Part::Hello(ours.clone()), out);
            self.state = State::AwaitHello { ours };
            return Ok(Progress::Again);
        }
        if matches!(self.state, State::Ended) {
            return Err(HandshakeError::Garbled("the handshake has ended"));
        }
        let Some(part) = codec::decode(input)? else { return Ok(Progress::NeedsBytes) };
        match (std::mem::replace(&mut self.state, State::Ended), part) {
            (_, Part::Refusal(why)) => Err(HandshakeError::Refused(why)),
            (State::AwaitInitiator { nonce }, Part::Hello(theirs)) => {
                self.check_room()?;
                self.check_hello(&theirs, Role::Initiator)?;
                let ours = self.answer(&theirs, nonce);
                codec::encode(&Part::Hello(ours.clone()), out);
                let hellos = Hellos { initiator: theirs, responder: ours };
                self.state = State::AwaitProof { hellos, role: Role::Responder };
                Ok(Progress::Again)
            }
            (State::AwaitHello { ours }, Part::Hello(theirs)) => {
                self.check_hello(&theirs, Role::Responder)?;
                if theirs.from != ours.to {
                    return Err(HandshakeError::WrongMember { wanted: ours.to, found: theirs.from });
                }
                if theirs.purpose != ours.purpose || theirs.nonce == ours.nonce {
                    return Err(HandshakeError::Garbled("its hello does not answer ours"));
                }
                let hellos = Hellos { initiator: ours, responder: theirs };
                self.prove(&hellos, Role::Initiator, out);
                self.state = State::AwaitProof { hellos, role: Role::Initiator };
                Ok(Progress::Again)
            }
            (State::AwaitProof { hellos, role }, Part::Proof { settings, mac }) => {
                let theirs = hellos.of(role.other());
                let expected = self.mac(&hellos, role.other(), settings.as_bytes());
                // Compares in constant time.
                expected.verify_slice(&mac).map_err(|_| HandshakeError::WrongSecret(theirs.from))?;
                if role == Role::Responder {
                    // Also if the settings differ: the initiator then finds the difference itself, proved.
                    self.prove(&hellos, Role::Responder, out);
                }
                if let Some(difference) = settings::difference(&self.identity.settings, &settings) {
                    return Err(HandshakeError::Settings { peer: theirs.from, difference });
                }
                Ok(Progress::Done(Peer { node: theirs.from, purpose: theirs.purpose }))
            }
            _ => Err(HandshakeError::Garbled("a part of the handshake out of turn")),
        }
    }

    /// Our own parts must fit, or the other side would call us garbled.
    fn check_room(&self) -> Result<(), HandshakeError> {
        let bytes = self.identity.cluster.len() + self.identity.settings.len();
        // 256 bytes hold what else a part consists of.
        if bytes + 256 > PART_BYTES_MAX { Err(HandshakeError::SettingsTooLong(bytes)) } else { Ok(()) }
    }

    fn check_hello(&self, theirs: &Hello, role: Role) -> Result<(), HandshakeError> {
        if theirs.role != role {
            return Err(HandshakeError::Garbled("its hello has our role"));
        }
        if theirs.cluster != self.identity.cluster {
            let ours = self.identity.cluster.clone();
            return Err(HandshakeError::Cluster { ours, theirs: theirs.cluster.clone() });
        }
        if theirs.from == self.identity.node {
            return Err(HandshakeError::SameMember(theirs.from));
        }
        if theirs.to != self.identity.node {
            return Err(HandshakeError::WrongMember { wanted: theirs.to, found: self.identity.node });
        }
        Ok(())
    }

    fn answer(&self, theirs: &Hello, nonce: Nonce) -> Hello {
        Hello {
            role: Role::Responder,
            purpose: theirs.purpose,
            from: self.identity.node,
            to: theirs.from,
            nonce,
            cluster: self.identity.cluster.clone(),
        }
    }

    fn prove(&self, hellos: &Hellos, role: Role, out: &mut BytesMut) {
        let settings = self.identity.settings.clone();
        let mac = self.mac(hellos, role, settings.as_bytes()).finalize().into_bytes().into();
        codec::encode(&Part::Proof { settings, mac }, out);
    }

    /// The proof of the side in `role` with these settings.
    fn mac(&self, hellos: &Hellos, role: Role, settings: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.identity.secret).expect("HMAC takes keys of any length");
        mac.update(match role {
            Role::Initiator => b"pontoon peer initiator\0",
            Role::Responder => b"pontoon peer responder\0",
        });
        // Every part carries its own length, so no two different conversations give the same bytes.
        let mut transcript = BytesMut::new();
        codec::encode(&Part::Hello(hellos.initiator.clone()), &mut transcript);
        codec::encode(&Part::Hello(hellos.responder.clone()), &mut transcript);
        mac.update(&transcript);
        mac.update(&(settings.len() as u64).to_le_bytes());
        mac.update(settings);
        mac
    }
}

enum Progress {
    Again,
    NeedsBytes,
    Done(Peer),
}

impl Hellos {
    fn of(&self, role: Role) -> &Hello {
        match role {
            Role::Initiator => &self.initiator,
            Role::Responder => &self.responder,
        }
    }
}
