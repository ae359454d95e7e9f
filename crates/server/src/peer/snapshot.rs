//! Snapshots on a connection of their own, so that heartbeats and appends go on beside them.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use pontoon_kv::NodeId;
use pontoon_replica::{Input, Message};
use pontoon_wire::{
    handshake::Purpose,
    peer::{Body, Frame, encode},
};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, oneshot},
};

use super::{
    Shared, SnapshotSource, connection,
    inbound::{Frames, ReceiveError},
};
use crate::gateway::Event;

/// Without progress for this long a transfer is given up: it pins a view of the state.
const STALL_MAX: Duration = Duration::from_secs(10);

/// After the last block the receiver may take this long to make all of it durable.
const FINISH_MAX: Duration = Duration::from_secs(120);

/// Blocks between the disk and the network.
const BLOCKS_AHEAD: usize = 4;

/// Streams a snapshot and tells the core how it ended.
pub(super) async fn send(shared: Arc<Shared>, to: NodeId, message: Message, source: Box<dyn SnapshotSource>) {
    let index = message.snapshot.as_ref().map_or(0, |meta| meta.index.0);
    tracing::info!(peer = to.0, index, "sending snapshot");
    let started = std::time::Instant::now();
    let sent = tokio::select! {
        sent = stream(&shared, to, message, source) => sent,
        () = shared.stopped() => Err("this server stops".to_string()),
    };
    let ms = started.elapsed().as_millis() as u64;
    match &sent {
        Ok(bytes) => tracing::info!(peer = to.0, index, bytes, ms, "snapshot sent"),
        Err(reason) => tracing::warn!(peer = to.0, index, %reason, ms, "snapshot not sent; it starts anew if need be"),
    }
    shared.deliver(Event::Input(Input::SnapshotSent { to, ok: sent.is_ok() })).await;
}

async fn stream(shared: &Shared, to: NodeId, message: Message, source: Box<dyn SnapshotSource>) -> Result<u64, String> {
    let opened = connection::open(shared, to, Purpose::Snapshot).await;
    let (mut socket, rest) = opened.map_err(|error| error.to_string())?;
    let mut blocks = read_ahead(source);
    let mut buffer = BytesMut::new();
    let frame = |body| Frame { group: shared.group, body };
    encode(&frame(Body::SnapshotBegin(message)), &mut buffer);
    let (mut sequence, mut bytes_sent) = (0, 0);
    while let Some(block) = blocks.recv().await {
        let bytes = block?;
        bytes_sent += bytes.len() as u64;
        encode(&frame(Body::SnapshotBlock { sequence, bytes }), &mut buffer);
        sequence += 1;
        write(&mut socket, &mut buffer).await?;
    }
    encode(&frame(Body::SnapshotEnd { blocks: sequence }), &mut buffer);
    write(&mut socket, &mut buffer).await?;
    let mut frames = Frames::new(socket, rest, shared.body_bytes_max);
    let answer = tokio::time::timeout(FINISH_MAX, frames.next()).await;
    match answer.map_err(|_| "the receiver does not finish".to_string())?.map_err(|error| error.to_string())?.body {
        Body::SnapshotDone { ok: true } => Ok(bytes_sent),
        _ => Err("the receiver could not take it; its log says why".to_string()),
    }
}

async fn write(socket: &mut tokio::net::TcpStream, buffer: &mut BytesMut) -> Result<(), String> {
    let written = tokio::time::timeout(STALL_MAX, socket.write_all_buf(buffer)).await;
    written.map_err(|_| format!("no progress for {STALL_MAX:?}"))?.map_err(|error| error.to_string())
}

/// Reads blocks on a thread that may block, a few ahead.
fn read_ahead(mut source: Box<dyn SnapshotSource>) -> mpsc::Receiver<Result<Bytes, String>> {
    let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        while let Some(block) = source.next_block().transpose() {
            let failed = block.is_err();
            if sender.blocking_send(block).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Stages an incoming snapshot; once it is whole and durable, tells the core and then the sender.
pub(super) async fn receive(shared: &Arc<Shared>, peer: NodeId, mut frames: Frames) -> Result<(), ReceiveError> {
    let first = frames.next().await?;
    if !matches!(first.body, Body::SnapshotBegin(_)) {
        return Err(ReceiveError::Misplaced);
    }
    let message = shared.message_of(peer, first)?;
    let index = message.snapshot.as_ref().map_or(0, |meta| meta.index.0);
    tracing::info!(peer = peer.0, index, "receiving snapshot");
    let staged = stage(shared, message.clone(), &mut frames).await?;
    let ok = staged.is_ok();
    match staged {
        Ok(()) if !shared.deliver(Event::Input(Input::SnapshotReceived(message))).await => return Err(ReceiveError::Stopped),
        Ok(()) => tracing::info!(peer = peer.0, index, "snapshot received"),
        Err(reason) => tracing::warn!(peer = peer.0, index, %reason, "snapshot not received"),
    }
    let mut buffer = BytesMut::new();
    encode(&Frame { group: shared.group, body: Body::SnapshotDone { ok } }, &mut buffer);
    Ok(frames.socket.write_all_buf(&mut buffer).await?)
}

async fn stage(shared: &Arc<Shared>, message: Message, frames: &mut Frames) -> Result<Result<(), String>, ReceiveError> {
    let (blocks, done) = stager(shared.clone(), message);
    let mut expected = 0;
    loop {
        let frame = tokio::time::timeout(STALL_MAX, frames.next()).await;
        match frame.map_err(|_| ReceiveError::Closed)??.body {
            Body::SnapshotBlock { sequence, bytes } if sequence == expected => {
                expected += 1;
                if blocks.send(bytes).await.is_err() {
                    break; // It failed; its reason comes below.
                }
            }
            Body::SnapshotEnd { blocks: sent } if sent == expected => {
                let _ = blocks.send(Bytes::new()).await;
                break;
            }
            _ => return Err(ReceiveError::Misplaced),
        }
    }
    Ok(done.await.unwrap_or_else(|_| Err("staging it failed".to_string())))
}

/// Stages blocks on a thread that may block. An empty block says that there are no more; without it nothing is kept.
fn stager(shared: Arc<Shared>, message: Message) -> (mpsc::Sender<Bytes>, oneshot::Receiver<Result<(), String>>) {
    let (sender, mut blocks) = mpsc::channel::<Bytes>(BLOCKS_AHEAD);
    let (done, result) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let mut stage_all = || {
            let mut stage = shared.sink.begin(&message)?;
            while let Some(block) = blocks.blocking_recv() {
                if block.is_empty() {
                    return stage.finish();
                }
                stage.block(block)?;
            }
            Err("the transfer was cut off".to_string())
        };
        let _ = done.send(stage_all());
    });
    (sender, result)
}
