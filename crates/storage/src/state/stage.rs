//! A snapshot on its way to become the state: ingested into a generation of its own, durable before it is installed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use lsm_tree::{AnyTree, SequenceNumberCounter};
use pontoon_kv::{GroupId, Index};

use super::{Resources, current, generation, keys};
use crate::disk;

/// The snapshot cannot be stored. What there is of it is removed; the state is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("storing the snapshot failed: {0}")]
pub struct StageError(String);

/// A snapshot that is being received. Dropping it gives it up.
#[derive(Debug)]
pub struct Stage {
    index: Index,
    generation: u64,
    path: PathBuf,
    blocks: Option<SyncSender<Message>>,
    writer: Option<JoinHandle<Result<(), StageError>>>,
}

/// A snapshot that is wholly on disk, to be handed to [`StateStore::install`](super::StateStore::install). Dropping it gives it up.
#[derive(Debug)]
pub struct Staged {
    pub(super) index: Index,
    pub(super) generation: u64,
    path: PathBuf,
    pub(super) installed: bool,
}

/// To the thread that writes.
#[derive(Debug)]
enum Message {
    Block(Vec<(Bytes, Bytes)>),
    Finish,
}

/// Blocks that wait for the writing thread; with more, the receiver waits.
const BLOCKS_WAITING_MAX: usize = 4;

impl Stage {
    pub(super) fn start(
        folder: &Path,
        generation: u64,
        group: GroupId,
        index: Index,
        resources: &Resources,
    ) -> Result<Stage, StageError> {
        let path = current::generation_path(folder, generation);
        let (sender, receiver) = sync_channel(BLOCKS_WAITING_MAX);
        let writer = Writer {
            folder: folder.to_owned(),
            path: path.clone(),
            group,
            index,
            resources: resources.clone(),
        };
        let thread =
            thread::Builder::new().name("state-stage".to_owned()).spawn(move || writer.run(&receiver));
        let thread = thread.map_err(|error| StageError(error.to_string()))?;
        Ok(Stage { index, generation, path, blocks: Some(sender), writer: Some(thread) })
    }

    /// The index that the snapshot is of.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Takes the next pairs. Keys ascend, within a block and from block to block. Waits if the disk is behind.
    pub fn push(&mut self, pairs: Vec<(Bytes, Bytes)>) -> Result<(), StageError> {
        self.send(Message::Block(pairs))
    }

    /// Makes it durable.
    pub fn finish(mut self) -> Result<Staged, StageError> {
        self.send(Message::Finish)?;
        self.join()?;
        let path = std::mem::take(&mut self.path);
        Ok(Staged { index: self.index, generation: self.generation, path, installed: false })
    }

    /// Sends, or says why the thread has ended.
    fn send(&mut self, message: Message) -> Result<(), StageError> {
        let sent = self.blocks.as_ref().is_some_and(|blocks| blocks.send(message).is_ok());
        if sent {
            Ok(())
        } else {
            Err(self.join().err().unwrap_or_else(|| StageError("it was given up before".to_owned())))
        }
    }

    fn join(&mut self) -> Result<(), StageError> {
        self.blocks = None;
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_panic)) => Err(StageError("the tree panicked".to_owned())),
            None => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _given_up = self.join();
        remove(&self.path);
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.installed {
            remove(&self.path);
        }
    }
}

/// What remains after a failure, the next start removes.
fn remove(path: &Path) {
    if !path.as_os_str().is_empty()
        && let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %path.display(), %error, "a snapshot that was given up could not be removed");
    }
}

/// The writing thread. It has the tree, which an ingestion borrows.
struct Writer {
    folder: PathBuf,
    path: PathBuf,
    group: GroupId,
    index: Index,
    resources: Resources,
}

impl Writer {
    fn run(self, blocks: &Receiver<Message>) -> Result<(), StageError> {
        let seqno = SequenceNumberCounter::default();
        let tree = generation::open_tree(&self.path, &seqno, &self.resources).map_err(StageError)?;
        self.ingest(&tree, &seqno, blocks).map_err(|error| match error {
            Failure::Order => StageError("its keys are not in order".to_owned()),
            Failure::Tree(error) => StageError(error.to_string()),
            Failure::GivenUp => StageError("it was given up".to_owned()),
        })?;
        drop(tree);
        // The tree has synced its files and folders; this makes the generation's own name durable.
        disk::sync_folder(&self.folder).map_err(|error| StageError(error.to_string()))
    }

    fn ingest(
        &self,
        tree: &AnyTree,
        seqno: &SequenceNumberCounter,
        blocks: &Receiver<Message>,
    ) -> Result<(), Failure> {
        let mut ingestion = tree.ingestion()?;
        let mut last = Bytes::new();
        loop {
            match blocks.recv() {
                Ok(Message::Block(pairs)) => {
                    for (key, value) in pairs {
                        if key <= last || !keys::is_key(&key) {
                            return Err(Failure::Order);
                        }
                        ingestion.write(&*key, &*value)?;
                        last = key;
                    }
                }
                Ok(Message::Finish) => break,
                Err(_sender_is_gone) => return Err(Failure::GivenUp),
            }
        }
        ingestion.write(keys::POSITION_KEY, keys::encode_position(self.group, self.index))?;
        generation::number_for_ingestion(seqno, self.index);
        ingestion.finish()?;
        Ok(())
    }
}

enum Failure {
    Order,
    Tree(lsm_tree::Error),
    GivenUp,
}

impl From<lsm_tree::Error> for Failure {
    fn from(error: lsm_tree::Error) -> Failure {
        Failure::Tree(error)
    }
}
