//! Raft paper, figure 8: the leader of term 2 replicates an entry to a minority; another is elected and appends its own where
//! that one is; the first leads again and brings its old entry to a majority. It must not take it for committed: the other may
//! still win, and replace it.

use bytes::Bytes;
use pontoon_replica::Role;

use super::{leader, plain_client};
use crate::{
    check::Violation,
    linearizability::Action,
    time::{MS, SECOND},
    world::{Server, World},
};

/// The plot goes on in steps of this, in microseconds: shorter than a message takes.
const STEP_US: u64 = 10;

pub(super) fn play(world: &mut World) -> Result<(), Violation> {
    let (pair, trio) = old_entry_on_a_minority(world)?;
    let rival = rival_leads_unheard(world, &trio)?;
    let old = world.log_position(pair[0]).0;
    let rest: Vec<Server> = trio.into_iter().filter(|server| *server != rival).collect();
    old_entry_on_a_majority(world, &pair, rival, &rest, old)?;
    // The rival has the votes of those whose last entry is older than its own.
    let side: Vec<bool> = (0..world.len()).map(|server| pair.contains(&server)).collect();
    world.partition(&side);
    until(world, 10 * SECOND, |world| leads(world, rival)).map(drop)
}

/// Splits two from three; the two have an entry that the three have not.
fn old_entry_on_a_minority(world: &mut World) -> Result<(Vec<Server>, Vec<Server>), Violation> {
    let first = leader(world)?;
    let client = plain_client(world, first);
    world.ask_for(client, "k", Action::Put(Bytes::from_static(b"first;")))?;
    world.run_for(SECOND)?;
    let pair = vec![first, (first + 1) % world.len()];
    let side: Vec<bool> = (0..world.len()).map(|server| pair.contains(&server)).collect();
    world.partition(&side);
    let old = world.log_position(first).0 + 1;
    world.call(client, &Bytes::from_static(b"k"), Action::Append(Bytes::from_static(b"old;")));
    until(world, SECOND, |world| pair.iter().all(|server| world.log_position(*server).0 >= old))?;
    let trio = (0..world.len()).filter(|server| !pair.contains(server)).collect();
    Ok((pair, trio))
}

/// One of the three is elected and heard by nobody: its first entry, where the old one is with the pair, stays with it.
fn rival_leads_unheard(world: &mut World, trio: &[Server]) -> Result<Server, Violation> {
    let term = trio.iter().map(|server| world.vote(*server).0).max().expect("there are three");
    let voted = |world: &World| {
        let votes = trio.iter().map(|server| (server, world.vote(*server)));
        votes
            .filter(|(voter, (in_term, to))| *in_term > term && *to != Some(**voter))
            .find_map(|(_, (_, to))| to)
    };
    until(world, 5 * SECOND, |world| voted(world).is_some())?;
    let rival = voted(world).expect("it was just so");
    set_links(world, |from, _| from == rival, false);
    until(world, SECOND, |world| leads(world, rival))?;
    world.run_for(20 * MS)?;
    set_links(world, |from, to| from == rival || to == rival, false);
    Ok(rival)
}

/// One of the pair leads the four without the rival, and its old entry reaches a third disk; its own first entry does not.
fn old_entry_on_a_majority(
    world: &mut World,
    pair: &[Server],
    rival: Server,
    rest: &[Server],
    old: u64,
) -> Result<(), Violation> {
    set_links(world, |from, to| from != rival && to != rival, true);
    until(world, 10 * SECOND, |world| rest.iter().any(|server| world.log_position(*server).0 >= old))?;
    set_links(world, |from, to| pair.contains(&from) && rest.contains(&to), false);
    world.run_for(10 * MS)
}

fn leads(world: &World, server: Server) -> bool {
    world.status(server).is_some_and(|status| status.role == Role::Leader)
}

fn set_links(world: &mut World, which: impl Fn(Server, Server) -> bool, up: bool) {
    for from in 0..world.len() {
        for to in (0..world.len()).filter(|to| *to != from && which(from, *to)) {
            world.set_link(from, to, up);
        }
    }
}

/// Lets things happen step by step until this is so.
fn until(world: &mut World, limit_us: u64, so: impl Fn(&World) -> bool) -> Result<(), Violation> {
    let end = world.now() + limit_us;
    while !so(world) {
        if world.now() >= end {
            return Err(Violation::new("the plot goes on", "what it waits for does not come".to_string()));
        }
        world.run_for(STEP_US)?;
    }
    Ok(())
}
