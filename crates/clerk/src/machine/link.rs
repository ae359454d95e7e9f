//! The links to the servers: one connection each at most, replies in the order of requests.

use std::{collections::VecDeque, time::Duration};

use super::{CallId, ConnectionId};

#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    /// The server that is used; it changes when that one fails.
    preferred: usize,
    next_connection: u64,
}

#[derive(Debug)]
struct Link {
    state: State,
    /// Failures since the last reply.
    failures: u32,
    /// When the last reply came, or the connection was opened.
    heard_at: Duration,
    /// When its timer rings.
    alarm: Option<Duration>,
}

#[derive(Debug)]
enum State {
    Idle,
    Connecting {
        connection: ConnectionId,
        until: Duration,
    },
    Up {
        connection: ConnectionId,
        owed: VecDeque<Pending>,
    },
    /// It failed: another is tried before it.
    Resting {
        until: Duration,
    },
}

/// A reply that a server owes.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) owner: Owner,
    pub(super) sent_at: Duration,
}

/// Whom a reply is for.
#[derive(Debug)]
pub(super) enum Owner {
    Call(CallId),
    OpenSession,
    KeepAlive,
    CloseSession,
}

/// Where the next request goes.
pub(super) enum Choice {
    Use { server: usize, connection: ConnectionId },
    Connect(usize),
    Wait,
}

impl Links {
    pub(super) fn new(servers: usize, seed: u64) -> Links {
        let link = || Link { state: State::Idle, failures: 0, heard_at: Duration::ZERO, alarm: None };
        // Each clerk starts with a server of its own, which spreads the load.
        let preferred = (seed % servers as u64) as usize;
        Links { links: (0..servers).map(|_| link()).collect(), preferred, next_connection: 1 }
    }

    /// The preferred server, or the next one that has not just failed.
    pub(super) fn choose(&mut self, now: Duration) -> Choice {
        for step in 0..self.links.len() {
            let server = (self.preferred + step) % self.links.len();
            let choice = match self.links[server].state {
                State::Up { connection, .. } => Choice::Use { server, connection },
                State::Connecting { .. } => Choice::Wait,
                State::Idle => Choice::Connect(server),
                State::Resting { until } if until <= now => Choice::Connect(server),
                State::Resting { .. } => continue,
            };
            self.preferred = server;
            return choice;
        }
        Choice::Wait
    }

    /// If this server is preferred, the next one is from now on.
    pub(super) fn avoid(&mut self, server: usize) {
        if self.preferred == server {
            self.preferred = (server + 1) % self.links.len();
        }
    }

    pub(super) fn connecting(&mut self, server: usize, until: Duration) -> ConnectionId {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.links[server].state = State::Connecting { connection, until };
        connection
    }

    pub(super) fn connected(&mut self, connection: ConnectionId, now: Duration) {
        let Some(server) = self.server_of(connection) else { return };
        self.links[server].state = State::Up { connection, owed: VecDeque::new() };
        self.links[server].heard_at = now;
    }

    /// `None`: the connection was given up; what comes of it is of no interest.
    pub(super) fn server_of(&self, connection: ConnectionId) -> Option<usize> {
        self.links.iter().position(|link| match link.state {
            State::Connecting { connection: own, .. } | State::Up { connection: own, .. } => {
                own == connection
            }
            State::Idle | State::Resting { .. } => false,
        })
    }

    pub(super) fn sent(&mut self, server: usize, owner: Owner, now: Duration) {
        let State::Up { owed, .. } = &mut self.links[server].state else {
            unreachable!("only a link that is up is used")
        };
        owed.push_back(Pending { owner, sent_at: now });
    }

    /// A reply came; whose it is. `None`: nobody's.
    pub(super) fn answered(&mut self, server: usize, now: Duration) -> Option<Pending> {
        let link = &mut self.links[server];
        let State::Up { owed, .. } = &mut link.state else { return None };
        let pending = owed.pop_front()?;
        link.failures = 0;
        link.heard_at = now;
        Some(pending)
    }

    pub(super) fn failures(&self, server: usize) -> u32 {
        self.links[server].failures
    }

    /// Gives the connection up; what it owed.
    pub(super) fn failed(&mut self, server: usize, until: Duration) -> VecDeque<Pending> {
        self.avoid(server);
        let link = &mut self.links[server];
        link.failures = link.failures.saturating_add(1);
        match std::mem::replace(&mut link.state, State::Resting { until }) {
            State::Up { owed, .. } => owed,
            _ => VecDeque::new(),
        }
    }

    /// The connection that has taken too long, and with what.
    pub(super) fn overdue(
        &self,
        server: usize,
        now: Duration,
        silence_max: Duration,
    ) -> Option<(ConnectionId, &'static str)> {
        let link = &self.links[server];
        let (connection, why) = match link.state {
            State::Connecting { connection, .. } => (connection, "it did not accept the connection in time"),
            State::Up { connection, .. } => (connection, "it owes replies and has been silent for too long"),
            State::Idle | State::Resting { .. } => return None,
        };
        (link.due(silence_max)? <= now).then_some((connection, why))
    }

    pub(super) fn alarm_rang(&mut self, server: usize) {
        self.links[server].alarm = None;
    }

    /// Sets the link's one timer if it has none or a later one than it needs; the old and the new moment.
    pub(super) fn set_alarm(
        &mut self,
        server: usize,
        now: Duration,
        silence_max: Duration,
    ) -> (Option<Duration>, Option<Duration>) {
        let link = &mut self.links[server];
        let old = link.alarm;
        // An alarm that turns out to be early costs a look; setting it anew with each reply would cost more. What is due
        // already needs none: a rest that is over is seen by `choose`.
        if let Some(due) = link.due(silence_max).filter(|&due| due > now)
            && old.is_none_or(|alarm| alarm > due)
        {
            link.alarm = Some(due);
        }
        (old, link.alarm)
    }
}

impl Link {
    /// When it must be looked at again.
    fn due(&self, silence_max: Duration) -> Option<Duration> {
        match &self.state {
            State::Idle => None,
            State::Connecting { until, .. } => Some(*until),
            State::Up { owed, .. } => {
                owed.front().map(|first| self.heard_at.max(first.sent_at) + silence_max)
            }
            State::Resting { until } => Some(*until),
        }
    }
}
