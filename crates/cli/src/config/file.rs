//! The configuration file: TOML, with the flags' names as keys.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use clap::Args;

use super::RawSettings;

/// Why a configuration file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It names a setting that does not exist.
    #[error("{}: there is no setting {key:?}: correct or remove it (`pontoon serve --help` lists them)", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// It is no TOML, or a value is of the wrong kind.
    #[error("{}, line {line}: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads a file of settings.
pub fn read(path: &Path) -> Result<RawSettings, FileError> {
    let text =
        fs::read_to_string(path).map_err(|error| FileError::Read { path: path.to_path_buf(), error })?;
    let table: toml::Table = text.parse().map_err(|error| malformed(path, &text, &error))?;
    let known = keys();
    if let Some(key) = table.keys().find(|key| !known.contains(key)) {
        return Err(FileError::UnknownKey { path: path.to_path_buf(), key: key.clone() });
    }
    toml::from_str(&text).map_err(|error| malformed(path, &text, &error))
}

/// The keys that a file may hold: the names of the flags.
fn keys() -> Vec<String> {
    let flags = RawSettings::augment_args(clap::Command::new("settings"));
    flags.get_arguments().filter_map(|flag| flag.get_long()).map(str::to_string).collect()
}

fn malformed(path: &Path, text: &str, error: &toml::de::Error) -> FileError {
    let at = error.span().map_or(0, |Range { start, .. }| start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    FileError::Malformed { path: path.to_path_buf(), line, message }
}
