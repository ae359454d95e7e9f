//! Which generation of a group's state is the current one.
//!
//! A generation is a folder with a whole tree of its own. The file `CURRENT` names one; whatever else is there is a snapshot that
//! was never installed, or what one has replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pontoon_kv::{GroupId, Index};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    disk::{self, SealError},
    folder::FORMAT_VERSION,
    state::OpenError,
};

const MAGIC: &[u8; 8] = b"PNTNCURR";
const CURRENT: &str = "CURRENT";
const PREFIX: &str = "gen-";

/// The contents of `CURRENT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    /// The folder is `gen-<generation>`.
    pub(super) generation: u64,
    /// The state never goes back behind this: 0, or the index of the snapshot that the generation began with.
    pub(super) base: Index,
}

impl Current {
    /// Reads `CURRENT`; none if there is none.
    pub(super) fn read(folder: &Path, group: GroupId) -> Result<Option<Current>, OpenError> {
        let path = folder.join(CURRENT);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io(&path)(error)),
        };
        let damaged = |reason: String| OpenError::Damaged { path: path.clone(), reason };
        let body = disk::unseal(MAGIC, FORMAT_VERSION, &bytes).map_err(|error| match error {
            SealError::Damaged => damaged("it does not match its checksum".to_owned()),
            SealError::Newer(version) => OpenError::Newer { path: path.clone(), version },
        })?;
        let numbers: Vec<u64> = body
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().expect("eight bytes")))
            .collect();
        match numbers[..] {
            [owner, generation, base] if owner == group.0 => {
                Ok(Some(Current { generation, base: Index(base) }))
            }
            [owner, _, _] => Err(damaged(format!("it belongs to group {owner}, not to group {group}"))),
            _ => Err(damaged("it has another length".to_owned())),
        }
    }

    /// Makes this the current generation, atomically and durably.
    pub(super) fn write(self, folder: &Path, group: GroupId) -> io::Result<()> {
        let body: Vec<u8> =
            [group.0, self.generation, self.base.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        disk::replace_file(&folder.join(CURRENT), &disk::seal(MAGIC, FORMAT_VERSION, &body))
    }
}

/// A generation's folder.
pub(super) fn generation_path(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{generation}"))
}

/// All generations that there are.
pub(super) fn generations(folder: &Path) -> io::Result<Vec<u64>> {
    let mut generations = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        generations.extend(name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok()));
    }
    Ok(generations)
}

/// Checks what the tree itself does not check when it opens: that its manifest is there and is the one that its `current` file
/// names and sums up. (The manifest names each table; a missing or cut one the tree notices, a flipped bit in one when it reads
/// the block.)
///
/// The tree's `current` is: version u64, XXH3-128 of the file `v<version>`, checksum kind 0; little-endian.
pub(super) fn check_manifest(generation: &Path) -> Result<(), OpenError> {
    let current = generation.join("current");
    let damaged =
        |path: &Path, reason: &str| OpenError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    let bytes = match fs::read(&current) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(&current, "it is missing"));
        }
        Err(error) => return Err(OpenError::io(&current)(error)),
    };
    let bytes: &[u8; 25] = bytes[..].try_into().map_err(|_| damaged(&current, "it has another length"))?;
    let version = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
    let checksum = u128::from_le_bytes(bytes[8..24].try_into().expect("sixteen bytes"));
    let manifest = generation.join(format!("v{version}"));
    match fs::read(&manifest) {
        Ok(contents) if bytes[24] == 0 && xxh3_128(&contents) == checksum => Ok(()),
        Ok(_) => Err(damaged(&manifest, "it does not match its checksum")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged(&manifest, "it is missing")),
        Err(error) => Err(OpenError::io(&manifest)(error)),
    }
}
