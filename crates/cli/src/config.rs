//! From what people write (flags, environment, a file) to [`Settings`].
//!
//! ```text
//!   flags ─┐
//!   env ───┴─ clap ─► RawSettings ─┐
//!   --config FILE ──► RawSettings ─┴─ or ─► RawSettings ─► check ─► Settings
//! ```
//!
//! A flag wins over the environment, that over the file, and that over the default. [`RawSettings`] is the one list of settings:
//! a setting's flag, key in the file and environment variable have one name.

mod check;
mod file;
mod members;
mod raw;

pub use check::check;
pub use members::{Members, is_loopback, port};
pub use raw::RawSettings;

use std::path::Path;

use pontoon_server::Settings;

use crate::{failure::Failure, logging};

/// What a server is started with.
#[derive(Debug)]
pub struct Config {
    /// The server's own settings.
    pub settings: Settings,
    /// The log's filter.
    pub log_level: String,
}

/// Settings from flags and environment (`raw`), then from the file if there is one, then from the defaults; checked.
pub fn load(raw: RawSettings, file: Option<&Path>) -> Result<Config, Failure> {
    let raw = match file {
        Some(path) => raw.or(file::read(path).map_err(Failure::new)?),
        None => raw,
    };
    let log_level = raw.log_level.clone().unwrap_or_else(|| logging::DEFAULT.to_string());
    let settings = check(raw).map_err(Failure::new)?;
    Ok(Config { settings, log_level })
}
