//! The lab suite's token check: clerks append numbered tokens to shared keys; every acknowledged token must be there once and in
//! its clerk's order, every unknown one at most once, and every refused one not at all.

#![allow(dead_code, unreachable_pub, reason = "a part of a test, not of a library")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pontoon_clerk::{Clerk, ClerkError, ClerkOptions};
use tokio::task::JoinHandle;

/// What became of a clerk's appends to one key, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Acknowledged,
    Unknown,
    Refused,
}

/// Clerks at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    clerks: Vec<JoinHandle<Vec<End>>>,
    keys: usize,
}

/// A clerk that tries for long: in these tests a cluster is down at times.
pub fn clerk(servers: Vec<String>) -> Clerk {
    let options = ClerkOptions { deadline: Duration::from_secs(20), ..ClerkOptions::new(servers) };
    Clerk::connect(options).expect("the options are sound")
}

/// Starts `clerks` clerks that append to `keys` keys until stopped.
pub fn append_tokens(addresses: &[String], count: usize, keys: usize) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let work = |number: usize| {
        let mut servers = addresses.to_vec();
        servers.rotate_left(number % addresses.len());
        let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
        tokio::spawn(async move {
            let clerk = clerk(servers);
            let mut ends = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let end = match clerk.append(key(ends.len() % keys), token(number, ends.len())).await {
                    Ok(_) => {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        End::Acknowledged
                    }
                    Err(ClerkError::Unknown { .. }) => End::Unknown,
                    Err(ClerkError::NotExecuted { .. }) => End::Refused,
                    Err(error) => panic!("clerk {number}: {error}"),
                };
                ends.push(end);
            }
            clerk.close().await;
            ends
        })
    };
    Load { clerks: (0..count).map(work).collect(), stop, acknowledged, keys }
}

impl Load {
    /// Appends acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more are acknowledged.
    pub async fn await_progress(&self, more: usize) {
        let target = self.acknowledged() + more;
        let progress = async {
            while self.acknowledged() < target {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), progress).await.expect("the cluster makes progress");
    }

    /// Stops the clerks, reads the keys and holds them against what the clerks were told. Returns how many were acknowledged.
    pub async fn stop_and_check(self, reader: &Clerk) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut ends = Vec::new();
        for clerk in self.clerks {
            ends.push(
                tokio::time::timeout(Duration::from_secs(60), clerk).await.expect("clerks end").unwrap(),
            );
        }
        for number in 0..self.keys {
            let value = reader.get(key(number)).await.expect("a healed cluster answers").unwrap_or_default();
            check_key(number, self.keys, std::str::from_utf8(&value).unwrap(), &ends);
        }
        let acknowledged = ends.iter().flatten().filter(|end| **end == End::Acknowledged).count();
        assert_eq!(acknowledged, self.acknowledged.load(Ordering::Relaxed));
        acknowledged
    }
}

fn check_key(key: usize, keys: usize, value: &str, ends: &[Vec<End>]) {
    let mut found = vec![Vec::new(); ends.len()];
    for token in value.split_terminator(';') {
        let (clerk, number) =
            token.split_once('.').unwrap_or_else(|| panic!("key {key} holds a torn token {token:?}"));
        let (clerk, number): (usize, usize) = (clerk.parse().unwrap(), number.parse().unwrap());
        assert_eq!(number % keys, key, "token {token} is in another key");
        found[clerk].push(number);
    }
    for (clerk, found) in found.iter().enumerate() {
        assert!(
            found.is_sorted_by(|a, b| a < b),
            "key {key}: clerk {clerk}'s tokens are doubled or out of order: {found:?}"
        );
        for (number, end) in ends[clerk].iter().enumerate().filter(|(number, _)| number % keys == key) {
            let there = found.binary_search(&number).is_ok();
            match end {
                End::Acknowledged => assert!(there, "key {key}: acknowledged token {clerk}.{number} is lost"),
                End::Refused => assert!(!there, "key {key}: token {clerk}.{number} was refused and is there"),
                End::Unknown => {}
            }
        }
    }
}

fn key(number: usize) -> String {
    format!("tokens-{number}")
}

fn token(clerk: usize, number: usize) -> String {
    format!("{clerk}.{number};")
}
