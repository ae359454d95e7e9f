//! Limits that all members of a cluster must agree on, because the machine decides by them.

/// Cluster-wide limits; peers compare them when they connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A key's length, in bytes.
    pub key_bytes_max: u32,
    /// A value's length, in bytes, also after `APPEND`.
    pub value_bytes_max: u32,
    /// Open sessions; at the cap an open is refused and no session is evicted.
    pub sessions_max: u32,
    /// A client session's window: how many requests from `ack` on may be in flight.
    pub session_window: u32,
    /// A session idle for longer, in milliseconds of cluster time, expires.
    pub session_ttl_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            key_bytes_max: 64 << 10,
            value_bytes_max: 16 << 20,
            sessions_max: 100_000,
            session_window: 256,
            session_ttl_ms: 5 * 60 * 1000,
        }
    }
}
