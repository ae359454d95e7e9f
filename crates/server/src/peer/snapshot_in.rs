//! Receives a snapshot of another member.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pontoon_kv::{GroupId, NodeId};
use pontoon_replica::{Message, MessageKind};
use pontoon_wire::peer::{Body, Decoder, Frame};
use tokio::{
    sync::{OwnedMutexGuard, mpsc, watch},
    task::JoinHandle,
};

use super::{
    PeerEvent,
    context::Context,
    events::deliver,
    snapshot_out::{BLOCK_FRAME_BYTES_MAX, STALLED, Writer},
    socket::{Frames, HANDSHAKE_TIMEOUT, Link, LinkError, within},
    transfers::Turn,
};

/// Blocks between the socket and the stage.
const BLOCKS_QUEUED_MAX: usize = 4;
/// The sender is told after so many staged blocks: a fraction of what it may have in flight.
const BLOCKS_PER_ACK: u64 = 4;
/// While a stage is being made durable, the sender is told so often that this side is alive.
const FINISHING_PERIOD: Duration = Duration::from_secs(2);

/// Serves a connection with a snapshot to its end.
pub(super) async fn receive(context: &Context, from: NodeId, link: Link) {
    let (mut frames, write) = link.into_frames(Decoder::new(BLOCK_FRAME_BYTES_MAX));
    let (group, message) = match announcement(context, from, &mut frames).await {
        Ok(announcement) => announcement,
        Err(error) => {
            if context.quiet.allows(&format!("snapshot {from} {error}")) {
                tracing::warn!(peer = from.0, reason = %error, "connection for a snapshot closed");
            }
            return;
        }
    };
    let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index.0);
    tracing::info!(peer = from.0, group = group.0, index, "receiving a snapshot");
    let begun = Instant::now();
    let mut writer = Writer { group, write, out: BytesMut::new() };
    let result = transfer(context, &message, &mut frames, &mut writer).await;
    let seconds = begun.elapsed().as_secs_f64();
    let ok = match result {
        Ok(bytes) => {
            tracing::info!(peer = from.0, group = group.0, index, bytes, seconds, "snapshot received");
            deliver(&*context.sink, PeerEvent::SnapshotReceived { group, message: Box::new(message) })
                .await
                .is_ok()
        }
        Err(error) => {
            tracing::warn!(peer = from.0, group = group.0, index, seconds, reason = %error, "snapshot not received");
            false
        }
    };
    // A sender that is gone finds out by itself.
    let _ = writer.write(Body::SnapshotDone { ok }).await;
}

/// The first frame.
async fn announcement(
    context: &Context,
    from: NodeId,
    frames: &mut Frames,
) -> Result<(GroupId, Message), LinkError> {
    let frame = within(HANDSHAKE_TIMEOUT, "announcing a snapshot", frames.next()).await?;
    let Frame { group, body: Body::SnapshotBegin(message) } = frame else {
        return Err(LinkError::Protocol("a snapshot's connection begins with another frame"));
    };
    if (message.from, message.to) != (from, context.identity.node) {
        return Err(LinkError::Protocol("a snapshot of or for somebody else"));
    }
    if message.kind != MessageKind::Snapshot || message.snapshot.is_none() {
        return Err(LinkError::Protocol("a snapshot announced by another message"));
    }
    Ok((group, message))
}

/// Returns the bytes of all blocks once they are staged and durable.
async fn transfer(
    context: &Context,
    message: &Message,
    frames: &mut Frames,
    writer: &mut Writer,
) -> Result<u64, LinkError> {
    let Some(turn) = context.transfers.enter(writer.group, message.term) else {
        return Err(LinkError::Snapshot("one of a later term is being received".into()));
    };
    let staging = async {
        let guard =
            within(STALLED, "waiting for the transfer before", async { Ok(turn.stage().await) }).await?;
        let mut staging = Staging::begin(context, writer.group, message.clone(), guard);
        staging.run(frames, writer).await
    };
    or_replaced(&turn, staging).await
}

async fn or_replaced(
    turn: &Turn<'_>,
    staging: impl Future<Output = Result<u64, LinkError>>,
) -> Result<u64, LinkError> {
    tokio::select! {
        result = staging => result,
        () = turn.replaced() => Err(LinkError::Snapshot("a newer one takes its place".into())),
    }
}

/// A stage at work on its thread, as seen from the socket. Dropping it ends the thread and drops the stage.
struct Staging {
    /// `None` is the end.
    blocks: mpsc::Sender<Option<Bytes>>,
    /// Blocks that are staged; `None`: the stage is not open yet.
    staged: watch::Receiver<Option<u64>>,
    finished: JoinHandle<Result<(), String>>,
}

impl Staging {
    fn begin(context: &Context, group: GroupId, message: Message, guard: OwnedMutexGuard<()>) -> Staging {
        let sink = context.snapshots.clone();
        let (blocks, mut queue) = mpsc::channel::<Option<Bytes>>(BLOCKS_QUEUED_MAX);
        let (progress, staged) = watch::channel(None);
        let finished = tokio::task::spawn_blocking(move || {
            // Declared first, so released last: the next stage is opened when this one is gone.
            let _guard = guard;
            let mut stage = sink.begin(group, &message)?;
            let mut count = 0;
            progress.send_replace(Some(count));
            while let Some(block) = queue.blocking_recv() {
                let Some(block) = block else { return stage.finish() };
                stage.block(block)?;
                count += 1;
                progress.send_replace(Some(count));
            }
            Err("it was cut short".to_string())
        });
        Staging { blocks, staged, finished }
    }

    /// Moves blocks from the socket to the stage. Returns their bytes.
    async fn run(&mut self, frames: &mut Frames, writer: &mut Writer) -> Result<u64, LinkError> {
        let opened = within(STALLED, "opening a stage", async { Ok(self.staged.changed().await) }).await?;
        if opened.is_err() {
            return Err(self.failure().await);
        }
        writer.write(Body::SnapshotAck { next: 0 }).await?;
        let (mut received, mut acked, mut bytes) = (0, 0, 0);
        loop {
            tokio::select! {
                frame = frames.next() => match frame?.body {
                    Body::SnapshotBlock { sequence, bytes: block } if sequence == received => {
                        received += 1;
                        bytes += block.len() as u64;
                        self.hand_over(Some(block)).await?;
                    }
                    Body::SnapshotEnd { blocks } if blocks == received => {
                        self.hand_over(None).await?;
                        self.finish(received, writer).await?;
                        return Ok(bytes);
                    }
                    _ => return Err(LinkError::Protocol("a snapshot's frames out of order")),
                },
                changed = self.staged.changed() => {
                    if changed.is_err() {
                        return Err(self.failure().await);
                    }
                    let staged = self.staged.borrow_and_update().unwrap_or(0);
                    if staged >= acked + BLOCKS_PER_ACK {
                        acked = staged;
                        writer.write(Body::SnapshotAck { next: staged }).await?;
                    }
                }
                () = tokio::time::sleep(STALLED) => {
                    return Err(LinkError::TimedOut { what: "the sender's next block", after: STALLED });
                }
            }
        }
    }

    async fn hand_over(&mut self, block: Option<Bytes>) -> Result<(), LinkError> {
        let sent = within(STALLED, "staging a block", async { Ok(self.blocks.send(block).await) }).await?;
        if sent.is_err() { Err(self.failure().await) } else { Ok(()) }
    }

    /// Waits until all is durable; the sender waits too as long as it hears of it.
    async fn finish(&mut self, received: u64, writer: &mut Writer) -> Result<(), LinkError> {
        loop {
            tokio::select! {
                finished = &mut self.finished => return outcome(finished),
                () = tokio::time::sleep(FINISHING_PERIOD) => {
                    let staged = self.staged.borrow().unwrap_or(0);
                    assert!(staged <= received, "{staged} blocks are staged of {received}");
                    writer.write(Body::SnapshotAck { next: staged }).await?;
                }
            }
        }
    }

    /// Why the thread ended early.
    async fn failure(&mut self) -> LinkError {
        match outcome((&mut self.finished).await) {
            Ok(()) => LinkError::Protocol("a stage finished before its end"),
            Err(error) => error,
        }
    }
}

fn outcome(finished: Result<Result<(), String>, tokio::task::JoinError>) -> Result<(), LinkError> {
    match finished {
        Ok(result) => result.map_err(LinkError::Snapshot),
        Err(_) => Err(LinkError::Snapshot("staging it ended in a panic".into())),
    }
}
