//! Keeps one connection to one member open and writes its queue to it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use pontoon_kv::NodeId;
use pontoon_wire::{handshake::Purpose, peer::encode_message};
use tokio::{io::AsyncWriteExt, sync::watch};

use super::{
    context::Context,
    route::Route,
    socket::{Frames, Link, LinkError},
};

/// Before the first new attempt; doubled with each.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
/// Between attempts, at most.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived for so long was a success: the back-off starts anew.
const SETTLED: Duration = Duration::from_secs(1);

/// Entries in one write, at most (one larger message goes alone): what a heartbeat may have to wait for.
const WRITE_BYTES: usize = 1 << 20;
/// A write buffer that has grown beyond this is given back.
const BUFFER_KEPT_BYTES_MAX: usize = 4 << 20;

/// The task of one member.
pub(super) struct Outgoing {
    pub(super) context: Arc<Context>,
    pub(super) to: NodeId,
    pub(super) route: Arc<Route>,
    /// True: write what waits, then end.
    pub(super) stop: watch::Receiver<bool>,
}

impl Outgoing {
    pub(super) async fn run(mut self) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let begun = Instant::now();
            let mut stop = self.stop.clone();
            let link = tokio::select! {
                link = Link::open(&self.context, self.to, Purpose::Messages) => link,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let ended = match link {
                Ok(link) => self.serve(link).await,
                Err(error) => Err(error),
            };
            let Err(error) = ended else { return };
            self.report(&error);
            if begun.elapsed() >= SETTLED {
                back_off = BACK_OFF_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(back_off) => back_off = (back_off * 2).min(BACK_OFF_MAX),
                () = self.context.members[&self.to].heard.notified() => back_off = BACK_OFF_MIN,
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Writes the queue until the connection ends (an error) or this side stops.
    async fn serve(&mut self, link: Link) -> Result<(), LinkError> {
        if self.context.quiet.allows(&format!("{} connected", self.to)) {
            tracing::info!(peer = self.to.0, "connected to a member");
        }
        self.route.queue.open();
        let ended = self.write(link).await;
        self.route.queue.close();
        if ended.is_err() {
            self.route.lost(&*self.context.sink);
        }
        ended
    }

    async fn write(&mut self, link: Link) -> Result<(), LinkError> {
        let (mut frames, mut write) = link.into_frames(self.context.decoder());
        let mut batch = Vec::new();
        let mut out = BytesMut::new();
        loop {
            self.route.queue.take(WRITE_BYTES, &mut batch);
            if batch.is_empty() {
                if *self.stop.borrow_and_update() {
                    return Ok(());
                }
                tokio::select! {
                    () = self.route.queue.filled() => {}
                    error = end_of(&mut frames) => return Err(error),
                    // An error would mean that the handle was dropped, which aborts this task.
                    _ = self.stop.changed() => {}
                }
                continue;
            }
            for (group, message) in batch.drain(..) {
                encode_message(group, &message, &mut out);
            }
            tokio::select! {
                written = write.write_all(&out) => written?,
                error = end_of(&mut frames) => return Err(error),
            }
            out.clear();
            if out.capacity() > BUFFER_KEPT_BYTES_MAX {
                out = BytesMut::new();
            }
        }
    }

    fn report(&self, error: &LinkError) {
        let (peer, address) = (self.to.0, &self.context.members[&self.to].address);
        if self.context.quiet.allows(&format!("{peer} {error}")) {
            tracing::warn!(peer, address, reason = %error, "no connection to a member; it is tried again");
        }
    }
}

/// Why a connection ended on which the other side says nothing.
async fn end_of(frames: &mut Frames) -> LinkError {
    match frames.read().await {
        Ok(()) => LinkError::Protocol("the receiver of messages spoke"),
        Err(error) => error,
    }
}
