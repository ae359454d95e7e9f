//! The project's own rules as ordinary tests (see `tests/`): floors, file length, documents that point at what exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The root of the workspace.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the root").to_owned()
}

/// A file of the workspace as text.
///
/// # Panics
///
/// If it cannot be read.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Rust files of the project, with their paths from the root.
pub fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["bench", "crates", "tidy", "fuzz"] {
        collect(&root().join(folder), &mut found);
    }
    found.sort();
    assert!(found.len() > 30, "the sources are found");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.expect("a readable folder").path()) {
        if entry.is_dir() && !entry.ends_with("target") {
            collect(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).expect("a source is readable text");
            found.push((entry.strip_prefix(root()).expect("it lies below the root").to_owned(), text));
        }
    }
}
