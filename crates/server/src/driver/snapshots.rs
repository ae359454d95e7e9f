//! Snapshots on their way out (pinned views) and in (staged beside the state).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock},
};

use bytes::Bytes;
use pontoon_kv::{
    GroupId, Index, NodeId, Reader, Store,
    snapshot::{Part, SnapshotReader, SnapshotWriter},
};
use pontoon_replica::{Message, SnapshotMeta};
use pontoon_storage::{
    StateStore,
    state::{Stage, Staged, StateHandle},
};

use super::{Fatal, apply::meta_of};
use crate::peer::{SnapshotSink, SnapshotSource, SnapshotStage};

type View = <StateStore as Store>::View;

/// Views pinned for followers until they are streamed.
pub(crate) struct Pinned {
    views: Mutex<BTreeMap<NodeId, SnapshotWriter<View>>>,
    fatal: Fatal,
}

impl Pinned {
    pub(crate) fn new(fatal: Fatal) -> Pinned {
        Pinned { views: Mutex::default(), fatal }
    }

    pub(crate) fn pin(&self, to: NodeId, snapshot: SnapshotWriter<View>) {
        self.views.lock().expect("no panic holds this lock").insert(to, snapshot);
    }

    pub(crate) fn release(&self, to: NodeId) {
        self.views.lock().expect("no panic holds this lock").remove(&to);
    }

    /// The pinned view as a stream of blocks, if it is the one at `index`.
    pub(crate) fn take(&self, to: NodeId, index: Index) -> Option<Box<dyn SnapshotSource + Send>> {
        let pinned = self.views.lock().expect("no panic holds this lock").remove(&to);
        let snapshot = pinned.filter(|snapshot| snapshot.header().applied.index == index)?;
        Some(Box::new(Source { snapshot, fatal: self.fatal.clone() }))
    }
}

/// A view as it is streamed. If it cannot be read, this server's state is damaged, and the server must stop: as a leader it would
/// start the transfer anew for ever, and the follower would never catch up.
struct Source<R> {
    snapshot: SnapshotWriter<R>,
    fatal: Fatal,
}

impl<R: Reader> SnapshotSource for Source<R> {
    fn next_block(&mut self) -> Result<Option<Bytes>, String> {
        self.snapshot.next_block().map_err(|error| {
            self.fatal.report(&error);
            error.to_string()
        })
    }
}

/// Snapshots that arrived whole. A later one does not replace an earlier: the core may be about to install that.
type Arrived = Arc<Mutex<Vec<(SnapshotMeta, Staged)>>>;

/// Where incoming snapshots are staged until the core has them installed or does not want them.
pub(crate) struct Incoming {
    group: GroupId,
    /// The state, once it is open: members may connect before.
    state: OnceLock<StateHandle>,
    arrived: Arrived,
}

impl Incoming {
    pub(crate) fn new(group: GroupId) -> Incoming {
        Incoming { group, state: OnceLock::new(), arrived: Arc::default() }
    }

    /// The state is open: snapshots may come.
    pub(crate) fn open(&self, state: StateHandle) {
        assert!(self.state.set(state).is_ok(), "a server opens its state once");
    }

    /// The snapshot that arrived under this name. Dropping it gives it up.
    pub(crate) fn take(&self, meta: &SnapshotMeta) -> Option<Staged> {
        let mut arrived = self.arrived.lock().expect("no panic holds this lock");
        let at = arrived.iter().position(|(arrived, _)| arrived == meta)?;
        Some(arrived.remove(at).1)
    }
}

impl SnapshotSink for Incoming {
    fn begin(&self, group: GroupId, message: &Message) -> Result<Box<dyn SnapshotStage>, String> {
        let meta = message.snapshot.clone().ok_or("the message that announces it is of no snapshot")?;
        if group != self.group {
            return Err(format!("there is no group {group} here"));
        }
        let state = self.state.get().ok_or("this server is still starting")?;
        let stage = state.stage(meta.index).map_err(|error| error.to_string())?;
        let reader = SnapshotReader::new(self.group);
        Ok(Box::new(Arriving { meta, stage, reader, sound: false, arrived: self.arrived.clone() }))
    }
}

struct Arriving {
    meta: SnapshotMeta,
    stage: Stage,
    reader: SnapshotReader,
    /// The end block was there and everything checked.
    sound: bool,
    arrived: Arrived,
}

impl SnapshotStage for Arriving {
    fn block(&mut self, block: Bytes) -> Result<(), String> {
        match self.reader.push(block).map_err(|error| error.to_string())? {
            Part::Header(header) if meta_of(&header) == self.meta => Ok(()),
            Part::Header(_) => Err("it is not the snapshot that was announced".to_string()),
            Part::Pairs(pairs) => self.stage.push(pairs).map_err(|error| error.to_string()),
            Part::End => {
                self.sound = true;
                Ok(())
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        if !self.sound {
            return Err("it ended before its end block".to_string());
        }
        let staged = self.stage.finish().map_err(|error| error.to_string())?;
        self.arrived.lock().expect("no panic holds this lock").push((self.meta, staged));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pontoon_kv::{Applied, Encoding, StoreError, layout::APPLIED_KEY};

    use super::*;

    /// A state of which only the applied record can be read.
    struct Damaged;

    impl Reader for Damaged {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
            assert_eq!(key, APPLIED_KEY);
            Ok(Some(Applied { index: Index(1), ..Applied::default() }.encode()))
        }

        fn scan(
            &self,
            _from: &[u8],
            _to: &[u8],
            _visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
        ) -> Result<(), StoreError> {
            Err(StoreError("a block does not match its checksum".to_string()))
        }
    }

    #[test]
    fn damage_that_a_snapshot_comes_upon_stops_the_server() {
        let (fatal, failed) = crossbeam_channel::bounded(1);
        let snapshot = SnapshotWriter::new(Damaged, GroupId(1)).expect("its header can be made");
        let mut source = Source { snapshot, fatal: Fatal(fatal) };
        while matches!(source.next_block(), Ok(Some(_))) {}
        let reason = failed.try_recv().expect("the server is told to stop");
        assert!(reason.contains("checksum"), "{reason}");
    }
}
