//! Logs: one line per event on stderr.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// What `--log-level` is when nobody says anything.
pub const DEFAULT: &str = "info";

/// Starts logging. `level` is a level for Pontoon's own crates (`debug`), or a whole filter (`pontoon_server=debug,raft_engine=info`).
/// Libraries log from `warn` on unless the filter says otherwise.
pub fn start(level: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives(level)).map_err(|error| {
        Failure::new(format_args!(
            "log-level {level:?} is no filter ({error}): give error, warn, info, debug, trace, off, or directives such as pontoon_server=debug"
        ))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init()
        .map_err(|error| Failure::new(format_args!("cannot start logging: {error}")))
}

/// The filter's full text.
fn directives(level: &str) -> String {
    let names_no_target = !level.contains(['=', ',']);
    if names_no_target { format!("warn,pontoon={level}") } else { format!("warn,pontoon={DEFAULT},{level}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_pontoons_own_and_libraries_stay_at_warn() {
        assert_eq!(directives("debug"), "warn,pontoon=debug");
        assert_eq!(directives("raft_engine=info"), "warn,pontoon=info,raft_engine=info");
    }
}
