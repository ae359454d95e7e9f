//! What a replica is told before it starts.

use pontoon_kv::{Applied, Entry, GroupId, Index, Limits, NodeId, Term};

use crate::HardState;

/// Settings of a replica. Times are counted in ticks of the driver's clock.
#[derive(Debug, Clone)]
pub struct Config {
    /// The group.
    pub group: GroupId,
    /// This member.
    pub node: NodeId,
    /// All that looks random is derived from it: election timeouts, call ids, back-off. Different for each start.
    pub seed: u64,
    /// How much the cluster clock advances per tick while this member leads, in milliseconds.
    pub tick_ms: u64,
    /// Between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// Without a leader before an election: at least this, below twice this.
    pub election_ticks: u32,
    /// After this a waiting client is answered in any case.
    pub request_timeout_ticks: u64,
    /// Limits that the whole cluster agrees on.
    pub limits: Limits,
    /// Clients that may wait here at once.
    pub waiting_max: usize,
    /// Bytes of the requests that may wait here at once.
    pub waiting_bytes_max: u64,
    /// Entries in one message to a follower, in bytes; one larger entry goes alone.
    pub append_bytes_max: u64,
    /// Messages with entries to one follower that it has not answered. Times [`Config::append_bytes_max`] (or the size of
    /// usual entries, if that is more) it should be less than what the way to a member holds, or appends are lost and sent again.
    pub append_inflight_max: usize,
    /// Proposals in one entry, in bytes; one larger proposal goes alone.
    pub block_bytes_max: usize,
    /// Entries that this leader has not committed, in bytes; beyond that proposals wait.
    pub uncommitted_bytes_max: u64,
    /// When the log outgrows this, in bytes, the state is flushed and the log's older part trimmed (the classic
    /// `maxraftstate`); it may take four times as much while a follower that answers needs it. None: never.
    pub log_bytes_max: Option<u64>,
    /// How much of the log's end is kept in memory, in bytes, beyond what must be.
    pub window_bytes_max: u64,
}

impl Config {
    /// The defaults for a member.
    pub fn new(group: GroupId, node: NodeId, seed: u64) -> Config {
        Config {
            group,
            node,
            seed,
            tick_ms: 25,
            heartbeat_ticks: 2,
            election_ticks: 16,
            request_timeout_ticks: 200,
            limits: Limits::default(),
            waiting_max: 65_536,
            waiting_bytes_max: 256 << 20,
            append_bytes_max: 1 << 20,
            append_inflight_max: 32,
            block_bytes_max: 256 << 10,
            uncommitted_bytes_max: 256 << 20,
            log_bytes_max: Some(128 << 20),
            window_bytes_max: 8 << 20,
        }
    }
}

/// What a member has on its disk when it starts.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Term, vote and a lower bound of what is committed.
    pub hard_state: HardState,
    /// How far the state store has got; for a new member index 0 and the cluster's first membership.
    pub applied: Applied,
    /// The position before the log's first entry.
    pub trimmed: (Index, Term),
    /// The log.
    pub entries: Vec<Entry>,
}
