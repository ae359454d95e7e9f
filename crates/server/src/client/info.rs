//! `INFO`: what a server says of itself, as text in Redis's form.

use std::{
    fmt::Display,
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::UNIX_EPOCH,
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

use super::service::Service;

/// The Redis whose commands and replies these are; clients look for it.
const REDIS_VERSION: &str = "7.0.0";

type Fields = Vec<(&'static str, String)>;
type Section = fn(&Service) -> Fields;

/// The sections with these names (lower case), or all; a name that is none is passed over.
pub(crate) fn text(names: &[String], service: &Service) -> String {
    let all = names.is_empty()
        || names.iter().any(|name| matches!(name.as_str(), "all" | "default" | "everything"));
    let sections: [(&str, Section); 6] = [
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory),
        ("Stats", stats),
        ("CPU", cpu),
        ("Raft", raft),
    ];
    let mut text = String::new();
    for (title, fields) in sections {
        if !all && !names.iter().any(|name| name.eq_ignore_ascii_case(title)) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {title}\r\n"));
        for (name, value) in fields(service) {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
    }
    text
}

fn field(name: &'static str, value: impl Display) -> (&'static str, String) {
    (name, value.to_string())
}

fn count(name: &'static str, counter: &AtomicU64) -> (&'static str, String) {
    field(name, counter.load(Ordering::Relaxed))
}

fn server(service: &Service) -> Fields {
    let uptime = service.started.elapsed().as_secs();
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    vec![
        field("redis_version", REDIS_VERSION),
        field("redis_mode", "standalone"),
        field("pontoon_version", env!("CARGO_PKG_VERSION")),
        field("os", std::env::consts::OS),
        field("arch_bits", usize::BITS),
        field("process_id", std::process::id()),
        field("tcp_port", service.port),
        field("server_time_usec", now.as_micros()),
        field("uptime_in_seconds", uptime),
        field("uptime_in_days", uptime / (24 * 60 * 60)),
    ]
}

fn clients(service: &Service) -> Fields {
    vec![
        count("connected_clients", &service.counters.connected),
        field("maxclients", service.settings.connections_max),
    ]
}

fn memory(_: &Service) -> Fields {
    let resident = resident_bytes();
    vec![field("used_memory", resident), field("used_memory_rss", resident), field("maxmemory", 0)]
}

fn stats(service: &Service) -> Fields {
    vec![
        count("total_connections_received", &service.counters.accepted),
        count("total_commands_processed", &service.counters.commands),
        count("rejected_connections", &service.counters.rejected),
        field("total_disk_written_bytes", disk_written_bytes()),
    ]
}

fn cpu(_: &Service) -> Fields {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself");
    let seconds = |time: TimeVal| format!("{}.{:06}", time.tv_sec(), time.tv_usec());
    vec![
        field("used_cpu_sys", seconds(usage.system_time())),
        field("used_cpu_user", seconds(usage.user_time())),
    ]
}

fn raft(service: &Service) -> Fields {
    let status = service.gateway.status();
    let cluster = &service.settings.cluster;
    let replica = &status.replica;
    let leader = replica.leader.map(|leader| leader.to_string()).unwrap_or_default();
    let leader_address = replica.leader.and_then(|leader| cluster.members.get(&leader));
    vec![
        field("raft_cluster_id", &cluster.id),
        field("raft_node_id", service.settings.node),
        field("raft_members", cluster.members.len()),
        field("raft_role", replica.role.name()),
        field("raft_term", replica.term),
        field("raft_leader", leader),
        field("raft_leader_addr", leader_address.map(String::as_str).unwrap_or_default()),
        field("raft_commit_index", replica.commit),
        field("raft_applied_index", replica.applied),
        field("raft_last_index", replica.last),
        field("raft_trimmed_index", replica.trimmed),
        field("raft_log_bytes", replica.log_bytes),
        field("raft_state_bytes", status.state_bytes),
        field("raft_sessions", status.sessions),
        field("raft_waiting", replica.waiting),
    ]
}

/// What of this process is in memory, in bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Bytes that this process has had written to disks; 0 where the system does not say.
fn disk_written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    line.and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}
