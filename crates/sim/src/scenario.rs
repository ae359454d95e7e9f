//! A run drawn from a seed: a cluster, clients, a time of faults, a time to heal, and what must hold then.

use bytes::Bytes;
use pontoon_kv::{Reply, state_hash, verify};
use pontoon_replica::Config;

use crate::{
    check::{Violation, check_exactly_once, check_sessions},
    client::{ClerkCaller, PlainCaller, SessionCaller},
    linearizability::{Action, Observation, Operation, Verdict, check},
    rng::Rng,
    time::{MS, SECOND},
    world::{Counts, FaultKind, FaultPlan, Keys, Links, Setup, Traced, Workload, World},
};

/// After the faults, clients' last requests have come to an end within this, in microseconds.
const QUIET_WITHIN_US: u64 = 30 * SECOND;

/// Then each server serves a write and a read within this.
const SERVES_WITHIN_US: u64 = 10 * SECOND;

/// Then all servers' states are equal, and nothing waits, within this. (A view that was pinned for a follower which does not want
/// it any more is let go after ten seconds of its server's clock.)
const EQUAL_WITHIN_US: u64 = 15 * SECOND;

/// Sessions that live no longer than this are waited for at the end, in milliseconds.
const SESSION_TTL_MS_MAX: u64 = 2_000;

/// Until so long after the faults, requests and messages may arrive that were sent among them, in microseconds.
const LATEST_US: u64 = 6 * SECOND;

/// What a seed stands for.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The cluster.
    pub setup: Setup,
    /// Clients with sessions, and plain ones.
    pub clients: (usize, usize),
    /// What they ask.
    pub workload: Workload,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// Probability that a lost request arrives late.
    pub late_requests: f64,
    /// How long, in microseconds.
    pub faults_for_us: u64,
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// In figures.
    pub counts: Counts,
    /// Virtual time, in microseconds.
    pub took_us: u64,
    /// The trace, if it was kept.
    pub trace: String,
    /// What does not hold, if anything.
    pub violation: Option<Violation>,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn from_seed(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x5ce7_a810);
        let servers = *rng.pick(&[1, 3, 3, 3, 3, 5, 5, 7]);
        let mut setup = Setup::new(seed, servers);
        setup.config = tuned(setup.config, &mut rng);
        setup.drift_percent = *rng.pick(&[0, 0, 10, 25]);
        setup.hesitation_us_max = *rng.pick(&[MS, 30 * MS, 30 * MS, SECOND]);
        setup.lazy_writes = rng.chance(0.5);
        setup.unreliable = rng.chance(0.4);
        setup.sync_us = *rng.pick(&[(20, 200), (100, 2 * MS), (MS, 20 * MS)]);
        if rng.chance(0.3) {
            setup.links = Links {
                delay_us: (100, 10 * MS),
                drop: 0.01,
                duplicate: 0.02,
                late: 0.02,
                late_us: SECOND,
                ordered: false,
            };
        }
        let kinds = FaultKind::ALL.into_iter().filter(|_| rng.chance(0.45)).collect();
        let clients = (1 + rng.below(5) as usize, rng.below(4) as usize);
        let workload = Workload {
            // Few requests on one key at once: the checker's work grows with every way that they could interleave.
            keys: Keys::Shared("k".to_string(), rng.within((1 + (clients.0 + clients.1) as u64 / 2, 8))),
            in_flight: rng.within((1, 5)) as usize,
            think_us: *rng.pick(&[(MS, 20 * MS), (5 * MS, 60 * MS), (20 * MS, 200 * MS)]),
            appends: rng.within((10, 60)),
            puts: rng.below(15),
            deletes: *rng.pick(&[0, 0, 3]),
            padding_bytes_max: *rng.pick(&[0, 0, 100, 9_000]),
            noise: rng.chance(0.3),
        };
        let slowest = *rng.pick(&[100 * MS, 300 * MS, SECOND, 3 * SECOND]);
        let faults = FaultPlan { kinds, every_us: (20 * MS, slowest), lasting_us: (10 * MS, 2 * slowest) };
        let late_requests = *rng.pick(&[0.0, 0.3]);
        let faults_for_us = rng.within((3 * SECOND, 15 * SECOND));
        Scenario { setup, clients, workload, faults, late_requests, faults_for_us }
    }

    /// Runs it.
    pub fn run(&self, traced: Traced) -> Report {
        let mut world = World::new(Setup { traced, ..self.setup.clone() });
        let violation = self.play(&mut world).err();
        Report { counts: world.counts(), took_us: world.now(), trace: world.trace().to_string(), violation }
    }

    fn play(&self, world: &mut World) -> Result<(), Violation> {
        let servers: Vec<usize> = (0..world.len()).collect();
        let (sessions, plain) = self.clients;
        for number in 0..sessions + plain {
            let servers = servers.clone();
            // One client is impatient: it gives requests up that may yet be executed.
            let give_up_us = if number == 0 { 2 * SECOND } else { 60 * SECOND };
            let ttl_ms = self.setup.config.limits.session_ttl_ms;
            world.add_client(Some(self.workload.clone()), |rng| match number < sessions {
                true if number % 2 == 0 => Box::new(ClerkCaller::new(rng, servers, give_up_us, ttl_ms)),
                true => Box::new(SessionCaller::new(rng, servers, give_up_us)),
                false => Box::new(PlainCaller::new(rng, servers)),
            });
        }
        world.set_late_requests(self.late_requests);
        world.run_for(SECOND)?;
        world.plan_faults(self.faults.clone());
        world.run_for(self.faults_for_us)?;
        settle(world)?;
        self.sessions_expire(world)
    }

    /// Idle for long enough, the cluster has forgotten all sessions but those that are kept alive: each server's own, and the
    /// clerks'.
    fn sessions_expire(&self, world: &mut World) -> Result<(), Violation> {
        let ttl_ms = self.setup.config.limits.session_ttl_ms;
        if ttl_ms > SESSION_TTL_MS_MAX {
            return Ok(());
        }
        // Clocks may go slow, and a straggler is a use of its session.
        world.run_for(LATEST_US + 2 * ttl_ms * MS)?;
        let standing = world.standing();
        let client = world.add_client(None, |rng| Box::new(PlainCaller::new(rng, standing.clone())));
        // Sessions expire with the entries of the log.
        world.ask_for(client, "last", Action::Put(Bytes::from_static(b"last;")))?;
        all_states_are_equal(world)?;
        let (clerks, _) = self.clients;
        let users = standing.len() + clerks.div_ceil(2);
        standing.iter().try_for_each(|server| check_sessions(world.sessions(*server), users))
    }
}

/// Settings at which rare things are common: logs that are trimmed at once, messages of one entry, queues that are full.
fn tuned(usual: Config, rng: &mut Rng) -> Config {
    let mut config = Config {
        log_bytes_max: *rng.pick(&[None, Some(1_000), Some(4_000), Some(64_000)]),
        window_bytes_max: *rng.pick(&[0, 2_000, 8 << 20]),
        append_bytes_max: *rng.pick(&[1, 200, 1 << 20]),
        append_inflight_max: *rng.pick(&[1, 2, 256]),
        block_bytes_max: *rng.pick(&[1, 100, 256 << 10]),
        uncommitted_bytes_max: *rng.pick(&[200, 2_000, 256 << 20]),
        waiting_max: *rng.pick(&[4, 65_536, 65_536]),
        heartbeat_ticks: *rng.pick(&[1, 2]),
        election_ticks: *rng.pick(&[8, 16, 16]),
        request_timeout_ticks: *rng.pick(&[20, 80, 200]),
        ..usual
    };
    // raft-rs wants room for one message at least.
    config.uncommitted_bytes_max = config.uncommitted_bytes_max.max(config.append_bytes_max);
    // Sessions that nobody uses any more make room only once they expire.
    (config.limits.session_ttl_ms, config.limits.sessions_max) =
        *rng.pick(&[(2_000, 16), (10_000, 16), (10_000, 100_000), (300_000, 100_000)]);
    config
}

/// Everything heals; then every server whose disk is sound serves, all states are equal, nothing waits any more, and the history is legal.
///
/// # Errors
///
/// What does not hold.
pub fn settle(world: &mut World) -> Result<(), Violation> {
    world.heal();
    world.quiet_clients();
    if !world.run_while(QUIET_WITHIN_US, |world| world.in_flight() > 0)? {
        return Err(Violation::new(
            "requests end",
            format!("{} are under way without an end", world.in_flight()),
        ));
    }
    every_server_serves(world)?;
    all_states_are_equal(world)?;
    history_is_legal(world)
}

fn every_server_serves(world: &mut World) -> Result<(), Violation> {
    for server in world.standing() {
        let client = world.add_client(None, |rng| Box::new(PlainCaller::new(rng, vec![server])));
        let key = format!("served-by-{server}");
        let start = world.now();
        let written = format!("{server};");
        let put = Action::Put(Bytes::from(written.clone()));
        // It may have to catch up first: what surely was not executed is asked for again.
        loop {
            let done = world.ask_for(client, &key, put.clone()) == Ok(Reply::Ok)
                && world.ask_for(client, &key, Action::Get) == Ok(Reply::Bytes(Bytes::from(written.clone())));
            if done {
                break;
            }
            world.run_for(100 * MS)?;
            if world.now() > start + SERVES_WITHIN_US {
                let status = world.status(server);
                return Err(Violation::new("every server serves after healing", format!("{status:?}")));
            }
        }
    }
    Ok(())
}

fn all_states_are_equal(world: &mut World) -> Result<(), Violation> {
    let standing = world.standing();
    let at_rest = |world: &World| {
        let up = standing.iter().all(|server| world.is_up(*server));
        let index = |server: &usize| world.applied_state(*server).index();
        up && standing.iter().all(|server| index(server) == index(&standing[0]))
            && standing.iter().all(|server| world.held(*server).is_nothing())
    };
    if !world.run_while(EQUAL_WITHIN_US, |world| !at_rest(world))? {
        let all: Vec<_> =
            standing.iter().map(|server| (world.status(*server), world.held(*server))).collect();
        return Err(Violation::new("all servers come to rest, and nothing waits", format!("{all:?}")));
    }
    let mut hashes = Vec::new();
    for server in standing {
        let state = world.applied_state(server);
        verify(state)
            .map_err(|error| Violation::new("a state is whole", format!("server {server}: {error}")))?;
        hashes.push(state_hash(state).expect("a store in memory can be read"));
    }
    if hashes.iter().all(|hash| *hash == hashes[0]) {
        return Ok(());
    }
    Err(Violation::new("all states are equal", format!("{hashes:x?}")))
}

/// The history is linearizable, and every key's final value shows each acknowledged append once and in order.
///
/// # Errors
///
/// Which key is wrong, and how.
pub fn history_is_legal(world: &mut World) -> Result<(), Violation> {
    let mut keys: Vec<Bytes> =
        world.history.operations().iter().map(|operation| operation.key.clone()).collect();
    keys.sort_unstable();
    keys.dedup();
    let servers = (0..world.len()).collect();
    let reader = world.add_client(None, |rng| Box::new(SessionCaller::new(rng, servers, 30 * SECOND)));
    for key in keys {
        let op = world.call(reader, &key, Action::Get);
        world.run_while(30 * SECOND, |world| world.ending(reader, op).is_none())?;
        let operations = world.history.operations();
        let of_key: Vec<&Operation> = operations.iter().filter(|operation| operation.key == key).collect();
        let value = match &operations[op as usize].end {
            crate::linearizability::End::Returned { result: Observation::Value(value), .. } => value.clone(),
            other => return Err(Violation::new("a last read is answered", format!("{other:?}"))),
        };
        check_exactly_once(&of_key, &value.unwrap_or_default())?;
    }
    match check(world.history.operations()) {
        Verdict::Linearizable => Ok(()),
        Verdict::Violation(conflict) => Err(Violation::new("linearizability", format!("\n{conflict}"))),
        Verdict::Undecided { steps } => Err(Violation::new(
            "linearizability",
            format!("undecided after {steps} steps, which counts as a failure"),
        )),
    }
}
