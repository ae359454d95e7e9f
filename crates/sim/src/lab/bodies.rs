//! The rows with a body of their own.

use bytes::Bytes;
use pontoon_kv::Reply;

use super::check_log_size;
use crate::{
    check::Violation,
    client::{Ending, SessionCaller},
    linearizability::Action,
    scenario::{history_is_legal, settle},
    time::{MS, SECOND},
    world::{ClientId, Keys, Server, Workload, World},
};

/// A new leader is usable within this, in microseconds.
const ELECTION_US: u64 = SECOND;

fn clerk(world: &mut World, servers: Vec<Server>) -> ClientId {
    world.add_client(None, |rng| Box::new(SessionCaller::new(rng, servers, 120 * SECOND)))
}

fn full_clerk(world: &mut World) -> ClientId {
    let all = (0..world.len()).collect();
    clerk(world, all)
}

fn bytes(text: impl ToString) -> Bytes {
    Bytes::from(text.to_string())
}

fn put(world: &mut World, clerk: ClientId, key: &str, value: &str) -> Result<(), Violation> {
    expect(world.ask_for(clerk, key, Action::Put(bytes(value)))?, Reply::Ok, key)
}

fn get(world: &mut World, clerk: ClientId, key: &str, value: &str) -> Result<(), Violation> {
    expect(world.ask_for(clerk, key, Action::Get)?, Reply::Bytes(bytes(value)), key)
}

fn expect(found: Reply, expected: Reply, key: &str) -> Result<(), Violation> {
    match found == expected {
        true => Ok(()),
        false => Err(Violation::new("a reply is as expected", format!("{key}: {found:?}, not {expected:?}"))),
    }
}

/// 1000 appends, one at a time, faster than one per third of a heartbeat of 100 ms.
pub(super) fn speed(world: &mut World) -> Result<(), Violation> {
    let client = full_clerk(world);
    world.ask_for(client, "x", Action::Get)?;
    let start = world.now();
    for number in 0..1_000 {
        let token = bytes(format!("x 0 {number} y;"));
        world.ask_for(client, "x", Action::Append(token))?;
    }
    let took = world.now() - start;
    if took > 1_000 * 100 * MS / 3 {
        return Err(Violation::new("speed", format!("1000 appends took {} ms", took / MS)));
    }
    history_is_legal(world)
}

/// Five clients append to one key, ten times each, over a network that loses requests and replies.
pub(super) fn unreliable_one_key(world: &mut World) -> Result<(), Violation> {
    let first = full_clerk(world);
    put(world, first, "k0", "")?;
    let keys = || Keys::Shared("k".to_string(), 1);
    let workload = Workload {
        keys: keys(),
        in_flight: 2,
        think_us: (MS, 5 * MS),
        appends: 100,
        puts: 0,
        deletes: 0,
        padding_bytes_max: 0,
        noise: false,
    };
    for _ in 0..5 {
        let all = (0..world.len()).collect();
        let caller = |rng| Box::new(SessionCaller::new(rng, all, 120 * SECOND)) as Box<_>;
        world.add_client(Some(Workload { ..workload.clone() }), caller);
    }
    let enough = |world: &World| world.counts().operations < 50;
    if !world.run_while(60 * SECOND, enough)? {
        return Err(Violation::new("appends end", format!("only {} did", world.counts().operations)));
    }
    settle(world)
}

/// No progress in the minority, progress in the majority, completion after healing.
pub(super) fn one_partition(world: &mut World) -> Result<(), Violation> {
    let all: Vec<Server> = (0..world.len()).collect();
    let [everywhere, a, b, c] = [0; 4].map(|_| full_clerk(world));
    put(world, everywhere, "1", "13")?;
    // Clerks open their sessions at their first call.
    for clerk in [a, b, c] {
        world.ask_for(clerk, "0", Action::Put(bytes(clerk)))?;
    }
    let leader = world.leader().ok_or_else(|| Violation::new("there is a leader", "none".to_string()))?;
    let second = (leader + 1) % world.len();
    let side: Vec<bool> = all.iter().map(|server| *server == leader || *server == second).collect();
    world.partition(&side);
    let majority: Vec<Server> = all.iter().copied().filter(|server| !side[*server]).collect();
    world.set_servers(a, majority);
    world.set_servers(b, vec![leader, second]);
    world.set_servers(c, vec![leader, second]);
    put(world, a, "1", "14")?;
    get(world, a, "1", "14")?;

    let stalled_put = world.call(b, &bytes("1"), Action::Put(bytes("15")));
    let stalled_get = world.call(c, &bytes("1"), Action::Get);
    world.run_for(SECOND)?;
    if world.ending(b, stalled_put).is_some() || world.ending(c, stalled_get).is_some() {
        return Err(Violation::new("no progress in the minority", "a request there has ended".to_string()));
    }
    get(world, a, "1", "14")?;
    put(world, a, "1", "16")?;
    get(world, a, "1", "16")?;

    world.connect();
    world.set_servers(b, all.clone());
    world.set_servers(c, all);
    world.run_for(ELECTION_US)?;
    let pending =
        |world: &World| world.ending(b, stalled_put).is_none() || world.ending(c, stalled_get).is_none();
    if !world.run_while(3 * SECOND, pending)? {
        return Err(Violation::new(
            "completion after healing",
            "a stalled request has not ended".to_string(),
        ));
    }
    match world.ending(c, stalled_get) {
        Some(Ending::Reply(Reply::Bytes(value))) if value == "16" || value == "15" => {}
        other => return Err(Violation::new("a stalled read is not stale", format!("{other:?}"))),
    }
    get(world, everywhere, "1", "15")?;
    settle(world)
}

/// A server that was cut off catches up from a snapshot, and the majority has trimmed its log meanwhile.
pub(super) fn snapshot_rpc(world: &mut World) -> Result<(), Violation> {
    let client = full_clerk(world);
    put(world, client, "a", "A")?;
    get(world, client, "a", "A")?;
    world.partition(&[true, true, false]);
    {
        let majority = clerk(world, vec![0, 1]);
        for number in 0..50 {
            put(world, majority, &number.to_string(), &number.to_string())?;
        }
        world.run_for(ELECTION_US)?;
        put(world, majority, "b", "B")?;
    }
    world.run_for(200 * MS)?;
    check_log_size(world)?;
    world.partition(&[true, false, true]);
    {
        let majority = clerk(world, vec![0, 2]);
        put(world, majority, "c", "C")?;
        put(world, majority, "d", "D")?;
        for (key, value) in [("a", "A"), ("b", "B"), ("1", "1"), ("49", "49")] {
            get(world, majority, key, value)?;
        }
    }
    world.connect();
    put(world, client, "e", "E")?;
    for (key, value) in [("c", "C"), ("e", "E"), ("1", "1")] {
        get(world, client, key, value)?;
    }
    if world.counts().snapshots == 0 {
        return Err(Violation::new("a lagging server gets a snapshot", "there was none".to_string()));
    }
    settle(world)
}

/// 800 operations on one key leave a snapshot of at most 500 bytes: no record per request.
pub(super) fn snapshot_size(world: &mut World) -> Result<(), Violation> {
    let client = full_clerk(world);
    for _ in 0..200 {
        for value in ["0", "1"] {
            put(world, client, "x", value)?;
            get(world, client, "x", value)?;
        }
    }
    world.run_for(SECOND)?;
    check_log_size(world)?;
    for server in 0..world.len() {
        let bytes = world.snapshot_bytes(server);
        if bytes > 500 {
            return Err(Violation::new(
                "a snapshot is small",
                format!("server {server}'s has {bytes} bytes"),
            ));
        }
    }
    settle(world)
}
