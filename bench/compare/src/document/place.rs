//! Where the servers keep their data while it runs, and which binary is tried.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use super::root;
use crate::args::RunArgs;

/// A temporary folder on a real disk, and the binary under test.
#[derive(Debug)]
pub struct Place {
    base: PathBuf,
    dir: TempDir,
    pontoon: PathBuf,
}

impl Place {
    /// Makes the folder, and builds the binary if none was named.
    pub fn new(run: &RunArgs) -> Result<Place> {
        let base = run.dir.clone().unwrap_or_else(|| root().join("bench/compare/target"));
        fs::create_dir_all(&base)?;
        if statfs(&base)?.filesystem_type() == TMPFS_MAGIC {
            bail!("{} is in memory, where an fsync costs nothing: give --dir on a real disk", base.display());
        }
        let pontoon = match &run.pontoon {
            Some(path) => path.canonicalize().with_context(|| format!("no {}", path.display()))?,
            None => build()?,
        };
        let dir = Place::fresh(&base)?;
        Ok(Place { base, dir, pontoon })
    }

    /// The folder; removed at the end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Another such folder.
    pub fn another(&self) -> Result<TempDir> {
        Place::fresh(&self.base)
    }

    /// The binary under test.
    pub fn pontoon(&self) -> &Path {
        &self.pontoon
    }

    fn fresh(base: &Path) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("data-").tempdir_in(base)?)
    }
}

fn build() -> Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let mut build = Command::new(cargo);
    build.current_dir(root()).args(["build", "--release", "--locked", "-p", "pontoon-cli"]);
    if !build.status().context("cannot run cargo")?.success() {
        bail!("Pontoon does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release/pontoon"))
}
