//! Why the log cannot be opened, read or written.

use std::{
    io,
    path::{Path, PathBuf},
};

use pontoon_kv::GroupId;

use crate::AFTER_DAMAGE;

/// The log cannot be opened. Nothing was changed on disk, unless it failed while cutting a torn tail.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refuses.
    #[error("cannot use the log's {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Bytes that were durable once are not what was written.
    #[error(
        "the log file {} is damaged at byte {offset}: {reason}. Entries that this server acknowledged may be lost. {AFTER_DAMAGE}",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// What does not fit.
        reason: &'static str,
    },
    /// A file between others is gone.
    #[error(
        "the log file {} is missing. {AFTER_DAMAGE}",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the program wrote it.
    #[error("the log file {} has format version {version}, which is newer than this program: run the newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// raft-engine finds fault with files that passed our own check.
    #[error("the log in {} cannot be opened: {reason}. {AFTER_DAMAGE}", path.display())]
    Engine {
        /// The folder.
        path: PathBuf,
        /// What it says.
        reason: String,
    },
}

impl OpenError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    }
}

/// What is stored cannot be read, or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log of group {group} is damaged: {reason}. {AFTER_DAMAGE}")]
pub struct ReadError {
    /// The group.
    pub group: GroupId,
    /// What is wrong.
    pub reason: String,
}

/// The disk is in doubt: the log accepts nothing any more, and the server must stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// This write failed. It may or may not be on disk.
    #[error("writing the log failed: {0}")]
    Failed(String),
    /// An earlier one failed; this one was not tried.
    #[error("the log accepts no writes after an earlier failure: {0}")]
    Refused(String),
}
