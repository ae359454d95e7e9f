//! The rows of the replicated state machine (MIT 6.5840, lab 4 of 2025, part A): a counter on three servers.
//!
//! The original submits an operation to the leader and is told at once that another server does not lead. Here any server takes
//! it, and passes it on; what it cannot bring through it holds until its timeout. So where the original wants an error from a
//! deposed leader, here the operations take effect once, after the partition, and say so.

use bytes::Bytes;
use pontoon_kv::{Command, Limits, Reply, read};

use super::{Done, MAXRAFTSTATE, check_log_size};
use crate::{
    check::Violation,
    client::{ClerkCaller, Ending, Op, PlainCaller},
    scenario::settle,
    time::{MS, SECOND},
    world::{ClientId, Server, Setup, Traced, World},
};

/// The original tries for so long to submit an operation, in microseconds.
const SUBMIT_US: u64 = 10 * SECOND;

/// A submission that its servers' end interrupts has come to an end within this.
const INTERRUPTED_US: u64 = 11 * SECOND;

/// Servers agree on the counter within this: 30 looks, of 10 ms at first and of a second at last.
const AGREED_US: u64 = 24 * SECOND;

/// A row, by its name there; `Rsm` stands before it in ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RsmRow {
    /// Ten increments, one after the other.
    Basic,
    /// Fifty at once.
    Concurrent,
    /// The leader is cut off.
    LeaderFailure,
    /// A hundred decrements wait in a leader that is cut off.
    LeaderPartition,
    /// All stop and start again.
    RestartReplay,
    /// All stop while a hundred operations are under way.
    Shutdown,
    /// And then start again.
    RestartSubmit,
    /// The log is bounded; all start from snapshots.
    Snapshot,
}

impl RsmRow {
    /// All rows, in the original's order.
    pub const ALL: [RsmRow; 8] = [
        RsmRow::Basic,
        RsmRow::Concurrent,
        RsmRow::LeaderFailure,
        RsmRow::LeaderPartition,
        RsmRow::RestartReplay,
        RsmRow::Shutdown,
        RsmRow::RestartSubmit,
        RsmRow::Snapshot,
    ];

    /// As in tables and on the command line.
    pub fn name(self) -> String {
        format!("Rsm{self:?}")
    }

    /// Runs the row on a seed.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn run(self, seed: u64, traced: Traced) -> Result<Done, Violation> {
        let mut setup = Setup { traced, ..Setup::new(seed, 3) };
        setup.config.log_bytes_max = (self == RsmRow::Snapshot).then_some(MAXRAFTSTATE);
        let mut counter = Counter::new(World::new(setup));
        match self {
            RsmRow::Basic => counter.basic(),
            RsmRow::Concurrent => counter.concurrent(),
            RsmRow::LeaderFailure => counter.leader_failure(),
            RsmRow::LeaderPartition => counter.leader_partition(),
            RsmRow::RestartReplay => counter.restart_replay(),
            RsmRow::Shutdown => counter.shutdown(seed),
            RsmRow::RestartSubmit => counter.restart_submit(seed),
            RsmRow::Snapshot => counter.snapshot(),
        }?;
        settle(&mut counter.world)?;
        Ok(Done::of(&counter.world))
    }
}

struct Counter {
    world: World,
    clerk: ClientId,
}

const KEY: Bytes = Bytes::from_static(b"counter");

fn add(delta: i64) -> Command {
    Command::IncrBy { key: KEY, delta }
}

fn wrong<T>(property: &'static str, what: String) -> Result<T, Violation> {
    Err(Violation::new(property, what))
}

impl Counter {
    fn new(mut world: World) -> Counter {
        let servers = (0..world.len()).collect();
        let ttl_ms = Limits::default().session_ttl_ms;
        let clerk = world.add_client(None, |rng| Box::new(ClerkCaller::new(rng, servers, SUBMIT_US, ttl_ms)));
        Counter { world, clerk }
    }

    fn basic(&mut self) -> Result<(), Violation> {
        for value in 1..=10 {
            self.increment_to(value)?;
            self.agree_on(value, 3)?;
        }
        Ok(())
    }

    fn concurrent(&mut self) -> Result<(), Violation> {
        let ops: Vec<Op> = (0..50).map(|_| self.world.submit(self.clerk, add(1))).collect();
        self.all_end(self.clerk, &ops, SUBMIT_US)?;
        let mut values = self.values(self.clerk, &ops)?;
        values.sort_unstable();
        if values != (1..=50).collect::<Vec<i64>>() {
            return wrong("each increment has its own reply", format!("{values:?}"));
        }
        self.agree_on(50, 3)
    }

    fn leader_failure(&mut self) -> Result<(), Violation> {
        self.increment_to(1)?;
        self.agree_on(1, 3)?;
        let leader = self.leader()?;
        self.isolate(leader);
        self.increment_to(2)?;
        self.agree_on(2, 2)?;
        self.world.connect();
        self.agree_on(2, 3)
    }

    /// None of the decrements ends while the leader that has them is cut off. Once it is not, all end within a second, and each
    /// takes effect once.
    fn leader_partition(&mut self) -> Result<(), Violation> {
        self.increment_to(1)?;
        let leader = self.leader()?;
        let asker = self.world.add_client(None, |rng| Box::new(PlainCaller::new(rng, vec![leader])));
        self.isolate(leader);
        let ops: Vec<Op> = (0..100).map(|_| self.world.submit(asker, add(-1))).collect();
        self.world.run_for(10 * MS)?;
        let others: Vec<Server> = (0..self.world.len()).filter(|server| *server != leader).collect();
        self.world.set_servers(self.clerk, others);
        self.increment_to(2)?;
        self.world.run_for(SECOND)?;
        if let Some(ended) = ops.iter().find(|op| self.world.ending(asker, **op).is_some()) {
            return wrong(
                "no progress in the minority",
                format!("{ended}: {:?}", self.world.ending(asker, *ended)),
            );
        }
        self.world.connect();
        self.all_end(asker, &ops, SECOND)?;
        let mut values = self.values(asker, &ops)?;
        values.sort_unstable_by(|a, b| b.cmp(a));
        if values != (-98..=1).rev().collect::<Vec<i64>>() {
            return wrong("each decrement takes effect once", format!("{values:?}"));
        }
        self.agree_on(-98, 3)
    }

    fn restart_replay(&mut self) -> Result<(), Violation> {
        self.increments_to(100)?;
        self.restart_all()?;
        self.increment_to(101)?;
        self.agree_on(101, 3)
    }

    /// Stopped in good order on even seeds, killed on odd ones.
    fn shutdown(&mut self, seed: u64) -> Result<(), Violation> {
        let ops: Vec<Op> = (0..100).map(|_| self.world.submit(self.clerk, add(0))).collect();
        self.world.run_for(20 * MS)?;
        for server in 0..self.world.len() {
            if seed.is_multiple_of(2) {
                self.world.shut_down(server);
            } else {
                self.world.crash(server);
            }
        }
        self.all_end(self.clerk, &ops, INTERRUPTED_US)?;
        // All may have been answered before a server that stops has taken its leave.
        self.world.run_for(SECOND)?;
        let up = (0..self.world.len()).any(|server| self.world.is_up(server));
        if up { wrong("a server that is told to stop stops", "one is up".to_string()) } else { Ok(()) }
    }

    fn restart_submit(&mut self, seed: u64) -> Result<(), Violation> {
        self.increments_to(100)?;
        self.restart_all()?;
        self.increment_to(101)?;
        self.shutdown(seed)?;
        (0..self.world.len()).for_each(|server| self.world.restart(server));
        self.increment_to(102)?;
        self.agree_on(102, 3)
    }

    fn snapshot(&mut self) -> Result<(), Violation> {
        self.increments_to(100)?;
        self.agree_on(100, 3)?;
        self.world.run_for(SECOND)?;
        check_log_size(&self.world)?;
        self.restart_all()?;
        self.increment_to(101)?;
        self.agree_on(101, 3)
    }

    fn increment_to(&mut self, value: i64) -> Result<(), Violation> {
        let op = self.world.submit(self.clerk, add(1));
        self.all_end(self.clerk, &[op], SUBMIT_US)?;
        match self.values(self.clerk, &[op])?[..] {
            [replied] if replied == value => Ok(()),
            ref other => wrong("a reply is as expected", format!("{other:?}, not {value}")),
        }
    }

    fn increments_to(&mut self, value: i64) -> Result<(), Violation> {
        (1..=value).try_for_each(|value| self.increment_to(value))
    }

    fn all_end(&mut self, asker: ClientId, ops: &[Op], limit_us: u64) -> Result<(), Violation> {
        let pending = |world: &World| ops.iter().filter(|op| world.ending(asker, **op).is_none()).count();
        if self.world.run_while(limit_us, |world| pending(world) > 0)? {
            return Ok(());
        }
        wrong("operations end", format!("{} of {} do not", pending(&self.world), ops.len()))
    }

    /// What operations that have ended were answered with.
    fn values(&self, asker: ClientId, ops: &[Op]) -> Result<Vec<i64>, Violation> {
        let value = |op: &Op| match self.world.ending(asker, *op) {
            Some(Ending::Reply(Reply::Integer(value))) => Ok(*value),
            other => wrong("an operation has its result", format!("{op}: {other:?}")),
        };
        ops.iter().map(value).collect()
    }

    /// So many servers at least come to have this in their states.
    fn agree_on(&mut self, value: i64, servers: usize) -> Result<(), Violation> {
        let text = Reply::Bytes(Bytes::from(value.to_string()));
        let get = Command::Get { key: KEY };
        let has = |world: &World, server: &Server| {
            let reply = read(world.applied_state(*server), &get, &Limits::default());
            reply.expect("a store in memory can be read") == text
        };
        let agreed = |world: &World| {
            (0..world.len()).filter(|server| world.is_up(*server) && has(world, server)).count()
        };
        if self.world.run_while(AGREED_US, |world| agreed(world) < servers)? {
            return Ok(());
        }
        wrong("servers agree on the counter", format!("{} have {value}", agreed(&self.world)))
    }

    fn leader(&self) -> Result<Server, Violation> {
        self.world.leader().map_or_else(|| wrong("there is a leader", "none".to_string()), Ok)
    }

    fn isolate(&mut self, server: Server) {
        let side: Vec<bool> = (0..self.world.len()).map(|other| other == server).collect();
        self.world.partition(&side);
    }

    fn restart_all(&mut self) -> Result<(), Violation> {
        (0..self.world.len()).for_each(|server| self.world.crash(server));
        self.world.run_for(SECOND)?;
        (0..self.world.len()).for_each(|server| self.world.restart(server));
        Ok(())
    }
}
