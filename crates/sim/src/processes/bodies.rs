//! The rows with a body of their own.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    client::Client,
    cluster::{Cluster, within},
    record::Record,
};
use crate::{check::Violation, linearizability::Action, world::Server};

/// A new leader is usable within this.
const ELECTION: Duration = Duration::from_secs(1);
/// A snapshot of one key, one client's session and the servers' own is at most this large, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 500;

/// 1000 appends, one at a time, faster than one per third of a heartbeat of 100 ms.
pub(super) async fn speed(cluster: &Cluster) -> Result<(), Violation> {
    let client = Client::new(cluster).await?;
    client.get("x").await?;
    let started = Instant::now();
    let mut written = String::new();
    for number in 0..1_000 {
        let token = format!("x 0 {number} y;");
        client.append("x", &token).await?;
        written += &token;
    }
    let took = started.elapsed();
    if took > 1_000 * Duration::from_millis(100) / 3 {
        return Err(Violation::new("speed", format!("1000 appends took {} ms", took.as_millis())));
    }
    client.expect("x", &written).await?;
    cluster.check_log_size().await
}

/// Five clients append to one key, ten times each, over a network that loses requests and replies.
pub(super) async fn unreliable_one_key(cluster: &Cluster) -> Result<(), Violation> {
    let record = Arc::new(Record::new(cluster.tally.clone()));
    let key = Bytes::from("k");
    record.perform(&cluster.clerk(), 5, &key, Action::Put(Bytes::new())).await?;
    let mut tasks = JoinSet::new();
    for client in 0..5 {
        let clerk = cluster.clerk();
        // Two in flight: one takes the even numbers, the other the odd ones.
        for first in [0, 1] {
            let (record, clerk, key) = (record.clone(), clerk.clone(), key.clone());
            tasks.spawn(async move {
                for number in (first..10).step_by(2) {
                    let token = Bytes::from(format!("x {client} {number} y;"));
                    record.perform(&clerk, client, &key, Action::Append(token)).await?;
                }
                Ok(())
            });
        }
    }
    tasks.join_all().await.into_iter().collect::<Result<(), Violation>>()?;
    let record = Arc::into_inner(record).expect("the clients have ended");
    record.check(&cluster.clerk()).await
}

/// No progress in the minority, progress in the majority, completion after healing.
pub(super) async fn one_partition(cluster: &Cluster) -> Result<(), Violation> {
    let everywhere = Client::new(cluster).await?;
    let (a, b, c) = (Client::new(cluster).await?, Client::new(cluster).await?, Client::new(cluster).await?);
    everywhere.put("1", "13").await?;
    // Clerks open their sessions at their first call.
    for client in [&a, &b, &c] {
        client.put("0", "").await?;
    }
    let leader = cluster.await_leader().await?;
    let minority = [leader, (leader + 1) % cluster.len()];
    let majority: Vec<Server> = cluster.all().filter(|server| !minority.contains(server)).collect();
    let side: Vec<bool> = cluster.all().map(|server| minority.contains(&server)).collect();
    cluster.links.partition(&side);
    a.reach(&majority);
    b.reach(&minority);
    c.reach(&minority);
    a.put("1", "14").await?;
    a.expect("1", "14").await?;

    let all: Vec<Server> = cluster.all().collect();
    let mut stalled_put = std::pin::pin!(b.put("1", "15"));
    let mut stalled_get = std::pin::pin!(c.get("1"));
    tokio::select! {
        ended = &mut stalled_put => return Err(progress_in_minority(format!("a put: {ended:?}"))),
        ended = &mut stalled_get => return Err(progress_in_minority(format!("a get: {ended:?}"))),
        () = sleep(Duration::from_secs(1)) => {}
    }
    // The stalled calls are polled no more until all heals; their clerks go on by themselves.
    a.expect("1", "14").await?;
    a.put("1", "16").await?;
    a.expect("1", "16").await?;

    cluster.links.connect();
    b.reach(&all);
    c.reach(&all);
    let both = async { tokio::try_join!(stalled_put, stalled_get) };
    // The original waits a second first, and then three more for the Put; it never looks whether the Get has ended.
    let Ok(ended) = timeout(ELECTION + Duration::from_secs(3), both).await else {
        let what = "a stalled request has not ended".to_string();
        return Err(Violation::new("completion after healing", what));
    };
    let ((), value) = ended?;
    if value.as_deref() != Some(b"16") && value.as_deref() != Some(b"15") {
        return Err(Violation::new("a stalled read is not stale", format!("{value:?}")));
    }
    everywhere.expect("1", "15").await
}

fn progress_in_minority(what: String) -> Violation {
    Violation::new("no progress in the minority", what)
}

/// A server that was cut off catches up from a snapshot, and the majority has trimmed its log meanwhile.
pub(super) async fn snapshot_rpc(cluster: &Cluster) -> Result<(), Violation> {
    let client = Client::new(cluster).await?;
    client.put("a", "A").await?;
    client.expect("a", "A").await?;
    cluster.links.partition(&[true, true, false]);
    {
        let majority = Client::new(cluster).await?;
        majority.reach(&[0, 1]);
        for number in 0..50 {
            majority.put(&number.to_string(), &number.to_string()).await?;
        }
        sleep(ELECTION).await;
        majority.put("b", "B").await?;
    }
    cluster.check_log_size().await?;
    cluster.links.partition(&[true, false, true]);
    {
        let majority = Client::new(cluster).await?;
        majority.reach(&[0, 2]);
        majority.put("c", "C").await?;
        majority.put("d", "D").await?;
        for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
            majority.expect(key, value).await?;
        }
    }
    cluster.links.connect();
    client.put("e", "E").await?;
    for (key, value) in [("c", "C"), ("e", "E"), ("1", "1")] {
        client.expect(key, value).await?;
    }
    if !cluster.log(2).contains("snapshot installed") {
        return Err(Violation::new("a lagging server gets a snapshot", "there was none".to_string()));
    }
    Ok(())
}

/// 800 operations on one key leave a snapshot of at most 500 bytes: no record per request. A snapshot is made when a server needs
/// one, and it is the same on all servers, as it is a function of the state: one server is cut off until it needs it.
pub(super) async fn snapshot_size(cluster: &Cluster) -> Result<(), Violation> {
    let client = Client::new(cluster).await?;
    for _ in 0..200 {
        flip(&client).await?;
    }
    cluster.check_log_size().await?;
    let leader = cluster.await_leader().await?;
    let lagging = (leader + 1) % cluster.len();
    let side: Vec<bool> = cluster.all().map(|server| server == lagging).collect();
    cluster.links.partition(&side);
    let needed = async || {
        let missing = cluster.figure(lagging, "raft_last_index").await;
        let trimmed = cluster.figure(leader, "raft_trimmed_index").await;
        flip(&client).await.is_ok() && trimmed > missing
    };
    if !within(Duration::from_secs(20), needed).await {
        return Err(Violation::new("the log is trimmed", format!("that of server {leader} is not")));
    }
    cluster.links.connect();
    let sent = || cluster.all().find_map(|server| snapshot_bytes(&cluster.log(server)));
    if !within(Duration::from_secs(10), async || sent().is_some()).await {
        return Err(Violation::new("a lagging server gets a snapshot", "there was none".to_string()));
    }
    match sent().expect("it was sent") {
        ..=SNAPSHOT_BYTES_MAX => Ok(()),
        bytes => Err(Violation::new("a snapshot is small", format!("it has {bytes} bytes"))),
    }
}

async fn flip(client: &Client) -> Result<(), Violation> {
    for value in ["0", "1"] {
        client.put("x", value).await?;
        client.expect("x", value).await?;
    }
    Ok(())
}

/// The size of the last snapshot that a server says to have sent.
fn snapshot_bytes(log: &str) -> Option<u64> {
    let line = log.lines().rfind(|line| line.contains("snapshot sent"))?;
    line.split(' ').find_map(|word| word.strip_prefix("bytes=")?.parse().ok())
}
