//! Snapshots on their way: a stream of frames on a connection of its own, which breaks as a whole or not at all.

use bytes::{Bytes, BytesMut};
use pontoon_kv::{MemStore, Reader, SnapshotReader, SnapshotWriter, StoreError, snapshot::Part};
use pontoon_replica::{Input, Message};
use pontoon_wire::peer::{Body, Decoder, Frame, encode};

use super::{
    GROUP, Server, World,
    event::{Event, Local},
    node, place,
    server::FRAME_BYTES_MAX,
};
use crate::time::MS;

/// A sender finds out that a connection is dead after this, in microseconds.
const DEAD_AFTER_US: u64 = 400 * MS;

/// A snapshot on its way.
#[derive(Debug)]
pub(crate) struct Transfer {
    from: Server,
    to: Server,
    /// The receiver's process when it began.
    to_life: u64,
    frames: std::vec::IntoIter<Bytes>,
    message: Option<Message>,
    reader: Option<SnapshotReader>,
    pairs: Vec<(Bytes, Bytes)>,
}

impl World {
    pub(super) fn send_snapshot(&mut self, from: Server, message: Message) {
        let to = place(message.to);
        let announced = message.snapshot.as_ref().expect("a snapshot's message says what it is of").index;
        self.trace_message("sends", from, &message);
        let pinned =
            self.servers[from].life().pinned.remove(&message.to).filter(|(meta, _)| meta.index == announced);
        let Some((_, view)) = pinned else {
            return self.input(from, Input::SnapshotSent { to: message.to, ok: false });
        };
        let blocks = match blocks(view) {
            Ok(blocks) => blocks,
            Err(error) => return self.fail_stop(from, &error.to_string()),
        };
        let mut bodies = vec![Body::SnapshotBegin(message)];
        for bytes in blocks {
            bodies.push(Body::SnapshotBlock { sequence: bodies.len() as u64 - 1, bytes });
        }
        bodies.push(Body::SnapshotEnd { blocks: bodies.len() as u64 - 1 });
        let frames: Vec<Bytes> = bodies
            .into_iter()
            .map(|body| {
                let mut bytes = BytesMut::new();
                encode(&Frame { group: GROUP, body }, &mut bytes);
                bytes.freeze()
            })
            .collect();
        let transfer = Transfer {
            from,
            to,
            to_life: self.servers[to].lives,
            frames: frames.into_iter(),
            message: None,
            reader: None,
            pairs: Vec::new(),
        };
        let number = self.next_transfer;
        self.next_transfer += 1;
        self.transfers.insert(number, transfer);
        self.after(MS, Event::Transfer(number));
    }

    /// The connections on which a server sends snapshots stall, or go on.
    pub fn stall_transfers(&mut self, from: Server, stall: bool) {
        self.stalled = stall.then_some(from);
    }

    /// Snapshots that a server is sending.
    pub fn transfers_of(&self, from: Server) -> usize {
        self.transfers.values().filter(|transfer| transfer.from == from).count()
    }

    pub(super) fn on_transfer(&mut self, number: u64) {
        if self.transfers.get(&number).is_some_and(|transfer| self.stalled == Some(transfer.from)) {
            return self.after(10 * MS, Event::Transfer(number));
        }
        let Some(mut transfer) = self.transfers.remove(&number) else { return };
        let Transfer { from, to, .. } = transfer;
        let machinery = &self.servers[to];
        let connected = self.network.is_up(from, to) && self.network.is_up(to, from);
        if !connected || machinery.life.is_none() || machinery.lives != transfer.to_life {
            return self.sent(from, to, false, DEAD_AFTER_US);
        }
        let delay = if self.rng.chance(0.1) { self.rng.below(200 * MS) } else { self.rng.below(2 * MS) };
        let bytes = transfer.frames.next().expect("a stream goes on until its end");
        if machinery.paused.is_none() && self.receive(&mut transfer, bytes) {
            // The receiver holds it; whether the sender hears of that is another matter.
            let heard = !self.rng.chance(self.network.links.drop);
            return self.sent(from, to, heard, delay);
        }
        if self.servers[to].paused.is_some() {
            return self.sent(from, to, false, DEAD_AFTER_US);
        }
        self.transfers.insert(number, transfer);
        self.after(delay, Event::Transfer(number));
    }

    fn sent(&mut self, from: Server, to: Server, ok: bool, delay: u64) {
        self.local(from, delay, Local::Input(Box::new(Input::SnapshotSent { to: node(to), ok })));
    }

    /// A frame arrives. True: it was the last, and the receiver holds all of the snapshot.
    fn receive(&mut self, transfer: &mut Transfer, bytes: Bytes) -> bool {
        let frame = Decoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(bytes));
        let Ok(Some(frame)) = frame else { panic!("a frame cannot be read: {frame:?}") };
        match frame.body {
            Body::SnapshotBegin(message) => {
                transfer.message = Some(message);
                transfer.reader = Some(SnapshotReader::new(GROUP));
            }
            Body::SnapshotBlock { bytes, .. } => {
                let reader = transfer.reader.as_mut().expect("a stream begins with its beginning");
                if let Part::Pairs(pairs) = reader.push(bytes).expect("what was sent is sound") {
                    transfer.pairs.extend(pairs);
                }
            }
            Body::SnapshotEnd { .. } => {
                let reader = transfer.reader.take().expect("a stream begins with its beginning");
                let header = reader.finish().expect("what was sent is whole");
                let state = MemStore::from_pairs(std::mem::take(&mut transfer.pairs))
                    .expect("it has an applied record");
                let message = transfer.message.take().expect("a stream begins with its beginning");
                self.trace_message("has received", transfer.to, &message);
                let meta = message.snapshot.clone().expect("a snapshot's message says what it is of");
                let (named, sent) = ((meta.index, meta.term), (header.applied.index, header.applied.term));
                assert_eq!(named, sent, "a snapshot is the one that was announced");
                self.servers[transfer.to].life().staged.push((meta, state));
                #[cfg(feature = "mutants")]
                if self.received_wrongly(transfer.to, &message) {
                    return true;
                }
                self.input(transfer.to, Input::SnapshotReceived(message));
                return true;
            }
            other => panic!("a snapshot's stream has no {other:?}"),
        }
        false
    }

    /// A sender is gone, and its streams with it.
    pub(super) fn drop_transfers_of(&mut self, from: Server) {
        self.transfers.retain(|_, transfer| transfer.from != from);
    }
}

fn blocks(view: impl Reader) -> Result<Vec<Bytes>, StoreError> {
    let mut writer = SnapshotWriter::new(view, GROUP)?;
    std::iter::from_fn(|| writer.next_block().transpose()).collect()
}
