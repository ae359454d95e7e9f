//! A snapshot that is long on its way while clients write more than the log may hold. The follower goes on from the log when it has
//! arrived. Were the log trimmed meanwhile as if nobody needed it, the follower would need another snapshot, and so on for ever.

use super::{LOG_BYTES_MAX, appends, leader, send_snapshot_that_stalls};
use crate::{check::Violation, time::SECOND, world::World};

pub(super) fn play(world: &mut World) -> Result<(), Violation> {
    let first = leader(world)?;
    let lagging = (first + 1) % world.len();
    send_snapshot_that_stalls(world, first, lagging)?;
    let index = |world: &World, server| world.status(server).map_or(0, |status| status.applied.0);
    let sent = index(world, first);
    while world.log_bytes(first) < 2 * LOG_BYTES_MAX {
        appends(world, first, 1)?;
        if index(world, first) > sent + 100 {
            return Err(Violation::new("the log keeps what a follower needs", "it is trimmed".to_string()));
        }
    }
    world.stall_transfers(first, false);
    let behind = move |world: &World| index(world, lagging) < index(world, first);
    if !world.run_while(5 * SECOND, behind)? {
        return Err(Violation::new("the follower catches up", "it does not".to_string()));
    }
    match world.counts().snapshots {
        1 => Ok(()),
        other => Err(Violation::new("one snapshot is enough", format!("there were {other}"))),
    }
}
