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

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use clap::Parser;
    use pontoon_kv::NodeId;

    use super::*;
    use crate::args::{Cli, Command};

    fn flags(line: &str) -> RawSettings {
        let line = format!("pontoon serve {line}");
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Serve(args) => args.settings,
            other => panic!("{other:?}"),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn data_alone_is_a_cluster_of_one_with_the_defaults() {
        let config = load(flags("--data d"), None).unwrap();
        assert_eq!(config.settings, Settings::new(NodeId(1), "d".into()));
        assert_eq!(config.log_level, "info");
    }

    #[test]
    fn a_flag_wins_over_the_file_and_that_over_the_default() {
        let file =
            file("data = \"from-file\"\ntick-ms = 50\nsnapshot-log-bytes = -1\ncache-bytes = \"8MiB\"\n");
        let settings = load(flags("--tick-ms 100"), Some(file.path())).unwrap().settings;
        assert_eq!(settings.data, Path::new("from-file"));
        assert_eq!(settings.tick, Duration::from_millis(100));
        assert_eq!(settings.snapshot_log_bytes, None);
        assert_eq!(settings.cache_bytes, 8 << 20);
        assert_eq!(settings.election_ticks, 16);
    }

    #[test]
    fn a_file_can_say_all_that_flags_can() {
        let line = "--id 2 --data d --listen 127.0.0.1:1 --peer-listen 127.0.0.1:2 --password p --log-level debug \
            --cluster 1=127.0.0.1:3,2=127.0.0.1:2 --cluster-id c --secret s --key-bytes-max 1KiB --value-bytes-max 2KiB \
            --sessions-max 3 --session-window 4 --session-ttl 5s --connections-max 6 --request-timeout 7s \
            --snapshot-log-bytes 8KiB --cache-bytes 9MiB --memtable-bytes 10MiB --tick-ms 11 --heartbeat-ticks 12 --election-ticks 26 \
            --fault-fsync-delay-ms 13";
        let text = "id = 2\ndata = 'd'\nlisten = '127.0.0.1:1'\npeer-listen = '127.0.0.1:2'\npassword = 'p'\nlog-level = 'debug'\n\
            cluster-id = 'c'\nsecret = 's'\nkey-bytes-max = 1024\nvalue-bytes-max = '2KiB'\nsessions-max = 3\nsession-window = 4\n\
            session-ttl = '5s'\nconnections-max = 6\nrequest-timeout = '7s'\nsnapshot-log-bytes = 8192\ncache-bytes = '9MiB'\n\
            memtable-bytes = '10MiB'\ntick-ms = 11\nheartbeat-ticks = 12\nelection-ticks = 26\nfault-fsync-delay-ms = 13\n\
            [cluster]\n1 = '127.0.0.1:3'\n2 = '127.0.0.1:2'\n";
        let from_flags = load(flags(line), None).unwrap();
        let from_file = load(RawSettings::default(), Some(file(text).path())).unwrap();
        assert_eq!(from_flags.settings, from_file.settings);
        assert_eq!(from_flags.log_level, from_file.log_level);
        assert_eq!(from_file.settings.cluster.members[&NodeId(1)], "127.0.0.1:3");
    }

    #[test]
    fn a_secret_by_flag_replaces_a_secret_file_by_file() {
        let file = file("data = 'd'\nsecret-file = '/nowhere'\n");
        let settings = load(flags("--secret s"), Some(file.path())).unwrap().settings;
        assert_eq!(settings.cluster.secret, "s");
    }

    #[test]
    fn a_secret_files_line_end_does_not_count() {
        let secret = file("s3cret\n");
        let settings = load(flags(&format!("--data d --secret-file {}", secret.path().display())), None)
            .unwrap()
            .settings;
        assert_eq!(settings.cluster.secret, "s3cret");
        let empty = file("\n");
        let error =
            load(flags(&format!("--data d --secret-file {}", empty.path().display())), None).unwrap_err();
        assert_eq!(error, Failure::new("--secret-file is 0 bytes long, and must be from 1 to 1024"));
    }

    #[test]
    fn a_server_of_any_id_can_be_a_cluster_of_one() {
        let settings = load(flags("--data d --id 7 --peer-listen 127.0.0.1:9"), None).unwrap().settings;
        assert_eq!(settings.node, NodeId(7));
        assert_eq!(settings.cluster.members, [(NodeId(7), "127.0.0.1:9".to_string())].into());
    }
}
