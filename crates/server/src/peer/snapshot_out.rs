//! Streams a snapshot to another member.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use pontoon_kv::GroupId;
use pontoon_replica::Message;
use pontoon_wire::{
    handshake::Purpose,
    peer::{Body, Decoder, Frame, encode},
};
use tokio::{io::AsyncWriteExt, net::tcp::OwnedWriteHalf, sync::mpsc};

use super::{
    PeerEvent, SnapshotSource,
    context::Context,
    events::deliver,
    socket::{Link, LinkError, within},
};

/// Without any progress for so long, either side gives a transfer up.
pub(super) const STALLED: Duration = Duration::from_secs(10);
/// However steadily it creeps: the view that is streamed holds back the store's garbage collection.
const TRANSFER_MAX: Duration = Duration::from_secs(60 * 60);

/// Blocks that are on their way and not yet staged at the other end.
const BLOCKS_IN_FLIGHT_MAX: u64 = 16;
/// Blocks that are read ahead of the socket.
const BLOCKS_AHEAD_MAX: usize = 2;
/// A block and what its frame adds. (A block is 256 KiB and what its last pair adds, a long key for instance.)
pub(super) const BLOCK_FRAME_BYTES_MAX: usize = 4 << 20;
/// What a frame adds to a block, with room to spare.
const FRAME_EXTRA_BYTES: usize = 64;

/// Streams a snapshot and reports how it ended.
pub(super) async fn send(
    context: Arc<Context>,
    group: GroupId,
    message: Message,
    source: Box<dyn SnapshotSource + Send>,
) {
    let (peer, index) = (message.to, message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index.0));
    tracing::info!(peer = peer.0, group = group.0, index, "sending a snapshot");
    let begun = Instant::now();
    let transfer = transfer(&context, group, message, source);
    let result = within(TRANSFER_MAX, "the whole transfer", transfer).await;
    let seconds = begun.elapsed().as_secs_f64();
    let ok = result.is_ok();
    match result {
        Ok(bytes) => tracing::info!(peer = peer.0, group = group.0, index, bytes, seconds, "snapshot sent"),
        Err(error) => {
            tracing::warn!(peer = peer.0, group = group.0, index, seconds, reason = %error, "snapshot not sent");
        }
    }
    // If nobody takes events any more, nobody waits for this one.
    let _ = deliver(&*context.sink, PeerEvent::SnapshotSent { group, to: peer, ok }).await;
}

/// Returns the bytes of all blocks.
async fn transfer(
    context: &Context,
    group: GroupId,
    message: Message,
    source: Box<dyn SnapshotSource + Send>,
) -> Result<u64, LinkError> {
    if !context.members.contains_key(&message.to) {
        return Err(LinkError::Protocol("the receiver is not a member"));
    }
    let link = Link::open(context, message.to, Purpose::Snapshot).await?;
    let (mut frames, write) = link.into_frames(Decoder::new(BLOCK_FRAME_BYTES_MAX));
    let mut writer = Writer { group, write, out: BytesMut::new() };
    writer.write(Body::SnapshotBegin(message)).await?;
    match within(STALLED, "opening a stage", frames.next()).await?.body {
        Body::SnapshotAck { next: 0 } => {}
        Body::SnapshotDone { ok: false } => {
            return Err(LinkError::Snapshot("the receiver does not want it".into()));
        }
        _ => return Err(LinkError::Protocol("no answer to the begin of a snapshot")),
    }
    let mut blocks = read_ahead(source);
    let (mut sent, mut staged, mut bytes, mut ended) = (0, 0, 0, false);
    loop {
        let room = !ended && sent - staged < BLOCKS_IN_FLIGHT_MAX;
        tokio::select! {
            frame = frames.next() => match frame?.body {
                // The same number again says that the receiver is still at work on its last step.
                Body::SnapshotAck { next } if (staged..=sent).contains(&next) => staged = next,
                Body::SnapshotDone { ok: true } if ended => return Ok(bytes),
                Body::SnapshotDone { ok: false } => {
                    return Err(LinkError::Snapshot("the receiver could not take it; its log says why".into()));
                }
                _ => return Err(LinkError::Protocol("not an answer to a snapshot's blocks")),
            },
            block = blocks.recv(), if room => match block {
                Some(Ok(Some(block))) => {
                    if block.len() + FRAME_EXTRA_BYTES > BLOCK_FRAME_BYTES_MAX {
                        return Err(LinkError::Snapshot(format!("a block of {} bytes is too long", block.len())));
                    }
                    bytes += block.len() as u64;
                    writer.write(Body::SnapshotBlock { sequence: sent, bytes: block }).await?;
                    sent += 1;
                }
                Some(Ok(None)) => {
                    writer.write(Body::SnapshotEnd { blocks: sent }).await?;
                    ended = true;
                }
                Some(Err(reason)) => return Err(LinkError::Snapshot(reason)),
                None => return Err(LinkError::Snapshot("reading it ended in a panic".into())),
            },
            () = tokio::time::sleep(STALLED) => {
                return Err(LinkError::TimedOut { what: "the next step of the receiver", after: STALLED });
            }
        }
    }
}

/// Writes frames one by one.
pub(super) struct Writer {
    pub(super) group: GroupId,
    pub(super) write: OwnedWriteHalf,
    pub(super) out: BytesMut,
}

impl Writer {
    pub(super) async fn write(&mut self, body: Body) -> Result<(), LinkError> {
        self.out.clear();
        encode(&Frame { group: self.group, body }, &mut self.out);
        within(STALLED, "writing", async { Ok(self.write.write_all(&self.out).await?) }).await
    }
}

type Block = Result<Option<Bytes>, String>;

/// Reads a source on a thread of its own, a little ahead. Dropping the receiver ends it and releases the source.
fn read_ahead(mut source: Box<dyn SnapshotSource + Send>) -> mpsc::Receiver<Block> {
    let (sender, blocks) = mpsc::channel(BLOCKS_AHEAD_MAX);
    tokio::task::spawn_blocking(move || {
        loop {
            let block = source.next_block();
            let more = matches!(block, Ok(Some(_)));
            if sender.blocking_send(block).is_err() || !more {
                return;
            }
        }
    });
    blocks
}
