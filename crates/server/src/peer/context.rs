//! What all connections of this member go by.

use std::{collections::BTreeMap, sync::Arc};

use pontoon_kv::NodeId;
use pontoon_wire::{
    handshake::{Identity, Nonce},
    peer::Decoder,
};
use tokio::sync::Notify;

use super::{PeerSink, SnapshotSink, quiet::Quiet, transfers::Transfers};
use crate::Settings;

/// A message with several entries may have this many bytes (`append_bytes_max` and what encoding adds stay below); one with a
/// single entry as many more as the largest command.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;

/// Shared by all tasks.
pub(super) struct Context {
    pub(super) identity: Identity,
    pub(super) sink: Arc<dyn PeerSink>,
    pub(super) snapshots: Arc<dyn SnapshotSink>,
    /// The other members.
    pub(super) members: BTreeMap<NodeId, Member>,
    /// No message is sent or accepted with a longer frame.
    pub(super) frame_bytes_max: usize,
    pub(super) transfers: Transfers,
    pub(super) quiet: Quiet,
}

/// Another member.
pub(super) struct Member {
    /// `host:port`, resolved anew with each attempt.
    pub(super) address: String,
    /// It has just connected to this member, so it is there: a waiting back-off ends.
    pub(super) heard: Notify,
}

impl Context {
    pub(super) fn new(
        settings: &Settings,
        sink: Arc<dyn PeerSink>,
        snapshots: Arc<dyn SnapshotSink>,
    ) -> Context {
        let cluster = &settings.cluster;
        let others = cluster.members.iter().filter(|(node, _)| **node != settings.node);
        let member = |address: &String| Member { address: address.clone(), heard: Notify::new() };
        let bytes_max = MESSAGE_BYTES_MAX.saturating_add(cluster.limits.command_bytes_max());
        Context {
            identity: Identity {
                cluster: cluster.id.clone(),
                node: settings.node,
                secret: cluster.secret.clone().into_bytes(),
                settings: cluster.canonical(),
            },
            sink,
            snapshots,
            members: others.map(|(node, address)| (*node, member(address))).collect(),
            // A frame's length has 32 bits.
            frame_bytes_max: bytes_max.min(u64::from(u32::MAX)) as usize,
            transfers: Transfers::default(),
            quiet: Quiet::default(),
        }
    }

    /// A decoder of frames with messages.
    pub(super) fn decoder(&self) -> Decoder {
        Decoder::new(self.frame_bytes_max)
    }
}

/// Bytes that nobody can foresee.
pub(super) fn nonce() -> Nonce {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).expect("an operating system without randomness runs no server");
    nonce
}
