//! The original's `GenericTest`: three rounds of five seconds on one cluster, each with fresh clients.

use pontoon_kv::Limits;

use super::{ANSWERED_WITHIN_US, Generic, ROUNDS, check_log_size};
use crate::{
    check::Violation,
    client::ClerkCaller,
    rng::Rng,
    scenario::{history_is_legal, settle},
    time::{MS, SECOND},
    world::{FaultKind, FaultPlan, Keys, Workload, World},
};

pub(super) fn run(world: &mut World, row: Generic) -> Result<(), Violation> {
    let mut rng = Rng::new(world.now() ^ row.clients as u64);
    for round in 0..ROUNDS {
        play(world, row, round, &mut rng)?;
    }
    history_is_legal(world)?;
    settle(world)
}

fn play(world: &mut World, row: Generic, round: u64, rng: &mut Rng) -> Result<(), Violation> {
    let clients: Vec<_> = (0..row.clients).map(|_| add_client(world, row, round)).collect();
    if row.crash {
        // Beyond the original: servers also crash one by one while clients are busy.
        let every_us = (300 * MS, 1_500 * MS);
        world.plan_faults(FaultPlan {
            kinds: vec![FaultKind::Crash],
            every_us,
            lasting_us: (10 * MS, SECOND),
        });
    }
    if row.partitions {
        world.run_for(SECOND)?;
        let end = world.now() + 5 * SECOND;
        while world.now() < end {
            let side: Vec<bool> = (0..world.len()).map(|_| rng.chance(0.5)).collect();
            world.partition(&side);
            world.run_for(SECOND + rng.below(200) * MS)?;
        }
    } else {
        world.run_for(5 * SECOND)?;
    }
    clients.iter().for_each(|client| world.set_workload(*client, None));
    world.connect();
    world.end_faults();
    if row.partitions {
        world.run_for(SECOND)?;
    }
    if row.crash {
        (0..world.len()).for_each(|server| world.crash(server));
        world.run_for(SECOND)?;
        (0..world.len()).for_each(|server| world.restart(server));
    }
    if !world.run_while(ANSWERED_WITHIN_US, |world| world.in_flight() > 0)? {
        return Err(Violation::new("blocked calls end", format!("{} do not", world.in_flight())));
    }
    if row.snapshots {
        world.run_for(SECOND)?;
        check_log_size(world)?;
    }
    Ok(())
}

/// A fresh client: half appends, the rest reads; with random keys also a few puts.
fn add_client(world: &mut World, row: Generic, round: u64) -> usize {
    let prefix = format!("r{round}-");
    let (keys, puts) = match row.random_keys {
        true => (Keys::Shared(prefix, row.clients as u64), 5),
        false => (Keys::Own(prefix), 0),
    };
    let workload = Workload {
        keys,
        in_flight: 2,
        think_us: (5 * MS, 25 * MS),
        appends: 50,
        puts,
        deletes: 0,
        padding_bytes_max: 0,
        noise: false,
    };
    let servers = (0..world.len()).collect();
    let ttl_ms = Limits::default().session_ttl_ms;
    world.add_client(Some(workload), |rng| Box::new(ClerkCaller::new(rng, servers, 120 * SECOND, ttl_ms)))
}
