//! What a cluster's folder remembers: how many servers it has, its name, and its secret.
//!
//! ```text
//!   DIR/cluster.toml   nodes = 3, cluster-id = "local-..."; locked while a `pontoon up` uses the folder
//!   DIR/secret         what the members prove to one another to know; readable by its owner alone
//!   DIR/node-N/        server N's data folder
//!   DIR/node-N.log     server N's log
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system forbids it.
    #[error("cannot {action} {}: {error}; choose another --dir, or mend this one", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A second `pontoon up`.
    #[error("{} is in use by another `pontoon up`: stop that one, or choose another --dir", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The number of servers is decided when the folder is made.
    #[error(
        "{} holds a cluster of {found}, not of {wanted}: use --nodes {found}, or choose another --dir",
        dir.display()
    )]
    OtherSize {
        /// The folder.
        dir: PathBuf,
        /// How many servers it has.
        found: u16,
        /// How many were asked for.
        wanted: u16,
    },
    /// Not written by us.
    #[error("{} is damaged ({why}): restore it, or choose another --dir", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A cluster's folder, ours until it is dropped.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    cluster_id: String,
    _lock: File,
}

/// `cluster.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Cluster {
    nodes: u16,
    cluster_id: String,
}

impl Folder {
    /// Opens the folder of a cluster of this size, or makes it. A folder that is refused is left as it was.
    pub fn open(dir: &Path, nodes: u16) -> Result<Folder, FolderError> {
        let path = dir.join("cluster.toml");
        if !path.exists() {
            create(dir, &path, nodes)?;
        }
        let file = File::open(&path).map_err(io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::InUse { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
        }
        let text = fs::read_to_string(&path).map_err(io("read", &path))?;
        let cluster: Cluster = toml::from_str(&text)
            .map_err(|error| FolderError::Damaged { path: path.clone(), why: error.message().to_string() })?;
        if cluster.nodes != nodes {
            return Err(FolderError::OtherSize {
                dir: dir.to_path_buf(),
                found: cluster.nodes,
                wanted: nodes,
            });
        }
        Ok(Folder { dir: dir.to_path_buf(), cluster_id: cluster.cluster_id, _lock: file })
    }

    /// The cluster's name, unlike that of any other folder.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The file that holds the cluster's secret.
    pub fn secret_file(&self) -> PathBuf {
        secret_path(&self.dir)
    }
}

/// Makes a new cluster. `cluster.toml` appears last and as a whole, so a folder that has it is complete.
fn create(dir: &Path, path: &Path, nodes: u16) -> Result<(), FolderError> {
    fs::create_dir_all(dir).map_err(io("create", dir))?;
    write(&secret_path(dir), &random_hex::<32>())?;
    let cluster = Cluster { nodes, cluster_id: format!("local-{}", random_hex::<4>()) };
    let text = toml::to_string(&cluster).expect("a number and a text are TOML");
    let new = dir.join("cluster.toml.new");
    write(&new, &text)?;
    fs::rename(&new, path).map_err(io("create", path))
}

/// Writes a file that only its owner may read, and has it on the disk.
fn write(path: &Path, text: &str) -> Result<(), FolderError> {
    let mut options = File::options();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(path).map_err(io("create", path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", path))
}

fn secret_path(dir: &Path) -> PathBuf {
    dir.join("secret")
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_path_buf();
    move |error| FolderError::Io { action, path, error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_keeps_its_name_and_secret() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folder::open(dir.path(), 3).unwrap();
        let (id, secret) = (first.cluster_id().to_string(), fs::read(first.secret_file()).unwrap());
        drop(first);
        let second = Folder::open(dir.path(), 3).unwrap();
        assert_eq!((second.cluster_id(), fs::read(second.secret_file()).unwrap()), (id.as_str(), secret));
    }

    #[test]
    fn the_secret_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path(), 3).unwrap();
        let mode = fs::metadata(folder.secret_file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_number_of_servers_is_refused_with_the_right_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(Folder::open(dir.path(), 3).unwrap());
        let error = Folder::open(dir.path(), 5).unwrap_err().to_string();
        assert!(error.contains("holds a cluster of 3, not of 5: use --nodes 3"), "{error}");
    }

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Folder::open(dir.path(), 3).unwrap();
        assert!(matches!(Folder::open(dir.path(), 3), Err(FolderError::InUse { .. })));
    }

    #[test]
    fn a_damaged_cluster_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(Folder::open(dir.path(), 3).unwrap());
        fs::write(dir.path().join("cluster.toml"), "nodes = ").unwrap();
        let error = Folder::open(dir.path(), 3).unwrap_err().to_string();
        assert!(error.contains("cluster.toml is damaged"), "{error}");
    }
}
