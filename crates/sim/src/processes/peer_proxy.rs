//! Between servers: one proxy in front of each server's peer port. A connection says in its first bytes who opened it, so each
//! ordered pair of servers is a link of its own, which can be cut by itself.
//!
//! - A link that is cut closes its connections. Of new ones, some are closed at once and some are never answered, until it is
//!   whole again.
//! - On an unreliable link each message, a whole frame, gets lost or is late by itself, so one may overtake another, as in
//!   labrpc, where each has a task of its own. A snapshot is a stream in which nothing may be missing: there the connection
//!   breaks as often as a message gets lost.

use std::{collections::BTreeMap, io, sync::Arc};

use bytes::{Bytes, BytesMut};
use pontoon_wire::{
    handshake::{Peer, Purpose, overhear},
    peer::{Decoder, encode},
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    links::{Fate, Links},
    proxy::{Proxy, carry, connect, read},
};
use crate::world::Server;

/// More than any frame of these clusters holds.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// Listens in front of the peer port of server `to`.
pub(super) async fn start(to: Server, port: u16, links: Arc<Links>) -> io::Result<Proxy> {
    Proxy::start(move |stream| serve(stream, to, port, links.clone())).await
}

async fn serve(stream: TcpStream, to: Server, port: u16, links: Arc<Links>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut from_initiator, to_initiator) = stream.into_split();
    let mut said = BytesMut::new();
    let hello = next_part(&mut from_initiator, &mut said).await?;
    let peer = overhear(&hello).map_err(io::Error::other)?.and_then(|part| part.claimed);
    let peer = peer.ok_or_else(|| io::Error::other("a handshake that starts without a hello"))?;
    let from = peer.node.0 as usize - 1;
    let mut link = links.link(from, to).ok_or_else(|| io::Error::other("no server of this cluster"))?;
    if !*link.borrow_and_update() {
        return refuse(&links, link).await;
    }
    let (from_server, mut to_server) = connect(port).await?.into_split();
    to_server.write_all(&hello).await?;
    let there = async {
        if links.unreliable {
            messages(&links, peer, said, from_initiator, to_server).await
        } else {
            to_server.write_all(&said).await?;
            carry(from_initiator, to_server).await
        }
    };
    tokio::select! {
        ended = async { tokio::try_join!(there, carry(from_server, to_initiator)) } => ended.map(drop),
        _ = link.wait_for(|up| !up) => Ok(()),
    }
}

/// Closes the connection, or says nothing for as long as the link is cut.
async fn refuse(links: &Links, mut link: watch::Receiver<bool>) -> io::Result<()> {
    if links.coin() {
        // An error means that the cluster is gone.
        let _ = link.wait_for(|up| *up).await;
    }
    Ok(())
}

/// Takes the next part of the handshake off `said`.
async fn next_part(from: &mut OwnedReadHalf, said: &mut BytesMut) -> io::Result<Bytes> {
    loop {
        if let Some(part) = overhear(said).map_err(io::Error::other)? {
            return Ok(said.split_to(part.bytes).freeze());
        }
        read(from, said).await?;
    }
}

/// Carries what the initiator says after its hello over an unreliable link.
async fn messages(
    links: &Links,
    peer: Peer,
    mut said: BytesMut,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
) -> io::Result<()> {
    let proof = next_part(&mut from, &mut said).await?;
    to.write_all(&proof).await?;
    if peer.purpose == Purpose::Snapshot {
        return match links.request() {
            Fate::Lost => Err(io::ErrorKind::ConnectionReset.into()),
            Fate::Late(after) => {
                sleep(after).await;
                to.write_all(&said).await?;
                carry(from, to).await
            }
        };
    }
    let mut decoder = Decoder::new(FRAME_BYTES_MAX);
    // By when they are due; the number tells apart what is due at once.
    let mut late: BTreeMap<(Instant, u64), BytesMut> = BTreeMap::new();
    let mut number = 0;
    loop {
        while let Some(frame) = decoder.decode(&mut said).map_err(io::Error::other)? {
            if let Fate::Late(after) = links.request() {
                let mut bytes = BytesMut::new();
                encode(&frame, &mut bytes);
                late.insert((Instant::now() + after, number), bytes);
                number += 1;
            }
        }
        let due = late.first_key_value().map(|((at, _), _)| *at);
        tokio::select! {
            more = read(&mut from, &mut said) => more?,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                let (_, bytes) = late.pop_first().expect("one is due");
                to.write_all(&bytes).await?;
            }
        }
    }
}
