//! A clerk that does one thing after the other, and what it must be told.

use std::sync::Arc;

use bytes::Bytes;
use pontoon_clerk::{Clerk, ClerkError};

use super::{client_proxy::ClientProxy, cluster::Cluster, tally::Tally};
use crate::{check::Violation, world::Server};

/// A clerk and its ways to the servers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) clerk: Clerk,
    doors: Vec<ClientProxy>,
    tally: Arc<Tally>,
}

impl Client {
    pub(super) async fn new(cluster: &Cluster) -> Result<Client, Violation> {
        let (clerk, doors) = cluster.clerk_with_doors().await?;
        Ok(Client { clerk, doors, tally: cluster.tally.clone() })
    }

    /// From now on it reaches these servers only.
    pub(super) fn reach(&self, servers: &[Server]) {
        for (server, door) in self.doors.iter().enumerate() {
            door.set(servers.contains(&server));
        }
    }

    pub(super) async fn put(&self, key: &str, value: &str) -> Result<(), Violation> {
        let put = self.clerk.put(key.to_string(), value.to_string()).await;
        self.tally.operate(1);
        put.map_err(|error| unanswered(key, &error))
    }

    pub(super) async fn append(&self, key: &str, token: &str) -> Result<(), Violation> {
        let append = self.clerk.append(key.to_string(), token.to_string()).await;
        self.tally.operate(1);
        append.map(drop).map_err(|error| unanswered(key, &error))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, Violation> {
        let get = self.clerk.get(key.to_string()).await;
        self.tally.operate(1);
        get.map_err(|error| unanswered(key, &error))
    }

    /// Reads, and holds the value against what it must be.
    pub(super) async fn expect(&self, key: &str, value: &str) -> Result<(), Violation> {
        match self.get(key).await? {
            Some(found) if found == value => Ok(()),
            found => {
                Err(Violation::new("a reply is as expected", format!("{key}: {found:?}, not {value:?}")))
            }
        }
    }
}

fn unanswered(key: &str, error: &ClerkError) -> Violation {
    Violation::new("a call has a result", format!("{key}: {error}"))
}
