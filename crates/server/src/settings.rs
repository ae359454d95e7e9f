//! What a server is told before it starts: validated, with defaults filled in. (Flags, files and environment are `cli`'s.)

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use pontoon_kv::{Limits, NodeId};

/// Settings of the whole cluster: peers compare them when they connect, and refuse one another if they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The cluster's name: servers of different clusters never talk to one another.
    pub id: String,
    /// Every member and the address (`host:port`) at which the other members reach it.
    pub members: BTreeMap<NodeId, String>,
    /// What the machine decides by.
    pub limits: Limits,
    /// What members prove to one another to know. Empty only where all members are on loopback.
    pub secret: String,
}

impl ClusterSettings {
    /// What must agree on all members, one `name value` a line, in a fixed order.
    pub fn canonical(&self) -> String {
        let Limits { key_bytes_max, value_bytes_max, sessions_max, session_window, session_ttl_ms } =
            self.limits;
        let members = self.members.iter().map(|(node, address)| format!("member-{node} {address}\n"));
        members.collect::<String>()
            + &format!(
                "key-bytes-max {key_bytes_max}\nvalue-bytes-max {value_bytes_max}\nsessions-max {sessions_max}\n"
            )
            + &format!("session-window {session_window}\nsession-ttl-ms {session_ttl_ms}\n")
    }
}

/// Settings of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This server.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterSettings,
    /// The data folder; created if missing.
    pub data: PathBuf,
    /// Where clients connect, `host:port`.
    pub listen: String,
    /// Where members connect, `host:port`; unused in a cluster of one.
    pub peer_listen: String,
    /// What clients must present with `AUTH`; none: nothing.
    pub password: Option<String>,
    /// Client connections at once; one more is told so and closed.
    pub connections_max: usize,
    /// After this a waiting client is answered in any case.
    pub request_timeout: Duration,
    /// The log's size at which it is trimmed, in bytes (the classic `maxraftstate`); none: never.
    pub snapshot_log_bytes: Option<u64>,
    /// The core's clock.
    pub tick: Duration,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader before an election: at least this, below twice this.
    pub election_ticks: u32,
    /// The state store's caches, in bytes: three quarters for the newest records of keys, beside those of memtables, the rest
    /// for blocks of tables.
    pub cache_bytes: u64,
    /// A memtable of the state store is flushed at this size, in bytes, or at up to three eighths less: members differ, so that they
    /// do not flush at the same moment.
    pub memtable_bytes: u64,
    /// A fault, for experiments: each write of the log takes this much longer, as if on a slow disk.
    pub fault_fsync_delay: Duration,
}

impl Settings {
    /// The defaults, for a cluster of one.
    pub fn new(node: NodeId, data: PathBuf) -> Settings {
        Settings {
            node,
            cluster: ClusterSettings {
                id: "pontoon".to_string(),
                members: BTreeMap::from([(node, "127.0.0.1:8001".to_string())]),
                limits: Limits::default(),
                secret: String::new(),
            },
            data,
            listen: "127.0.0.1:7001".to_string(),
            peer_listen: "127.0.0.1:8001".to_string(),
            password: None,
            connections_max: 10_000,
            request_timeout: Duration::from_secs(5),
            snapshot_log_bytes: Some(128 << 20),
            tick: Duration::from_millis(25),
            heartbeat_ticks: 2,
            election_ticks: 16,
            cache_bytes: 64 << 20,
            memtable_bytes: 48 << 20,
            fault_fsync_delay: Duration::ZERO,
        }
    }
}
