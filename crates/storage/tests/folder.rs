//! The data folder: a folder that is not this server's is refused in one sentence, and nothing is changed in it.

mod common;

use std::{fs, path::Path};

use common::{files, flip};
use pontoon_kv::{GroupId, NodeId};
use pontoon_storage::{DataFolder, FolderError};

const NODE: NodeId = NodeId(3);

fn open(path: &Path) -> Result<DataFolder, FolderError> {
    DataFolder::open(path, "cluster", NODE)
}

/// A data folder of server 3, closed.
fn made() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()).expect("an empty folder becomes a data folder"));
    folder
}

/// The refusal, after checking that it changed nothing.
fn refusal(path: &Path, cluster: &str, node: NodeId) -> FolderError {
    let before = path.is_dir().then(|| files(path));
    let error = DataFolder::open(path, cluster, node).expect_err("the folder is refused");
    assert_eq!(path.is_dir().then(|| files(path)), before, "{error}");
    assert!(!error.to_string().contains('\n'), "one sentence: {error}");
    error
}

#[test]
fn a_new_folder_is_made_and_opens_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep").join("data");
    let data = open(&path).expect("it is made");
    assert_eq!(data.log(), path.join("log"));
    assert_eq!(data.state(GroupId(1)), path.join("state").join("1"));
    drop(data);
    open(&path).expect("it opens again");
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = made();
    let _server = open(folder.path()).expect("it opens");
    assert!(matches!(refusal(folder.path(), "cluster", NODE), FolderError::Locked(_)));
}

#[test]
fn another_servers_and_another_clusters_folder_are_refused() {
    let folder = made();
    let error = refusal(folder.path(), "cluster", NodeId(4));
    assert!(error.to_string().contains("belongs to server 3, not to server 4"), "{error}");
    let error = refusal(folder.path(), "other", NODE);
    assert!(error.to_string().contains("belongs to the cluster \"cluster\", not to \"other\""), "{error}");
}

#[test]
fn any_damage_to_the_identity_is_refused() {
    let folder = made();
    let identity = folder.path().join("identity");
    let intact = fs::read(&identity).expect("readable");
    for offset in 0..intact.len() {
        flip(&identity, offset);
        assert!(matches!(refusal(folder.path(), "cluster", NODE), FolderError::Damaged(_)), "byte {offset}");
        fs::write(&identity, &intact).expect("writable");
    }
    fs::write(&identity, b"").expect("writable");
    assert!(matches!(refusal(folder.path(), "cluster", NODE), FolderError::Damaged(_)));
}

#[test]
fn a_newer_format_is_refused() {
    let folder = made();
    let identity = folder.path().join("identity");
    let mut bytes = fs::read(&identity).expect("readable");
    bytes[8] = 9;
    let sealed = bytes.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..sealed]);
    bytes[sealed..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&identity, bytes).expect("writable");
    let error = refusal(folder.path(), "cluster", NODE);
    assert!(error.to_string().contains("format version 9"), "{error}");
}

#[test]
fn a_folder_with_other_files_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("thesis.txt"), b"irreplaceable").expect("writable");
    assert!(matches!(refusal(folder.path(), "cluster", NODE), FolderError::Foreign(_)));
}

#[test]
fn a_data_folder_that_lost_its_identity_is_refused() {
    let folder = made();
    fs::create_dir(folder.path().join("log")).expect("a log");
    fs::remove_file(folder.path().join("identity")).expect("removed");
    assert!(matches!(refusal(folder.path(), "cluster", NODE), FolderError::Foreign(_)));
}

#[test]
fn what_an_interrupted_first_start_left_is_taken_over() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("LOCK"), b"").expect("writable");
    fs::write(folder.path().join("identity.tmp"), b"PNTN").expect("writable");
    drop(open(folder.path()).expect("it is made"));
    open(folder.path()).expect("it opens again");
}

#[test]
fn a_path_that_cannot_be_a_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("writable");
    assert!(matches!(refusal(&file, "cluster", NODE), FolderError::NotAFolder(_)));
    assert!(matches!(refusal(&file.join("below"), "cluster", NODE), FolderError::NotAFolder(_)));
    assert_eq!(fs::read(&file).expect("readable"), b"");
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_without_permission_is_refused() {
    // Nobody may make folders there, not even root.
    let error = refusal(Path::new("/sys/kernel/pontoon"), "cluster", NODE);
    assert!(matches!(error, FolderError::Permission(_)), "{error}");
}
