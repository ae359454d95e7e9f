//! Settings as written, each of them optional.

use std::path::PathBuf;

use serde::Deserialize;

use super::Members;
use crate::units::{ByteBound, ByteSize, Span};

/// All settings of a server, as given by flags and environment, or by a file.
#[derive(Debug, Clone, Default, PartialEq, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawSettings {
    /// This server's id: a number from 1, its own for ever. A server that lost its disk joins under a new one. [default: 1]
    #[arg(long, value_name = "N", env = "PONTOON_ID", help_heading = "This server")]
    pub id: Option<u64>,
    /// The data folder; created if missing. Required.
    #[arg(long, value_name = "DIR", env = "PONTOON_DATA", help_heading = "This server")]
    pub data: Option<PathBuf>,
    /// Where Redis clients connect. [default: 127.0.0.1:7001]
    #[arg(long, value_name = "HOST:PORT", env = "PONTOON_LISTEN", help_heading = "This server")]
    pub listen: Option<String>,
    /// Where the other members connect; required in a cluster of more than one. [default: 127.0.0.1:8001]
    #[arg(long, value_name = "HOST:PORT", env = "PONTOON_PEER_LISTEN", help_heading = "This server")]
    pub peer_listen: Option<String>,
    /// What clients must present with AUTH before anything else; none: nothing is asked. Seen by others in the list of processes:
    /// prefer the environment or the file.
    #[arg(
        long,
        value_name = "TEXT",
        env = "PONTOON_PASSWORD",
        hide_env_values = true,
        help_heading = "This server"
    )]
    pub password: Option<String>,
    /// Pontoon's own log level (error, warn, info, debug, trace), or a filter such as `pontoon_server=debug,raft_engine=info`.
    /// Logs go to stderr. [default: info]
    #[arg(long, value_name = "FILTER", env = "PONTOON_LOG", help_heading = "This server")]
    pub log_level: Option<String>,

    /// Every member and the address at which the others reach it, such as
    /// `1=10.0.0.1:8001,2=10.0.0.2:8001,3=10.0.0.3:8001`; in a file also a table `[cluster]`. Alike on all members.
    /// [default: this server alone]
    #[arg(
        long,
        value_name = "ID=HOST:PORT,...",
        env = "PONTOON_CLUSTER",
        help_heading = "The cluster (alike on all members)"
    )]
    pub cluster: Option<Members>,
    /// The cluster's name: servers of different clusters never talk to one another. [default: pontoon]
    #[arg(
        long,
        value_name = "NAME",
        env = "PONTOON_CLUSTER_ID",
        help_heading = "The cluster (alike on all members)"
    )]
    pub cluster_id: Option<String>,
    /// What members prove to one another to know; required unless all of them are on loopback addresses. Seen by others in the list
    /// of processes: prefer --secret-file.
    #[arg(
        long,
        value_name = "TEXT",
        env = "PONTOON_SECRET",
        hide_env_values = true,
        help_heading = "The cluster (alike on all members)"
    )]
    pub secret: Option<String>,
    /// A file that holds the secret (a line end after it does not count).
    #[arg(
        long,
        value_name = "FILE",
        env = "PONTOON_SECRET_FILE",
        help_heading = "The cluster (alike on all members)"
    )]
    pub secret_file: Option<PathBuf>,
    /// A key's length at most, such as 64KiB. [default: 64KiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "PONTOON_KEY_BYTES_MAX",
        help_heading = "The cluster (alike on all members)"
    )]
    pub key_bytes_max: Option<ByteSize>,
    /// A value's length at most, also after APPEND. [default: 16MiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "PONTOON_VALUE_BYTES_MAX",
        help_heading = "The cluster (alike on all members)"
    )]
    pub value_bytes_max: Option<ByteSize>,
    /// Open sessions at most; one more is refused, and none is evicted. [default: 100000]
    #[arg(
        long,
        value_name = "N",
        env = "PONTOON_SESSIONS_MAX",
        help_heading = "The cluster (alike on all members)"
    )]
    pub sessions_max: Option<u64>,
    /// Requests of one session in flight at most. [default: 256]
    #[arg(
        long,
        value_name = "N",
        env = "PONTOON_SESSION_WINDOW",
        help_heading = "The cluster (alike on all members)"
    )]
    pub session_window: Option<u64>,
    /// A session that is idle for longer expires, in time during which the cluster has a leader. [default: 5m]
    #[arg(
        long,
        value_name = "TIME",
        env = "PONTOON_SESSION_TTL",
        help_heading = "The cluster (alike on all members)"
    )]
    pub session_ttl: Option<Span>,

    /// Client connections at once; one more is told so and closed. [default: 10000]
    #[arg(long, value_name = "N", env = "PONTOON_CONNECTIONS_MAX", help_heading = "Resources and time")]
    pub connections_max: Option<u64>,
    /// A request is answered after this long in any case: with its result, or with what is known of it. (A large write may
    /// first wait as long for room.) [default: 5s]
    #[arg(long, value_name = "TIME", env = "PONTOON_REQUEST_TIMEOUT", help_heading = "Resources and time")]
    pub request_timeout: Option<Span>,
    /// The log may grow by this much before it is trimmed to what the stored state does not yet cover, and to four times as much while a
    /// member that answers needs it; -1: it is never trimmed.
    /// [default: 128MiB]
    #[arg(
        long,
        value_name = "SIZE",
        env = "PONTOON_SNAPSHOT_LOG_BYTES",
        allow_negative_numbers = true,
        help_heading = "Resources and time"
    )]
    pub snapshot_log_bytes: Option<ByteBound>,
    /// The state store's caches: three quarters for the newest records of keys (memtables not counted), the rest for blocks of tables. [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "PONTOON_CACHE_BYTES", help_heading = "Resources and time")]
    pub cache_bytes: Option<ByteSize>,
    /// The state store writes its memtable to disk at this size, or when twice as much was written to it. [default: 48MiB]
    #[arg(long, value_name = "SIZE", env = "PONTOON_MEMTABLE_BYTES", help_heading = "Resources and time")]
    pub memtable_bytes: Option<ByteSize>,
    /// The step of Raft's clock, in milliseconds. [default: 25]
    #[arg(long, value_name = "MS", env = "PONTOON_TICK_MS", help_heading = "Resources and time")]
    pub tick_ms: Option<u64>,
    /// A leader sends heartbeats every so many ticks. [default: 2]
    #[arg(long, value_name = "TICKS", env = "PONTOON_HEARTBEAT_TICKS", help_heading = "Resources and time")]
    pub heartbeat_ticks: Option<u64>,
    /// A member campaigns after this many to twice as many ticks without a leader: with the defaults after 0.4 to 0.8 s.
    /// [default: 16]
    #[arg(long, value_name = "TICKS", env = "PONTOON_ELECTION_TICKS", help_heading = "Resources and time")]
    pub election_ticks: Option<u64>,
    /// A fault, for experiments: every fsync of the log takes this much longer, in milliseconds. [default: 0]
    #[arg(long, value_name = "MS", env = "PONTOON_FAULT_FSYNC_DELAY_MS", hide = true)]
    pub fault_fsync_delay_ms: Option<u64>,
}

impl RawSettings {
    /// Each setting from `self`, else from `other`. The two ways to give the secret count as one setting.
    pub fn or(self, other: RawSettings) -> RawSettings {
        let no_secret = self.secret.is_none() && self.secret_file.is_none();
        let (other_secret, other_secret_file) =
            if no_secret { (other.secret, other.secret_file) } else { (None, None) };
        RawSettings {
            id: self.id.or(other.id),
            data: self.data.or(other.data),
            listen: self.listen.or(other.listen),
            peer_listen: self.peer_listen.or(other.peer_listen),
            password: self.password.or(other.password),
            log_level: self.log_level.or(other.log_level),
            cluster: self.cluster.or(other.cluster),
            cluster_id: self.cluster_id.or(other.cluster_id),
            secret: self.secret.or(other_secret),
            secret_file: self.secret_file.or(other_secret_file),
            key_bytes_max: self.key_bytes_max.or(other.key_bytes_max),
            value_bytes_max: self.value_bytes_max.or(other.value_bytes_max),
            sessions_max: self.sessions_max.or(other.sessions_max),
            session_window: self.session_window.or(other.session_window),
            session_ttl: self.session_ttl.or(other.session_ttl),
            connections_max: self.connections_max.or(other.connections_max),
            request_timeout: self.request_timeout.or(other.request_timeout),
            snapshot_log_bytes: self.snapshot_log_bytes.or(other.snapshot_log_bytes),
            cache_bytes: self.cache_bytes.or(other.cache_bytes),
            memtable_bytes: self.memtable_bytes.or(other.memtable_bytes),
            tick_ms: self.tick_ms.or(other.tick_ms),
            heartbeat_ticks: self.heartbeat_ticks.or(other.heartbeat_ticks),
            election_ticks: self.election_ticks.or(other.election_ticks),
            fault_fsync_delay_ms: self.fault_fsync_delay_ms.or(other.fault_fsync_delay_ms),
        }
    }
}
