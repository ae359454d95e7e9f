//! A snapshot that its receiver has overtaken: the leader's connection stalls in the middle of the transfer, another leads, and
//! brings the follower further than that snapshot. When the rest of it arrives, the state must not go back.

use super::{appends, leader, send_snapshot_that_stalls};
use crate::{
    check::Violation,
    time::{MS, SECOND},
    world::World,
};

pub(super) fn play(world: &mut World) -> Result<(), Violation> {
    let first = leader(world)?;
    let (heir, lagging) = ((first + 1) % world.len(), (first + 2) % world.len());
    send_snapshot_that_stalls(world, first, lagging)?;
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
