//! The `rsm` rows of 2025: operations handed to a server that is alone, about to stop, or just back. The counter of the original is
//! `INCR` and `DECR` here, on plain connections; a server's own copy of it is what that server answers to `GET`, as it reads its
//! own state.

use std::{collections::BTreeSet, io, time::Duration};

use pontoon_wire::resp::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    ask::{Connection, ask},
    cluster::{Cluster, broken, within},
};
use crate::{check::Violation, lab::RsmRow, world::Server};

/// The counter.
const KEY: &str = "counter";
/// The original tries all servers for so long.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);

impl RsmRow {
    /// What the original prints for it.
    pub(super) fn title(self) -> &'static str {
        match self {
            RsmRow::Basic => "rsm: basic",
            RsmRow::Concurrent => "rsm: concurrent submit",
            RsmRow::LeaderFailure => "rsm: leader failure",
            RsmRow::LeaderPartition => "rsm: leader partition",
            RsmRow::RestartReplay => "rsm: restart and replay",
            RsmRow::Shutdown => "rsm: shutdown",
            RsmRow::RestartSubmit => "rsm: restart and submit",
            RsmRow::Snapshot => "rsm: snapshot and restart",
        }
    }

    pub(super) async fn run_on(self, cluster: &Cluster) -> Result<(), Violation> {
        match self {
            RsmRow::Basic => basic(cluster).await,
            RsmRow::Concurrent => concurrent(cluster).await,
            RsmRow::LeaderFailure => leader_failure(cluster).await,
            RsmRow::LeaderPartition => leader_partition(cluster).await,
            RsmRow::RestartReplay => restart(cluster).await,
            RsmRow::Shutdown => shutdown(cluster).await,
            RsmRow::RestartSubmit => restart_submit(cluster).await,
            RsmRow::Snapshot => snapshot(cluster).await,
        }
    }
}

async fn basic(cluster: &Cluster) -> Result<(), Violation> {
    for number in 1..=10 {
        increment(cluster, number).await?;
    }
    counter_is(cluster, cluster.all(), 10).await
}

async fn concurrent(cluster: &Cluster) -> Result<(), Violation> {
    let answers = at_once(cluster, cluster.await_leader().await?, 50, &["INCR", KEY]).await?.join_all().await;
    let numbers: BTreeSet<i64> = answers.iter().filter_map(number).collect();
    if !numbers.into_iter().eq(1..=50) {
        return Err(Violation::new("each INCR has a number of its own", format!("{answers:?}")));
    }
    counter_is(cluster, cluster.all(), 50).await
}

async fn leader_failure(cluster: &Cluster) -> Result<(), Violation> {
    increment(cluster, 1).await?;
    let leader = cut_leader_off(cluster).await?;
    let others = cluster.all().filter(|server| *server != leader);
    let number = submit(cluster, others.clone(), &["INCR", KEY]).await?;
    expect("an INCR beyond a failed leader", &number, 2)?;
    counter_is(cluster, others, 2).await?;
    cluster.links.connect();
    counter_is(cluster, cluster.all(), 2).await
}

/// A leader in the minority executes nothing. The original's servers give up what they lose the lead for, and so all 100 requests
/// must fail there; ours go on proposing them under their own session (once, whatever happens) until the request times out, so after
/// healing each has one of three outcomes, and the counter must be what these say.
async fn leader_partition(cluster: &Cluster) -> Result<(), Violation> {
    const DECREMENTS: usize = 100;
    increment(cluster, 1).await?;
    let leader = cut_leader_off(cluster).await?;
    let mut answers = at_once(cluster, leader, DECREMENTS, &["DECR", KEY]).await?;
    sleep(Duration::from_millis(10)).await;
    let others = cluster.all().filter(|server| *server != leader);
    expect("an INCR in the majority", &submit(cluster, others, &["INCR", KEY]).await?, 2)?;
    if let Ok(Some(answer)) = timeout(Duration::from_secs(1), answers.join_next()).await {
        let what = format!("a DECR of the minority's leader was answered with {answer:?}");
        return Err(Violation::new("no progress in the minority", what));
    }
    cluster.links.connect();
    let Ok(answers) = timeout(Duration::from_secs(1), answers.join_all()).await else {
        let what = "some of the DECRs have no answer a second after healing".to_string();
        return Err(Violation::new("blocked calls end", what));
    };
    let executed = answers.iter().filter_map(number).count() as i64;
    let unknown = answers.iter().filter(|answer| is_unknown(answer)).count() as i64;
    let value = submit(cluster, cluster.all(), &["GET", KEY]).await?;
    let value = number(&Ok(value)).unwrap_or(i64::MIN);
    if !(2 - executed - unknown..=2 - executed).contains(&value) {
        let what =
            format!("{executed} DECRs were executed, {unknown} may have been, and the counter is {value}");
        return Err(Violation::new("every answer is true", what));
    }
    counter_is(cluster, cluster.all(), value).await
}

async fn restart(cluster: &Cluster) -> Result<(), Violation> {
    for number in 1..=100 {
        increment(cluster, number).await?;
    }
    cluster.crash_all(Duration::from_secs(1)).await?;
    increment(cluster, 101).await?;
    counter_is(cluster, cluster.all(), 101).await
}

/// Every request ends although its server stops; a request is one that changes nothing, as in the original.
async fn shutdown(cluster: &Cluster) -> Result<(), Violation> {
    let answers = at_once(cluster, cluster.await_leader().await?, 100, &["SET", "null", ""]).await?;
    sleep(Duration::from_millis(20)).await;
    for server in cluster.all() {
        cluster.stop(server).await?;
    }
    match timeout(Duration::from_secs(11), answers.join_all()).await {
        Ok(_) => cluster.restart_all().await,
        Err(_) => {
            Err(Violation::new("blocked calls end", "some do not after their server stopped".to_string()))
        }
    }
}

async fn restart_submit(cluster: &Cluster) -> Result<(), Violation> {
    restart(cluster).await?;
    shutdown(cluster).await?;
    increment(cluster, 102).await?;
    counter_is(cluster, cluster.all(), 102).await
}

async fn snapshot(cluster: &Cluster) -> Result<(), Violation> {
    for number in 1..=100 {
        increment(cluster, number).await?;
    }
    cluster.check_log_size().await?;
    for server in cluster.all() {
        if cluster.figure(server, "raft_trimmed_index").await.is_none_or(|index| index == 0) {
            let what = format!("that of server {server} never was");
            return Err(Violation::new("the log is trimmed", what));
        }
    }
    cluster.crash_all(Duration::from_secs(1)).await?;
    increment(cluster, 101).await?;
    counter_is(cluster, cluster.all(), 101).await
}

/// Cuts the leader's links in both directions; clients still reach it.
async fn cut_leader_off(cluster: &Cluster) -> Result<Server, Violation> {
    let leader = cluster.await_leader().await?;
    let side: Vec<bool> = cluster.all().map(|server| server == leader).collect();
    cluster.links.partition(&side);
    Ok(leader)
}

async fn increment(cluster: &Cluster, number: i64) -> Result<(), Violation> {
    expect("an INCR", &submit(cluster, cluster.all(), &["INCR", KEY]).await?, number)
}

/// Tries these servers until one has executed it. Only what was surely not executed is tried again.
async fn submit(
    cluster: &Cluster,
    servers: impl Iterator<Item = Server> + Clone,
    words: &[&str],
) -> Result<Value, Violation> {
    let tries = async {
        loop {
            for server in servers.clone() {
                match ask(cluster.port(server), words).await {
                    Ok(Value::Error(why)) if why.starts_with("NOTREADY") || why.starts_with("BUSY") => {}
                    Ok(Value::Error(why)) => {
                        return Err(Violation::new("a call has a result", format!("{words:?}: {why}")));
                    }
                    Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                        return Err(broken(error));
                    }
                    Err(_) => {}
                    Ok(value) => return Ok(value),
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let value = timeout(SUBMIT_WITHIN, tries).await.unwrap_or_else(|_| {
        Err(Violation::new("a call has a result", format!("{words:?} was not executed in time")))
    })?;
    cluster.tally.operate(1);
    Ok(value)
}

/// So many requests at once, each on a connection of its own to one server, all of them open before the first is sent.
async fn at_once(
    cluster: &Cluster,
    server: Server,
    count: usize,
    words: &[&'static str],
) -> Result<JoinSet<io::Result<Value>>, Violation> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(Connection::open(cluster.port(server)).await.map_err(broken)?);
    }
    let mut answers = JoinSet::new();
    for mut connection in connections {
        let words = words.to_vec();
        answers.spawn(async move { connection.ask(&words).await });
    }
    cluster.tally.operate(count as u64);
    Ok(answers)
}

/// Each of these servers' own copy of the counter gets there.
async fn counter_is(
    cluster: &Cluster,
    servers: impl Iterator<Item = Server>,
    value: i64,
) -> Result<(), Violation> {
    for server in servers {
        let there = async || {
            let answer = ask(cluster.port(server), &["GET", KEY]).await;
            number(&answer) == Some(value)
        };
        if !within(SUBMIT_WITHIN, there).await {
            let what = format!("that of server {server} is not {value}");
            return Err(Violation::new("all copies of the counter get there", what));
        }
    }
    Ok(())
}

fn expect(what: &str, answer: &Value, value: i64) -> Result<(), Violation> {
    match answer {
        Value::Integer(found) if *found == value => Ok(()),
        other => Err(Violation::new("a reply is as expected", format!("{what}: {other:?}, not {value}"))),
    }
}

/// The number that an answer holds.
fn number(answer: &io::Result<Value>) -> Option<i64> {
    match answer.as_ref().ok()? {
        Value::Integer(number) => Some(*number),
        Value::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

fn is_unknown(answer: &io::Result<Value>) -> bool {
    match answer {
        Ok(Value::Error(why)) => why.starts_with("UNKNOWN"),
        Ok(_) => false,
        Err(_) => true,
    }
}
