//! One way to reach one system.

use std::path::PathBuf;

use anyhow::Result;

use super::{Systems, shape::Shape};
use crate::{
    load::{Op, Outcome, etcd, resp},
    systems::Etcd,
};

/// What all measurements share.
#[derive(Debug)]
pub struct Settings {
    pub pontoon: PathBuf,
    pub keys: u64,
    pub value_bytes: u64,
    pub seconds: u64,
    pub warmup: u64,
}

/// A row's name and how to load what it stands for.
pub enum Contender<'a> {
    Resp { name: &'static str, servers: Vec<String>, sessions: bool },
    Etcd(&'a Etcd),
}

pub const PONTOON: &str = "Pontoon";
pub const LEADER: &str = "Pontoon, leader";
pub const FOLLOWER: &str = "Pontoon, follower";
pub const SESSIONS: &str = "Pontoon, sessions";
pub const ETCD: &str = "etcd";
pub const REDIS: &str = "Redis";

impl<'a> Contender<'a> {
    /// All that can do this. Clients of a cluster are spread over its members, the first one to its leader.
    pub fn of(systems: &'a Systems, op: Op) -> Result<Vec<Contender<'a>>> {
        let mut all = Vec::new();
        if let Some(pontoon) = &systems.pontoon {
            let servers = pontoon.addresses()?;
            let (leader, follower) = (vec![servers[0].clone()], vec![servers[1].clone()]);
            all.push(Contender::Resp { name: PONTOON, servers: servers.clone(), sessions: false });
            all.push(Contender::Resp { name: LEADER, servers: leader, sessions: false });
            all.push(Contender::Resp { name: FOLLOWER, servers: follower, sessions: false });
            if op == Op::Put {
                all.push(Contender::Resp { name: SESSIONS, servers, sessions: true });
            }
        }
        if let Some(etcd) = &systems.etcd {
            all.push(Contender::Etcd(etcd));
        }
        if let Some(redis) = &systems.redis {
            all.push(Contender::Resp { name: REDIS, servers: vec![redis.address()], sessions: false });
        }
        Ok(all)
    }

    /// Its row's name.
    pub fn name(&self) -> &'static str {
        match self {
            Contender::Resp { name, .. } => name,
            Contender::Etcd(_) => ETCD,
        }
    }

    /// Loads it once.
    pub fn measure(&self, op: Op, shape: Shape, settings: &Settings) -> Result<Outcome> {
        match self {
            Contender::Etcd(system) => etcd::measure(&settings.etcd(system, op, shape)),
            Contender::Resp { servers, sessions, .. } => {
                let load = settings.resp(servers.clone(), op, shape);
                Ok(resp::Load { sessions: *sessions, ..load }.run()?.outcome())
            }
        }
    }
}

impl Settings {
    /// Writes every key.
    pub fn resp_load_keys(&self, servers: Vec<String>) -> Result<()> {
        let load = self.resp(servers, Op::Get, Shape::ALL[3]);
        resp::Load { load_first: true, seconds: 1, warmup: 0, ..load }.run().map(drop)
    }

    /// A load of etcd.
    pub fn etcd(&self, system: &Etcd, op: Op, shape: Shape) -> etcd::Load {
        etcd::Load {
            endpoints: system.endpoints().to_vec(),
            op,
            connections: shape.connections,
            inflight: shape.inflight,
            keys: self.keys,
            value_bytes: self.value_bytes as usize,
            seconds: self.seconds,
            warmup: self.warmup,
        }
    }

    fn resp(&self, servers: Vec<String>, op: Op, shape: Shape) -> resp::Load {
        resp::Load {
            pontoon: self.pontoon.clone(),
            servers,
            op,
            connections: shape.connections,
            inflight: shape.inflight,
            keys: self.keys,
            value_bytes: self.value_bytes,
            seconds: self.seconds,
            warmup: self.warmup,
            sessions: false,
            rate: None,
            load_first: false,
        }
    }
}
