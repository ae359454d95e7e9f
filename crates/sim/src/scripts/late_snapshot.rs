//! A snapshot that its receiver has overtaken: the leader's connection stalls in the middle of the transfer, another leads, and
//! brings the follower further than that snapshot. When the rest of it arrives, the state must not go back.

use bytes::Bytes;

use super::{leader, plain_client};
use crate::{
    check::Violation,
    linearizability::Action,
    time::{MS, SECOND},
    world::{Server, World},
};

pub(super) fn play(world: &mut World) -> Result<(), Violation> {
    let first = leader(world)?;
    let (heir, lagging) = ((first + 1) % world.len(), (first + 2) % world.len());
    let side: Vec<bool> = (0..world.len()).map(|server| server == lagging).collect();
    world.partition(&side);
    appends(world, first, 40)?;
    world.run_for(SECOND)?;
    world.stall_transfers(first, true);
    world.connect();
    if !world.run_while(5 * SECOND, |world| world.transfers_of(first) == 0)? {
        return Err(Violation::new("the plot goes on", "no snapshot is on its way".to_string()));
    }
    // Its process stands still; what it has sent is on its way all the same.
    world.pause(first, 30 * SECOND);
    let caught_up = |world: &World| world.counts().snapshots > 0;
    if !world.run_while(10 * SECOND, |world| !caught_up(world))? {
        return Err(Violation::new("the plot goes on", "the other does not send a snapshot".to_string()));
    }
    appends(world, heir, 10)?;
    world.stall_transfers(first, false);
    world.run_for(500 * MS)?;
    appends(world, lagging, 1)
}

fn appends(world: &mut World, server: Server, count: u64) -> Result<(), Violation> {
    let client = plain_client(world, server);
    for number in 0..count {
        let token = format!("{client}.{number}{:-<60};", "");
        world.ask_for(client, "k", Action::Append(Bytes::from(token)))?;
    }
    Ok(())
}
