//! Bytes on the network, without sockets: what clients and members say to one another.
//!
//! This crate is floor 2. It knows no sockets, no clocks, no randomness and no `async`: bytes come in as a buffer that the
//! caller fills, bytes go out into a buffer that the caller sends.
//!
//! - [`resp`]: the Redis protocol, both ways: requests and replies, RESP2 and RESP3.
//! - [`handshake`]: what two members prove to one another on a new connection before any frame is parsed.
//! - [`peer`]: the frames that follow: messages of the groups, and snapshots on connections of their own.
//!
//! Every parser here takes whatever an enemy sends: it never panics, never looks at a byte twice because of how the bytes
//! were cut into packets, and never allocates for a length that is only declared. What it returns shares the memory of the
//! buffer it was read from (`bytes::Bytes`), so a value is not copied between the socket and the log. `docs/formats.md`
//! describes every byte of the peer protocol.

#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
pub mod peer;
pub mod resp;
