//! Clients at work: closed loops without a pause, two requests in flight for each client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pontoon_clerk::Clerk;
use tokio::{task::JoinSet, time::timeout};

use super::{cluster::Cluster, record::Record};
use crate::{
    check::Violation,
    lab::{ANSWERED_WITHIN_US, Generic},
    linearizability::Action,
    rng::Rng,
};

/// Requests that a client has in flight.
const IN_FLIGHT: usize = 2;

/// Clients that go on until they are told to stop.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<(), Violation>>,
}

/// One of the loops of a client.
struct Loop {
    clerk: Clerk,
    client: u64,
    row: Generic,
    round: u64,
    /// Tokens that the client has written: each is unique.
    tokens: Arc<AtomicU64>,
    rng: Rng,
}

impl Load {
    /// Starts a round's clients, each with a clerk of its own.
    pub(super) fn start(cluster: &Cluster, record: &Arc<Record>, row: Generic, round: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for client in 0..row.clients as u64 {
            let clerk = cluster.clerk();
            let tokens = Arc::new(AtomicU64::new(0));
            for _ in 0..IN_FLIGHT {
                let (clerk, tokens, rng) = (clerk.clone(), tokens.clone(), cluster.links.fork());
                let mut one = Loop { clerk, client, row, round, tokens, rng };
                let (stop, record) = (stop.clone(), record.clone());
                tasks.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let (key, action) = one.next();
                        record.perform(&one.clerk, one.client, &key, action).await?;
                    }
                    Ok(())
                });
            }
        }
        Load { stop, tasks }
    }

    /// No client begins anything more.
    pub(super) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until every client's last requests have ended: after all has healed they do so within a bounded time.
    pub(super) async fn ended(mut self) -> Result<(), Violation> {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.map_err(|panic| Violation::new("clients do not fail", panic.to_string()))??;
            }
            Ok(())
        };
        let ended = timeout(Duration::from_micros(ANSWERED_WITHIN_US), all).await;
        ended.unwrap_or_else(|_| Err(Violation::new("blocked calls end", "some do not".to_string())))
    }
}

impl Loop {
    /// Half appends, the rest reads; with random keys also a few puts.
    fn next(&mut self) -> (Bytes, Action) {
        let (client, round) = (self.client, self.round);
        let number = if self.row.random_keys { self.rng.below(self.row.clients as u64) } else { client };
        let token = || {
            let n = self.tokens.fetch_add(1, Ordering::Relaxed);
            Bytes::from(format!("x {client} {n} y;"))
        };
        let action = match self.rng.below(100) {
            0..50 => Action::Append(token()),
            50..55 if self.row.random_keys => Action::Put(token()),
            _ => Action::Get,
        };
        (Bytes::from(format!("r{round}-{number}")), action)
    }
}
