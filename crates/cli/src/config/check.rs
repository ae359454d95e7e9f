//! Whether settings make sense, one by one and together.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use pontoon_kv::{Limits, NodeId};
use pontoon_server::{ClusterSettings, Settings};

use super::{RawSettings, members};
use crate::units::Span;

/// Why settings are refused. Each text names the setting to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No data folder.
    #[error("there is no data folder: set --data DIR")]
    NoData,
    /// No id in a cluster of several.
    #[error("the cluster has several members and this server has no id: set --id to one of {members}")]
    NoId {
        /// The members' ids.
        members: String,
    },
    /// A server that is no member.
    #[error(
        "id {id} is not a member of the cluster ({members}): change --id, or add it to --cluster on all members"
    )]
    NotAMember {
        /// The server's id.
        id: u64,
        /// The members' ids.
        members: String,
    },
    /// Nobody could reach this server.
    #[error("the cluster has several members and this one listens for none: set --peer-listen HOST:PORT")]
    NoPeerListen,
    /// No `host:port`.
    #[error("{setting} {value:?} is no address: give HOST:PORT, such as 127.0.0.1:7001")]
    BadAddress {
        /// The flag.
        setting: &'static str,
        /// What was given.
        value: String,
    },
    /// Clients and members at one port.
    #[error("--listen and --peer-listen are both {address}: give each its own port")]
    SameAddress {
        /// The address.
        address: String,
    },
    /// A cluster on a network, without a secret.
    #[error(
        "member {id} is at {address}, which other machines can reach: set --secret-file (or --secret), alike on all members"
    )]
    NoSecret {
        /// A member that is not on loopback.
        id: u64,
        /// Its address.
        address: String,
    },
    /// Two secrets.
    #[error("both --secret and --secret-file are set: set one of them")]
    TwoSecrets,
    /// The file of the secret.
    #[error("cannot read --secret-file {}: {error}", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A text that may not be empty, or has a bound.
    #[error("{setting} is {length} bytes long, and must be from 1 to {max}")]
    Length {
        /// The flag.
        setting: &'static str,
        /// Its value's length.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// A number out of its range.
    #[error("{setting} is {value}{unit}, and must be from {min} to {max}{unit}")]
    OutOfRange {
        /// The flag.
        setting: &'static str,
        /// What was given.
        value: u64,
        /// What is the least.
        min: u64,
        /// What is the most.
        max: u64,
        /// Of all three.
        unit: &'static str,
    },
    /// Elections would start between two heartbeats.
    #[error(
        "--election-ticks is {election} and --heartbeat-ticks is {heartbeat}: --election-ticks must be at least twice as much, or a late heartbeat starts an election"
    )]
    ElectionTooSoon {
        /// Ticks until an election.
        election: u32,
        /// Ticks until a heartbeat.
        heartbeat: u32,
    },
}

/// A secret or password at most, in bytes; so that a wrong file (a disk image, `/dev/zero`) is not taken for one.
const SECRET_BYTES_MAX: usize = 1024;
/// A cluster's name at most, in bytes.
const CLUSTER_ID_BYTES_MAX: usize = 128;

/// Fills in the defaults and checks everything that can be checked without touching the data folder or a port.
pub fn check(raw: RawSettings) -> Result<Settings, ConfigError> {
    let data = raw.data.clone().filter(|path| !path.as_os_str().is_empty()).ok_or(ConfigError::NoData)?;
    let defaults = Settings::new(NodeId(1), data.clone());
    let listen = address("--listen", raw.listen.clone().unwrap_or(defaults.listen), true)?;
    let (node, members, peer_listen) = membership(&raw, defaults.peer_listen)?;
    if members.len() > 1 && listen == peer_listen {
        return Err(ConfigError::SameAddress { address: listen });
    }
    let (heartbeat_ticks, election_ticks) = ticks(&raw, defaults.heartbeat_ticks, defaults.election_ticks)?;
    Ok(Settings {
        node,
        cluster: ClusterSettings {
            id: text(
                "--cluster-id",
                raw.cluster_id.clone().unwrap_or(defaults.cluster.id),
                CLUSTER_ID_BYTES_MAX,
            )?,
            secret: secret(&raw, &members)?,
            members,
            limits: limits(&raw, defaults.cluster.limits)?,
        },
        data,
        listen,
        peer_listen,
        password: raw.password.map(|password| text("--password", password, SECRET_BYTES_MAX)).transpose()?,
        connections_max: number(
            "--connections-max",
            raw.connections_max.unwrap_or(defaults.connections_max as u64),
            1..=1_000_000,
        )? as usize,
        request_timeout: span(
            "--request-timeout",
            raw.request_timeout,
            defaults.request_timeout,
            10..=600_000,
        )?,
        snapshot_log_bytes: raw.snapshot_log_bytes.map_or(defaults.snapshot_log_bytes, |bound| bound.0),
        tick: Duration::from_millis(number(
            "--tick-ms",
            raw.tick_ms.unwrap_or(defaults.tick.as_millis() as u64),
            1..=1_000,
        )?),
        heartbeat_ticks,
        election_ticks,
        cache_bytes: bytes(
            "--cache-bytes",
            raw.cache_bytes.map_or(defaults.cache_bytes, |size| size.0),
            1 << 20..=1 << 40,
        )?,
        memtable_bytes: bytes(
            "--memtable-bytes",
            raw.memtable_bytes.map_or(defaults.memtable_bytes, |size| size.0),
            64 << 10..=1 << 30,
        )?,
        fault_fsync_delay: Duration::from_millis(number(
            "--fault-fsync-delay-ms",
            raw.fault_fsync_delay_ms.unwrap_or(0),
            0..=10_000,
        )?),
    })
}

/// Who this server is, who the members are, and where they reach it.
fn membership(
    raw: &RawSettings,
    default: String,
) -> Result<(NodeId, BTreeMap<NodeId, String>, String), ConfigError> {
    let peer_listen =
        raw.peer_listen.clone().map(|given| address("--peer-listen", given, false)).transpose()?;
    let members = match raw.cluster.clone() {
        Some(members) => members.into_map(),
        None => BTreeMap::from([(raw.id.unwrap_or(1), peer_listen.clone().unwrap_or(default.clone()))]),
    };
    let names = members.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let id = match (raw.id, members.len()) {
        (Some(id), _) => id,
        (None, 1) => *members.keys().next().expect("there is one"),
        (None, _) => return Err(ConfigError::NoId { members: names }),
    };
    number("--id", id, 1..=u64::MAX)?;
    if !members.contains_key(&id) {
        return Err(ConfigError::NotAMember { id, members: names });
    }
    let peer_listen = match (peer_listen, members.len()) {
        (Some(given), _) => given,
        (None, 1) => default,
        (None, _) => return Err(ConfigError::NoPeerListen),
    };
    Ok((NodeId(id), members.into_iter().map(|(id, address)| (NodeId(id), address)).collect(), peer_listen))
}

/// The cluster's secret; empty only where nobody else can reach the members.
fn secret(raw: &RawSettings, members: &BTreeMap<NodeId, String>) -> Result<String, ConfigError> {
    match (&raw.secret, &raw.secret_file) {
        (Some(_), Some(_)) => Err(ConfigError::TwoSecrets),
        (Some(secret), None) => text("--secret", secret.clone(), SECRET_BYTES_MAX),
        (None, Some(path)) => {
            let read =
                read_secret(path).map_err(|error| ConfigError::SecretFile { path: path.clone(), error })?;
            text("--secret-file", read, SECRET_BYTES_MAX)
        }
        (None, None) => match members.iter().find(|(_, address)| !members::is_loopback(address)) {
            Some((id, address)) if members.len() > 1 => {
                Err(ConfigError::NoSecret { id: id.0, address: address.clone() })
            }
            _ => Ok(String::new()),
        },
    }
}

fn read_secret(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    fs::File::open(path)?.take(SECRET_BYTES_MAX as u64 + 2).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

fn limits(raw: &RawSettings, defaults: Limits) -> Result<Limits, ConfigError> {
    let size = |setting, given: Option<crate::units::ByteSize>, default: u32, max: u64| {
        bytes(setting, given.map_or(u64::from(default), |size| size.0), 1..=max).map(|bytes| bytes as u32)
    };
    let ttl = Duration::from_millis(defaults.session_ttl_ms);
    Ok(Limits {
        // An entry of the log holds keys and values whole, and so does the memory of every member: hence the upper bounds.
        key_bytes_max: size("--key-bytes-max", raw.key_bytes_max, defaults.key_bytes_max, 1 << 20)?,
        value_bytes_max: size("--value-bytes-max", raw.value_bytes_max, defaults.value_bytes_max, 128 << 20)?,
        sessions_max: number(
            "--sessions-max",
            raw.sessions_max.unwrap_or(defaults.sessions_max.into()),
            1..=10_000_000,
        )? as u32,
        session_window: number(
            "--session-window",
            raw.session_window.unwrap_or(defaults.session_window.into()),
            1..=4_096,
        )? as u32,
        session_ttl_ms: span("--session-ttl", raw.session_ttl, ttl, 1_000..=30 * 24 * 3_600_000)?.as_millis()
            as u64,
    })
}

fn ticks(raw: &RawSettings, heartbeat: u32, election: u32) -> Result<(u32, u32), ConfigError> {
    let heartbeat =
        number("--heartbeat-ticks", raw.heartbeat_ticks.unwrap_or(heartbeat.into()), 1..=1_000)? as u32;
    let election =
        number("--election-ticks", raw.election_ticks.unwrap_or(election.into()), 2..=10_000)? as u32;
    if election < 2 * heartbeat {
        return Err(ConfigError::ElectionTooSoon { election, heartbeat });
    }
    Ok((heartbeat, election))
}

/// A `host:port`; port 0 (any free one) only where nobody else has to know it.
fn address(setting: &'static str, value: String, any_port: bool) -> Result<String, ConfigError> {
    match members::port(&value) {
        Some(port) if port > 0 || any_port => Ok(value),
        _ => Err(ConfigError::BadAddress { setting, value }),
    }
}

fn text(setting: &'static str, value: String, max: usize) -> Result<String, ConfigError> {
    if (1..=max).contains(&value.len()) {
        Ok(value)
    } else {
        Err(ConfigError::Length { setting, length: value.len(), max })
    }
}

fn span(
    setting: &'static str,
    given: Option<Span>,
    default: Duration,
    range_ms: RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    let given = given.map_or(default, |span| span.0);
    let ms = u64::try_from(given.as_millis()).unwrap_or(u64::MAX);
    within(setting, ms, range_ms, " ms").map(Duration::from_millis)
}

fn bytes(setting: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
    within(setting, value, range, " bytes")
}

fn number(setting: &'static str, value: u64, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
    within(setting, value, range, "")
}

fn within(
    setting: &'static str,
    value: u64,
    range: RangeInclusive<u64>,
    unit: &'static str,
) -> Result<u64, ConfigError> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::OutOfRange { setting, value, min: *range.start(), max: *range.end(), unit })
    }
}
