//! Snapshots on their way out (pinned views) and in (staged beside the state).

use std::{collections::BTreeMap, sync::Mutex};

use bytes::Bytes;
use pontoon_kv::{
    GroupId, Index, NodeId, Store,
    snapshot::{Header, SnapshotReader, SnapshotWriter},
};
use pontoon_replica::{Message, SnapshotMeta};
use pontoon_storage::{StagedState, StateStore, Stager};

use crate::peer::{SnapshotSink, SnapshotSource, SnapshotStage};

type View = <StateStore as Store>::View;

/// Views pinned for followers until they are streamed.
#[derive(Default)]
pub(crate) struct Pinned {
    views: Mutex<BTreeMap<NodeId, (SnapshotMeta, View)>>,
}

impl Pinned {
    pub(crate) fn pin(&self, to: NodeId, meta: SnapshotMeta, view: View) {
        self.views.lock().expect("no panic holds this lock").insert(to, (meta, view));
    }

    pub(crate) fn release(&self, to: NodeId) {
        self.views.lock().expect("no panic holds this lock").remove(&to);
    }

    /// The pinned view as a stream of blocks, if it is the one at `index`.
    pub(crate) fn take(&self, group: GroupId, to: NodeId, index: Index) -> Option<Box<dyn SnapshotSource + Send>> {
        let mut views = self.views.lock().expect("no panic holds this lock");
        let (meta, view) = views.remove(&to).filter(|(meta, _)| meta.index == index)?;
        let header = Header {
            group,
            index: meta.index,
            term: meta.term,
            clock: meta.clock,
            conf_state: meta.conf_state,
        };
        Some(Box::new(Source(SnapshotWriter::new(view, header))))
    }
}

struct Source(SnapshotWriter<View>);

impl SnapshotSource for Source {
    fn next_block(&mut self) -> Result<Option<Bytes>, String> {
        self.0.next_block().map_err(|error| error.to_string())
    }
}
