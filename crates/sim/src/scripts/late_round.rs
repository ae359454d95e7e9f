//! An answer to an earlier question (bug 22 of the list): a follower asks its leader how far the log is committed, and asks again
//! when no answer comes. In between a write is acknowledged. The first answer, which comes late, must not count for the second
//! question: the read would not see the write.

use bytes::Bytes;

use super::{leader, plain_client};
use crate::{
    check::Violation,
    linearizability::Action,
    time::{MS, SECOND},
    world::World,
};

/// Longer than a follower waits before it asks again, shorter than it waits for its leader.
const LATE_US: u64 = 300 * MS;

pub(super) fn play(world: &mut World) -> Result<(), Violation> {
    let key = Bytes::from_static(b"k");
    let asked = leader(world)?;
    let follower = (asked + 1) % world.len();
    let writer = plain_client(world, asked);
    let [early, late] = [0; 2].map(|_| plain_client(world, follower));
    world.ask_for(writer, "k", Action::Put(Bytes::from_static(b"old;")))?;
    world.run_for(SECOND)?;

    world.slow_link(asked, follower, LATE_US);
    world.call(early, &key, Action::Get);
    world.run_for(10 * MS)?;
    // What is on its way arrives; nothing else does.
    world.set_link(asked, follower, false);
    world.ask_for(writer, "k", Action::Put(Bytes::from_static(b"new;")))?;
    world.call(late, &key, Action::Get);
    world.run_for(LATE_US + 20 * MS)?;
    world.slow_link(asked, follower, 0);
    world.connect();
    world.run_while(10 * SECOND, |world| world.in_flight() > 0).map(drop)
}
