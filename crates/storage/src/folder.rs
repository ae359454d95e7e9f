//! The data folder: whose it is, and that one process at a time uses it.
//!
//! ```text
//! data/LOCK                    locked while a server runs; empty
//! data/identity                whose folder this is, in which format
//! data/log/                    the Raft log of all groups (see `log`)
//! data/state/<group>/          a group's state (see `state`)
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use pontoon_kv::{GroupId, NodeId};

use crate::{
    AFTER_DAMAGE,
    disk::{self, SealError},
};

/// A server's data folder, locked until dropped.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

/// The data folder cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A server is running in it.
    #[error("the data folder {} is in use by another process: stop that server, or choose another folder (--data)", .0.display())]
    Locked(PathBuf),
    /// The path is not a folder.
    #[error("{} is not a folder: choose another path for the data folder (--data)", .0.display())]
    NotAFolder(PathBuf),
    /// There are files in it, and none of them says that this is a data folder.
    #[error("the folder {} holds other files and no Pontoon data: choose an empty or new folder (--data)", .0.display())]
    Foreign(PathBuf),
    /// Another server's.
    #[error(
        "the data folder {} belongs to server {found}, not to server {wanted}: start this server with its own folder (--data) \
         or id (--id)",
        path.display()
    )]
    OtherNode {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asks.
        wanted: NodeId,
    },
    /// Another cluster's.
    #[error(
        "the data folder {} belongs to the cluster {found:?}, not to {wanted:?}: choose this server's own folder (--data) or \
         correct the cluster id",
        path.display()
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        wanted: String,
    },
    /// Written by a newer version.
    #[error(
        "the data folder {} has format version {found}, and this program knows version {FORMAT_VERSION}: run the newer program",
        path.display()
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The identity file does not match its checksum.
    #[error("the file {} is damaged. {AFTER_DAMAGE}", .0.display())]
    Damaged(PathBuf),
    /// No permission.
    #[error("no permission to use {}: give this user read and write access to the data folder, or choose another (--data)", .0.display())]
    Permission(PathBuf),
    /// Something else the operating system says.
    #[error("cannot use the data folder's {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The version of all that is in the folder.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"PNTNIDNT";
const IDENTITY: &str = "identity";
const LOCK: &str = "LOCK";

impl DataFolder {
    /// Opens the data folder of this server in this cluster, or creates it.
    pub fn open(path: &Path, cluster: &str, node: NodeId) -> Result<DataFolder, FolderError> {
        let wanted = Identity { cluster: cluster.to_owned(), node };
        let exists = path.try_exists().map_err(failed(path))?;
        if exists {
            // Looked at before the lock file is touched, so that somebody else's folder stays as it is.
            check(path, &wanted)?;
        } else {
            create(path)?;
        }
        let lock = lock(path)?;
        let identity = path.join(IDENTITY);
        if !check(path, &wanted)? {
            disk::replace_file(&identity, &wanted.to_bytes()).map_err(failed(&identity))?;
        }
        Ok(DataFolder { path: path.to_owned(), _lock: lock })
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where a group's state is.
    pub fn state(&self, group: GroupId) -> PathBuf {
        self.path.join("state").join(group.to_string())
    }
}

/// Whether the folder is marked as this server's; if not, that it may become so.
fn check(path: &Path, wanted: &Identity) -> Result<bool, FolderError> {
    if !fs::metadata(path).map_err(failed(path))?.is_dir() {
        return Err(FolderError::NotAFolder(path.to_owned()));
    }
    let identity = path.join(IDENTITY);
    let bytes = match fs::read(&identity) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if is_fresh(path)? { Ok(false) } else { Err(FolderError::Foreign(path.to_owned())) };
        }
        Err(error) => return Err(failed(&identity)(error)),
    };
    let body = disk::unseal(MAGIC, FORMAT_VERSION, &bytes).map_err(|error| match error {
        SealError::Damaged => FolderError::Damaged(identity.clone()),
        SealError::Newer(found) => FolderError::Newer { path: path.to_owned(), found },
    })?;
    let found = Identity::from_bytes(body).ok_or(FolderError::Damaged(identity))?;
    if found.cluster != wanted.cluster {
        let (found, wanted) = (found.cluster, wanted.cluster.clone());
        return Err(FolderError::OtherCluster { path: path.to_owned(), found, wanted });
    }
    if found.node != wanted.node {
        return Err(FolderError::OtherNode { path: path.to_owned(), found: found.node, wanted: wanted.node });
    }
    Ok(true)
}

/// Whether the folder holds nothing but what an interrupted first start leaves (or a new file system has).
fn is_fresh(path: &Path) -> Result<bool, FolderError> {
    for entry in fs::read_dir(path).map_err(failed(path))? {
        let name = entry.map_err(failed(path))?.file_name();
        let temporary = Path::new(IDENTITY).with_extension(disk::TEMPORARY);
        if name != LOCK && name != "lost+found" && name != *temporary {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let file = path.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(failed(&file))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FolderError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(&file)(error)),
    }
}

/// Creates the folder, durably: each new one becomes so with its parent's entries.
fn create(path: &Path) -> Result<(), FolderError> {
    let path = std::path::absolute(path).map_err(failed(path))?;
    let new: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(&path).map_err(failed(&path))?;
    for parent in new.iter().filter_map(|folder| folder.parent()) {
        disk::sync_folder(parent).map_err(failed(parent))?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FolderError::Permission(path),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => FolderError::NotAFolder(path),
        _ => FolderError::Io { path, source },
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    cluster: String,
    node: NodeId,
}

impl Identity {
    /// A sealed record; its body is the node as u64 little-endian, then the cluster id.
    fn to_bytes(&self) -> Vec<u8> {
        disk::seal(MAGIC, FORMAT_VERSION, &[&self.node.0.to_le_bytes()[..], self.cluster.as_bytes()].concat())
    }

    fn from_bytes(body: &[u8]) -> Option<Identity> {
        let (node, cluster) = body.split_first_chunk()?;
        let cluster = String::from_utf8(cluster.to_vec()).ok()?;
        Some(Identity { cluster, node: NodeId(u64::from_le_bytes(*node)) })
    }
}
