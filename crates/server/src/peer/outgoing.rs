//! Keeps one connection to one member open, and writes to it what the core thread could not write at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pontoon_kv::NodeId;
use pontoon_wire::handshake::Purpose;
use tokio::{net::tcp::OwnedWriteHalf, sync::watch};

use super::{
    context::Context,
    pipe::Flushed,
    route::Route,
    socket::{Frames, Link, LinkError},
};

/// Before the first new attempt; doubled with each.
const BACK_OFF_MIN: Duration = Duration::from_millis(20);
/// Between attempts, at most.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lived for so long was a success: the back-off starts anew.
const SETTLED: Duration = Duration::from_secs(1);

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

    /// Lets messages go there until the connection ends (an error) or this side stops.
    async fn serve(&mut self, link: Link) -> Result<(), LinkError> {
        if self.context.quiet.allows(&format!("{} connected", self.to)) {
            tracing::info!(peer = self.to.0, "connected to a member");
        }
        let (mut frames, socket) = link.into_frames(self.context.decoder());
        let socket = Arc::new(socket);
        self.route.open(socket.clone());
        let ended = self.write(&mut frames, &socket).await;
        self.route.close();
        if ended.is_err() {
            self.route.lost(&*self.context.sink);
        }
        ended
    }

    async fn write(&mut self, frames: &mut Frames, socket: &OwnedWriteHalf) -> Result<(), LinkError> {
        loop {
            if self.route.flush()? == Flushed::Full {
                tokio::select! {
                    writable = socket.writable() => writable?,
                    error = end_of(frames) => return Err(error),
                }
                continue;
            }
            if *self.stop.borrow_and_update() {
                return Ok(());
            }
            tokio::select! {
                () = self.route.filled() => {}
                error = end_of(frames) => return Err(error),
                // An error would mean that the handle was dropped, which aborts this task.
                _ = self.stop.changed() => {}
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
