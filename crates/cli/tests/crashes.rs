//! Three real processes and SIGKILL: nothing acknowledged is lost, nothing happens twice.

#![allow(clippy::print_stderr, reason = "the table of docs/testing.md")]

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::time::{Duration, Instant};

use pontoon_clerk::Clerk;
use support::{Cluster, within};

fn clerk(cluster: &Cluster) -> Clerk {
    tokens::clerk(cluster.addresses())
}

/// How long the load runs in the test of leaders killed one after the other.
const LOAD: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_clerks_lose_and_double_nothing_while_the_leader_is_killed_five_times() {
    let mut cluster = Cluster::start(3, &[]);
    let started = Instant::now();
    let load = tokens::append_tokens(&cluster.addresses(), 8, 4);
    for round in 1..=5 {
        load.await_progress(20).await;
        let leader = tokio::task::block_in_place(|| cluster.await_leader());
        cluster.kill(leader);
        load.await_progress(20).await;
        cluster.restart(leader);
        let until = LOAD * round / 5;
        tokio::time::sleep(until.saturating_sub(started.elapsed())).await;
    }
    let acknowledged = load.stop_and_check(&clerk(&cluster)).await;
    assert!(acknowledged > 200, "the load was real: {acknowledged}");
    tokio::task::block_in_place(|| cluster.assert_states_equal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_three_killed_at_once_under_load_lose_nothing_acknowledged() {
    let mut cluster = Cluster::start(3, &[]);
    for _ in 0..2 {
        let load = tokens::append_tokens(&cluster.addresses(), 8, 4);
        load.await_progress(200).await;
        for id in cluster.ids() {
            cluster.kill(id);
        }
        for id in cluster.ids() {
            cluster.restart(id);
        }
        load.await_progress(50).await;
        load.stop_and_check(&clerk(&cluster)).await;
        let leftover = clerk(&cluster);
        for key in 0..4 {
            leftover.delete(format!("tokens-{key}")).await.unwrap();
        }
    }
    tokio::task::block_in_place(|| cluster.assert_states_equal());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_down_while_the_log_was_trimmed_catches_up_by_snapshot_and_then_serves_in_the_only_majority()
 {
    let mut cluster = Cluster::start(3, &["--snapshot-log-bytes", "65536"]);
    let clerk = clerk(&cluster);
    clerk.put("first", "1").await.unwrap();
    let leader = tokio::task::block_in_place(|| cluster.await_leader());
    let down = leader % 3 + 1;
    cluster.kill(down);
    let missed = tokio::task::block_in_place(|| cluster.figure(leader, "raft_last_index")).unwrap();
    for n in 0..400 {
        clerk.put(format!("key-{}", n % 50), vec![b'x'; 1024]).await.unwrap();
    }
    clerk.append("first", "2").await.unwrap();
    tokio::task::block_in_place(|| {
        let trimmed = || (cluster.figure(leader, "raft_trimmed_index")? > missed).then_some(());
        within(Duration::from_secs(10), trimmed).expect("the log is trimmed although a server is down");
    });
    cluster.restart(down);
    tokio::task::block_in_place(|| {
        let target = cluster.figure(leader, "raft_commit_index").unwrap();
        let caught_up = || (cluster.figure(down, "raft_applied_index")? >= target).then_some(());
        within(Duration::from_secs(20), caught_up)
            .unwrap_or_else(|| panic!("it does not catch up\n{}", cluster.logs()));
    });
    assert!(
        cluster.log(down).contains("snapshot installed"),
        "it caught up by snapshot\n{}",
        cluster.log(down)
    );
    // Now it is needed: another server goes, and whoever leads has only this one to agree with.
    cluster.kill(leader);
    clerk.append("first", "3").await.unwrap();
    assert_eq!(clerk.get("first").await.unwrap().as_deref(), Some(&b"123"[..]));
    assert_eq!(clerk.get("key-7").await.unwrap().map(|value| value.len()), Some(1024));
    cluster.restart(leader);
    tokio::task::block_in_place(|| cluster.assert_states_equal());
}

/// `PONTOON_KILLS=20 cargo test --release -p pontoon-cli --test crashes outage -- --nocapture` prints the table of docs/testing.md.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_after_the_leader_is_killed_is_below_a_second_in_the_median() {
    let kills: usize = std::env::var("PONTOON_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let mut cluster = Cluster::start(3, &[]);
    let clerk = clerk(&cluster);
    let mut outages = Vec::new();
    for kill in 0..kills {
        clerk.put("before", kill.to_string()).await.unwrap();
        let leader = tokio::task::block_in_place(|| cluster.await_leader());
        cluster.kill(leader);
        let killed = Instant::now();
        clerk.put("after", kill.to_string()).await.unwrap();
        outages.push(killed.elapsed());
        cluster.restart(leader);
        tokio::task::block_in_place(|| cluster.assert_states_equal());
    }
    outages.sort();
    let ms = |outage: Duration| outage.as_millis();
    let (min, median, max) = (outages[0], outages[outages.len() / 2], outages[outages.len() - 1]);
    eprintln!(
        "| kills | min | median | max |\n| {kills} | {} ms | {} ms | {} ms |",
        ms(min),
        ms(median),
        ms(max)
    );
    assert!(median < Duration::from_secs(1), "median outage {median:?} of {outages:?}");
}
