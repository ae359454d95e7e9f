//! The clerk on real sockets, against a small server of its own that speaks RESP and keeps sessions.

mod fake;

use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::{Cluster, Fault};
use pontoon_clerk::{Clerk, ClerkError, ClerkOptions, Operation, OperationReply, OptionsError};

async fn clerk_of(servers: &[&fake::Server]) -> Clerk {
    Clerk::connect(ClerkOptions::new(servers.iter().map(|server| server.address.clone())))
        .expect("good options")
}

#[tokio::test]
async fn put_append_get_and_delete_do_what_they_say() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    assert_eq!(clerk.get("k").await, Ok(None));
    assert_eq!(clerk.put("k", "").await, Ok(()));
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::new())), "an empty value is not a missing one");
    assert_eq!(clerk.append("k", &b"\r\n\0\xff"[..]).await, Ok(4));
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::from(&b"\r\n\0\xff"[..]))));
    assert_eq!(clerk.delete("k").await, Ok(true));
    assert_eq!(clerk.delete("k").await, Ok(false));
}

#[tokio::test]
async fn a_large_value_makes_the_way_there_and_back() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    let value = Bytes::from((0..8 << 20).map(|at: u32| (at % 251) as u8).collect::<Vec<_>>());
    assert_eq!(clerk.put("k", value.clone()).await, Ok(()));
    assert_eq!(clerk.get("k").await, Ok(Some(value)));
}

#[tokio::test]
async fn a_batch_is_one_request_with_one_reply_per_operation() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    let key = Bytes::from("k");
    let batch = vec![
        Operation::Put { key: key.clone(), value: Bytes::from("a") },
        Operation::Append { key: key.clone(), value: Bytes::from("b") },
        Operation::Get { key: key.clone() },
        Operation::Delete { key: key.clone() },
        Operation::Get { key },
    ];
    let replies = clerk.batch(batch).await.expect("executed");
    let value = OperationReply::Value(Some(Bytes::from("ab")));
    let appended = OperationReply::Appended(2);
    assert_eq!(
        replies,
        [OperationReply::Put, appended, value, OperationReply::Deleted(true), OperationReply::Value(None)]
    );
    assert_eq!(clerk.batch(Vec::new()).await, Ok(Vec::new()));
    let text = cluster.requests().into_iter().find(|request| request.contains("BATCH")).expect("it was sent");
    assert_eq!(text, "ONCE 1 1 1 BATCH 5 3 SET k a 3 APPEND k b 2 GET k 2 DEL k 2 GET k");
}

#[tokio::test]
async fn nothing_is_connected_before_the_first_call() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    let early = cluster.wait_until(|| cluster.connections() > 0);
    assert!(tokio::time::timeout(Duration::from_millis(50), early).await.is_err(), "nothing was asked");
    assert_eq!(clerk.get("k").await, Ok(None));
    assert_eq!(cluster.connections(), 1);
}

#[tokio::test]
async fn a_lost_reply_is_made_up_for_by_another_server_and_nothing_happens_twice() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let clerk = clerk_of(&[&one, &two]).await;
    clerk.put("k", "").await.expect("no fault yet");
    for round in 1..=5 {
        cluster.fault(Fault::LoseReply);
        assert_eq!(clerk.append("k", "x").await, Ok(round));
        cluster.fault(Fault::LoseRequest);
        assert_eq!(clerk.append("j", "x").await, Ok(round));
    }
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::from("xxxxx"))));
}

#[tokio::test]
async fn a_refusing_server_is_left_for_another() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let clerk = clerk_of(&[&one, &two]).await;
    cluster.fault(Fault::Say("NOTREADY no majority"));
    cluster.fault(Fault::Say("UNKNOWN timed out"));
    assert_eq!(clerk.put("k", "v").await, Ok(()));
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::from("v"))));
}

#[tokio::test]
async fn a_dead_server_costs_a_moment_and_a_restarted_one_is_found_again() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let clerk = clerk_of(&[&one, &two]).await;
    clerk.put("k", "v").await.expect("both live");
    one.kill().await;
    let start = Instant::now();
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::from("v"))));
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    let again = cluster.serve_at(&one.address).await;
    two.kill().await;
    assert_eq!(clerk.append("k", "w").await, Ok(2));
    drop(again);
}

#[tokio::test]
async fn concurrent_calls_of_all_clones_share_one_connection_and_do_not_wait_for_each_other() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    clerk.put("k", "").await.expect("no fault");
    cluster.hold_replies_until(200);
    let appends: Vec<_> = (0..1000)
        .map(|number| {
            let clerk = clerk.clone();
            tokio::spawn(async move { clerk.append("k", format!("{number},")).await })
        })
        .collect();
    for append in appends {
        append.await.expect("no panic").expect("executed");
    }
    let value = clerk.get("k").await.expect("read").expect("there");
    let mut numbers: Vec<u32> = String::from_utf8_lossy(&value)
        .trim_end_matches(',')
        .split(',')
        .map(|n| n.parse().expect("whole"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
    assert_eq!(cluster.connections(), 1);
    assert!(cluster.widest_window() <= 256, "{}", cluster.widest_window());
}

#[tokio::test]
async fn the_password_is_presented_and_a_wrong_one_is_told_at_once() {
    let cluster = Cluster::with_password("pass word");
    let server = cluster.serve().await;
    let connect = |password: Option<&str>| {
        let password = password.map(String::from);
        Clerk::connect(ClerkOptions { password, ..ClerkOptions::new([server.address.clone()]) })
            .expect("good options")
    };
    assert_eq!(connect(Some("pass word")).put("k", "v").await, Ok(()));
    let start = Instant::now();
    let wrong = connect(Some("guess")).put("k", "v").await;
    assert!(matches!(&wrong, Err(ClerkError::Rejected(why)) if why.starts_with("WRONGPASS")), "{wrong:?}");
    let missing = connect(None).get("k").await;
    assert!(matches!(&missing, Err(ClerkError::Rejected(why)) if why.starts_with("NOAUTH")), "{missing:?}");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn without_a_server_a_call_surely_did_not_happen_and_says_what_stood_in_its_way() {
    // A port that was free a moment ago.
    let address = Cluster::new().serve().await.kill().await;
    let options =
        ClerkOptions { deadline: Duration::from_millis(200), ..ClerkOptions::new([address.clone()]) };
    let clerk = Clerk::connect(options).expect("good options");
    let start = Instant::now();
    let error = clerk.put("k", "v").await.expect_err("nobody is there");
    assert!(matches!(&error, ClerkError::NotExecuted { why } if why.contains(&address)), "{error}");
    assert!(!error.may_have_happened());
    assert!(
        (Duration::from_millis(199)..Duration::from_secs(2)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_takes_a_write_and_never_answers_leaves_it_unknown() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let options =
        ClerkOptions { deadline: Duration::from_millis(300), ..ClerkOptions::new([server.address.clone()]) };
    let clerk = Clerk::connect(options).expect("good options");
    clerk.put("k", "v").await.expect("no fault yet");
    cluster.fault(Fault::Hang);
    let error = clerk.append("k", "w").await.expect_err("no answer");
    assert!(error.may_have_happened(), "{error}");
}

#[tokio::test]
async fn a_rejected_call_says_so_and_the_next_one_works() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    clerk.put("k", "v").await.expect("no fault yet");
    cluster.fault(Fault::Say("ERR string exceeds maximum allowed size (value-bytes-max)"));
    let error = clerk.put("k", "w").await.expect_err("too long");
    assert_eq!(error.to_string(), "rejected: ERR string exceeds maximum allowed size (value-bytes-max)");
    assert_eq!(clerk.put("k", "x").await, Ok(()));
}

#[tokio::test]
async fn garbage_from_a_server_is_survived_with_another() {
    let cluster = Cluster::new();
    let (one, two) = (cluster.serve().await, cluster.serve().await);
    let clerk = clerk_of(&[&one, &two]).await;
    clerk.put("k", "v").await.expect("no fault yet");
    cluster.fault(Fault::Garbage);
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::from("v"))));
}

#[tokio::test]
async fn an_expired_session_is_replaced() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    clerk.put("k", "v").await.expect("no fault");
    cluster.expire_sessions();
    assert_eq!(clerk.append("k", "w").await, Ok(2));
    assert_eq!(cluster.sessions(), 1);
}

#[tokio::test]
async fn an_idle_clerk_keeps_its_session_alive() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let session_ttl = Duration::from_millis(90);
    let clerk = Clerk::connect(ClerkOptions { session_ttl, ..ClerkOptions::new([server.address.clone()]) });
    let clerk = clerk.expect("good options");
    clerk.put("k", "v").await.expect("no fault");
    let alive = || cluster.requests().iter().filter(|request| request.contains("KEEPALIVE")).count() >= 2;
    cluster.wait_until(alive).await;
}

#[tokio::test]
async fn closing_ends_the_session_and_later_calls_are_not_executed() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    let other = clerk.clone();
    clerk.put("k", "v").await.expect("no fault");
    assert_eq!(cluster.sessions(), 1);
    clerk.close().await;
    assert_eq!(cluster.sessions(), 0);
    let late = other.put("k", "w").await;
    assert!(matches!(late, Err(ClerkError::NotExecuted { .. })), "{late:?}");
    other.close().await;
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_session_quietly() {
    let cluster = Cluster::new();
    let server = cluster.serve().await;
    let clerk = clerk_of(&[&server]).await;
    clerk.put("k", "v").await.expect("no fault");
    drop(clerk.clone());
    assert_eq!(clerk.get("k").await, Ok(Some(Bytes::from("v"))), "another clone lives");
    drop(clerk);
    cluster.wait_until(|| cluster.sessions() == 0).await;
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let connect = |options| Clerk::connect(options).map(drop);
    assert_eq!(connect(ClerkOptions::new(Vec::<String>::new())), Err(OptionsError::NoServers));
    assert_eq!(connect(ClerkOptions::new(["host"])), Err(OptionsError::BadServer("host".to_string())));
    assert_eq!(connect(ClerkOptions::new([":7001"])), Err(OptionsError::BadServer(":7001".to_string())));
    let none = ClerkOptions { inflight_max: 0, ..ClerkOptions::new(["host:1"]) };
    assert_eq!(connect(none), Err(OptionsError::Zero("inflight_max")));
    let never = ClerkOptions { deadline: Duration::ZERO, ..ClerkOptions::new(["host:1"]) };
    assert_eq!(connect(never), Err(OptionsError::Zero("deadline")));
}
