//! What a person is told, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::{Duration, Instant},
};

use super::{
    fleet::{Event, Fleet},
    plan::Plan,
};
use crate::{
    info::{self, Info},
    output,
};

/// A cluster that takes longer to get ready is told to be waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// A cluster without a leader for longer is worth a line; an election takes less.
const LEADERLESS_MAX: Duration = Duration::from_secs(3);

/// What has been seen of a cluster and said about it.
#[derive(Debug)]
pub struct Report<'a> {
    plan: &'a Plan,
    /// The latest figures of the servers that answer.
    infos: BTreeMap<u64, Info>,
    /// Servers that were started again and have not been seen at work yet.
    returning: BTreeSet<u64>,
    /// Whether the cluster has been ready once.
    ready: bool,
    /// The leader and term last spoken of.
    leader: Option<(u64, u64)>,
    leader_seen: Instant,
    leaderless_said: bool,
    started: Instant,
    waiting_said: bool,
    /// The last words of a server that refused to start.
    refusal: Option<String>,
}

impl<'a> Report<'a> {
    /// Nothing seen, nothing said.
    pub fn new(plan: &'a Plan, now: Instant) -> Report<'a> {
        Report {
            plan,
            infos: BTreeMap::new(),
            returning: BTreeSet::new(),
            ready: false,
            leader: None,
            leader_seen: now,
            leaderless_said: false,
            started: now,
            waiting_said: false,
            refusal: None,
        }
    }

    /// A server's figures, or that it does not answer.
    pub fn observe(&mut self, node: u64, info: Option<Info>) {
        match info {
            Some(info) => drop(self.infos.insert(node, info)),
            None => drop(self.infos.remove(&node)),
        }
    }

    /// Something happened to a server's process.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Died { node, how, last_words, restarts } => {
                self.infos.remove(node);
                self.returning.remove(node);
                let log = self.plan.log(*node);
                let why = last_words.as_ref().map_or(String::new(), |words| format!(": {words}"));
                let next = if *restarts { "it is started again in a second" } else { "it is left dead" };
                output::say(format_args!(
                    "server {node} died ({how}){why}; {next}; its log: {}",
                    log.display()
                ));
                if !restarts {
                    self.refusal = last_words.clone().or_else(|| self.refusal.take());
                }
            }
            Event::Restarted { node } => {
                self.returning.insert(*node);
                output::say(format_args!("server {node} is started again"));
            }
            Event::NotRestarted { error } => output::say(error),
        }
    }

    /// Says what has changed since the last time.
    pub fn tick(&mut self, now: Instant, fleet: &Fleet) {
        let leader = info::leader(self.infos.values()).map(|info| (info.node_id, info.term));
        if leader.is_some() {
            self.leader_seen = now;
        }
        if self.ready {
            self.tell_leader(now, leader);
            self.tell_returned();
        } else {
            self.tell_ready(now, fleet, leader);
        }
    }

    /// Why there is nothing left to wait for, if so: no server is alive, or too few are for a cluster that never was ready.
    pub fn hopeless(&self, fleet: &Fleet) -> Option<String> {
        let alive = self.plan.nodes().filter(|node| fleet.is_alive(*node)).count();
        let why = self.refusal.as_deref().unwrap_or("see their logs");
        match (self.ready, alive) {
            (true, 0) => Some(format!("no server is left: {why}")),
            (false, alive) if alive < self.plan.majority() => {
                Some(format!("the cluster did not start: {why}"))
            }
            _ => None,
        }
    }

    fn tell_ready(&mut self, now: Instant, fleet: &Fleet, leader: Option<(u64, u64)>) {
        let silent: Vec<String> = self
            .plan
            .nodes()
            .filter(|node| fleet.is_alive(*node) && !self.infos.contains_key(node))
            .map(|node| node.to_string())
            .collect();
        match leader {
            Some((node, term)) if silent.is_empty() => {
                self.ready = true;
                self.leader = leader;
                self.returning.clear();
                output::say(self.welcome(node, term, fleet));
            }
            _ if now.duration_since(self.started) > PATIENCE && !self.waiting_said => {
                self.waiting_said = true;
                let what = match silent.is_empty() {
                    true => "a leader to be elected".to_string(),
                    false => format!("server {} to answer", silent.join(", ")),
                };
                output::say(format_args!(
                    "still waiting for {what}; the logs: {}",
                    self.plan.dir().join("node-*.log").display()
                ));
            }
            _ => {}
        }
    }

    fn tell_leader(&mut self, now: Instant, leader: Option<(u64, u64)>) {
        match leader {
            Some((node, term)) if self.leader != leader => {
                let again = if self.leader.is_some_and(|(before, _)| before == node) { " again" } else { "" };
                output::say(format_args!("server {node} leads{again} (term {term})"));
                self.leader = leader;
                self.leaderless_said = false;
            }
            None if !self.leaderless_said && now.duration_since(self.leader_seen) > LEADERLESS_MAX => {
                output::say("no server leads: the cluster answers nothing until a majority of it is up");
                self.leader = None;
                self.leaderless_said = true;
            }
            _ => {}
        }
    }

    /// A server is back when it answers and follows somebody, or leads.
    fn tell_returned(&mut self) {
        let infos = &self.infos;
        self.returning.retain(|node| {
            let back = infos.get(node).is_some_and(|info| info.leader.is_some() || info.role == "leader");
            if back {
                output::say(format_args!("server {node} is back"));
            }
            !back
        });
    }

    fn welcome(&self, leader: u64, term: u64, fleet: &Fleet) -> String {
        let program = env::args().next().unwrap_or_else(|| "pontoon".to_string());
        let options = self.plan.client_options();
        let (first, auth) =
            (self.plan.port(1), if self.plan.password().is_some() { " -a PASSWORD" } else { "" });
        let servers: String = self.plan.nodes().map(|node| self.server_line(node, fleet)).collect();
        let victim = fleet.pid(leader).map_or("PID".to_string(), |pid| pid.to_string());
        format!(
            "ready: server {leader} leads (term {term})\n\n{servers}\n\
             Try, in another terminal:\n  \
               redis-cli -p {first}{auth} set greeting hello\n  \
               {program} get greeting{options}\n  \
               {program} status{options}\n  \
               kill -9 {victim}    (the leader; watch what happens here)\n\n\
             Ctrl-C stops all servers; what they hold stays in {}.\n",
            self.plan.dir().display()
        )
    }

    fn server_line(&self, node: u64, fleet: &Fleet) -> String {
        let pid = fleet.pid(node).map_or("not running".to_string(), |pid| format!("pid {pid}"));
        format!(
            "  server {node}  {}  {pid}  log {}\n",
            self.plan.address(node),
            self.plan.log(node).display()
        )
    }
}
