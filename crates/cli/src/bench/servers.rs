//! What the servers say of their own cost, and what the generator costs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use pontoon_wire::resp::Value;
use serde::Serialize;

use crate::{args::ClientArgs, info::Connection};

/// A server that does not answer by then has no figures.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A server's figures at one moment, from its `INFO`; those of Redis lack some.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    process_id: Option<u64>,
    cpu_seconds: Option<f64>,
    written_bytes: Option<u64>,
    resident_bytes: Option<u64>,
}

/// What a run cost a server. `None`: it does not say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Its address.
    pub server: String,
    /// Processor time.
    pub cpu_seconds: Option<f64>,
    /// Bytes to its disk.
    pub written_bytes: Option<u64>,
    /// Its memory at the end.
    pub resident_bytes: Option<u64>,
}

/// All servers' figures now, in their order.
pub fn ask(client: &ClientArgs) -> Vec<Figures> {
    let figures = |server: &String| {
        let deadline = Instant::now() + TIMEOUT;
        let mut connection = Connection::open(server, client.password.as_deref(), deadline).ok()?;
        match connection.call(&["INFO"], deadline).ok()? {
            Value::Bulk(text) => Some(read(&String::from_utf8_lossy(&text))),
            _ => None,
        }
    };
    client.servers.iter().map(|server| figures(server).unwrap_or_default()).collect()
}

/// What happened between two times.
pub fn differences(client: &ClientArgs, before: &[Figures], after: &[Figures]) -> Vec<Cost> {
    let cost = |(server, (before, after)): (&String, (&Figures, &Figures))| {
        // A process that was started meanwhile counts from zero.
        let same = before.process_id == after.process_id;
        let cpu = before.cpu_seconds.zip(after.cpu_seconds).filter(|_| same);
        let written = before.written_bytes.zip(after.written_bytes).filter(|_| same);
        Cost {
            server: server.clone(),
            cpu_seconds: cpu.map(|(before, after)| after - before),
            written_bytes: written.map(|(before, after)| after.saturating_sub(before)),
            resident_bytes: after.resident_bytes,
        }
    };
    client.servers.iter().zip(before.iter().zip(after)).map(cost).collect()
}

/// Processor time of this process, in seconds.
pub fn own_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself");
    (usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6
}

fn read(text: &str) -> Figures {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.trim().split_once(':')).collect();
    let number = |name: &str| fields.get(name)?.parse::<u64>().ok();
    let seconds = |name: &str| fields.get(name)?.parse::<f64>().ok();
    Figures {
        process_id: number("process_id"),
        cpu_seconds: seconds("used_cpu_sys")
            .zip(seconds("used_cpu_user"))
            .map(|(system, user)| system + user),
        written_bytes: number("total_disk_written_bytes"),
        resident_bytes: number("used_memory_rss"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientArgs {
        ClientArgs { servers: vec!["a:1".to_string()], password: None }
    }

    #[test]
    fn the_cost_is_the_difference_within_one_process() {
        let before = read(
            "# CPU\r\nprocess_id:7\r\nused_cpu_sys:1.25\r\nused_cpu_user:2.5\r\ntotal_disk_written_bytes:100\r\n",
        );
        let after = read(
            "process_id:7\r\nused_cpu_sys:2.25\r\nused_cpu_user:2.75\r\ntotal_disk_written_bytes:400\r\nused_memory_rss:9\r\n",
        );
        let cost = differences(&client(), std::slice::from_ref(&before), std::slice::from_ref(&after));
        let expected = Cost {
            server: "a:1".to_string(),
            cpu_seconds: Some(1.25),
            written_bytes: Some(300),
            resident_bytes: Some(9),
        };
        assert_eq!(cost, [expected]);

        let restarted = Figures { process_id: Some(8), ..after };
        let cost = differences(&client(), &[before], &[restarted]);
        assert_eq!(
            (cost[0].cpu_seconds, cost[0].written_bytes, cost[0].resident_bytes),
            (None, None, Some(9))
        );
    }
}
