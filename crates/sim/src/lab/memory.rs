//! The memory rows of the key-value server (MIT 6.5840, lab 2 of 2024), on three servers.
//!
//! The original measures the heap. Here everything that may grow is counted instead: the state, with its sessions and their
//! records, and the entries of the log that memory holds ([`World::held_bytes`]); nothing else may be left over at rest
//! ([`settle`]). The limits are the original's.

use bytes::Bytes;
use pontoon_kv::{Limits, Reply};

use super::Done;
use crate::{
    check::Violation,
    client::{ClerkCaller, Ending, Op},
    history::command,
    linearizability::Action,
    scenario::settle,
    time::SECOND,
    world::{ClientId, Setup, Traced, World},
};

const MIB: u64 = 1 << 20;

/// Clients that put a value each.
const MANY_CLIENTS: usize = 100_000;

/// Of these, so many ask at once.
const AT_ONCE: usize = 250;

/// The log is trimmed to about this; its end in memory is as large at most.
const LOG_BYTES_MAX: u64 = 4 << 20;

/// A row, by its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryRow {
    /// A value of 10 MiB that two clerks get, and that gives way to a short one, is not kept.
    Get2,
    /// Nor one that two clerks put.
    Put2,
    /// Two appends of 10 MiB are not kept beside the value that they make.
    Append2,
    /// 100,000 clerks that put once each cost 200 bytes each.
    PutManyClients,
    /// That get once each: nothing.
    GetManyClients,
    /// 1,000 appends of 1,000 bytes cost what they append.
    ManyAppends,
}

impl MemoryRow {
    /// All rows, in the original's order.
    pub const ALL: [MemoryRow; 6] = [
        MemoryRow::Get2,
        MemoryRow::Put2,
        MemoryRow::Append2,
        MemoryRow::PutManyClients,
        MemoryRow::GetManyClients,
        MemoryRow::ManyAppends,
    ];

    /// As in tables and on the command line.
    pub fn name(self) -> String {
        format!("Memory{self:?}")
    }

    /// Runs the row on a seed.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn run(self, seed: u64, traced: Traced) -> Result<Done, Violation> {
        let mut setup = Setup { traced, ..Setup::new(seed, 3) };
        setup.config.log_bytes_max = Some(LOG_BYTES_MAX);
        setup.config.window_bytes_max = LOG_BYTES_MAX;
        setup.config.limits.value_bytes_max = 32 << 20;
        // Room for every clerk, and for those around them.
        setup.config.limits.sessions_max = 2 * MANY_CLIENTS as u32;
        let mut world = World::new(setup);
        match self {
            MemoryRow::Get2 => large_value_goes(&mut world, Action::Get),
            MemoryRow::Put2 => large_value_goes(&mut world, Action::Put(large())),
            MemoryRow::Append2 => large_appends(&mut world),
            MemoryRow::PutManyClients => {
                many_clients(&mut world, &Action::Put(Bytes::from(vec![b'v'; 1_000])), 200)
            }
            MemoryRow::GetManyClients => many_clients(&mut world, &Action::Get, 10),
            MemoryRow::ManyAppends => many_appends(&mut world),
        }?;
        settle(&mut world)?;
        Ok(Done::of(&world))
    }
}

fn large() -> Bytes {
    Bytes::from(vec![b'x'; 10 << 20])
}

fn clerk(world: &mut World) -> ClientId {
    let all = (0..world.len()).collect();
    let ttl_ms = Limits::default().session_ttl_ms;
    world.add_client(None, |rng| Box::new(ClerkCaller::new(rng, all, 120 * SECOND, ttl_ms)))
}

/// Each of these asks this of one key, all at once, past the history (whose values are unique); all are served.
fn ask(world: &mut World, clerks: &[ClientId], action: &Action) -> Result<(), Violation> {
    let command = command(&Bytes::from_static(b"k"), action);
    let asked: Vec<(ClientId, Op)> =
        clerks.iter().map(|clerk| (*clerk, world.submit(*clerk, command.clone()))).collect();
    let pending = |world: &World| asked.iter().any(|(clerk, op)| world.ending(*clerk, *op).is_none());
    world.run_while(10 * SECOND, pending)?;
    for (clerk, op) in asked {
        match world.ending(clerk, op) {
            Some(Ending::Reply(Reply::Ok | Reply::Bytes(_) | Reply::Integer(_))) => {}
            other => return Err(Violation::new("a clerk is served", format!("{other:?}"))),
        }
    }
    Ok(())
}

/// At rest, no server holds more than this.
fn hold_at_most(world: &mut World, limit: u64) -> Result<(), Violation> {
    world.run_for(SECOND)?;
    for server in 0..world.len() {
        let bytes = world.held_bytes(server);
        if bytes > limit {
            let what = format!("server {server} holds {bytes} bytes, and may {limit}");
            return Err(Violation::new("bounded memory", what));
        }
    }
    Ok(())
}

/// Two clerks deal with a value of 10 MiB; once it has given way to a short one, less than that is held.
fn large_value_goes(world: &mut World, action: Action) -> Result<(), Violation> {
    let clerks = [clerk(world), clerk(world)];
    ask(world, &clerks[..1], &Action::Put(large()))?;
    for clerk in clerks {
        ask(world, &[clerk], &action)?;
    }
    // The log lets the large entries go with what is written next.
    for _ in 0..2 {
        ask(world, &clerks[..1], &Action::Put(Bytes::from_static(b"0")))?;
    }
    hold_at_most(world, 10 * MIB - 1)
}

fn large_appends(world: &mut World) -> Result<(), Violation> {
    for clerk in [clerk(world), clerk(world)] {
        ask(world, &[clerk], &Action::Append(large()))?;
    }
    hold_at_most(world, 30 * MIB)
}

/// So many clerks ask once each; each may cost so many bytes.
fn many_clients(world: &mut World, action: &Action, bytes_each: u64) -> Result<(), Violation> {
    let first = clerk(world);
    ask(world, &[first], &Action::Put(Bytes::from(vec![b'v'; 1_000])))?;
    world.run_for(SECOND)?;
    let before: u64 = (0..world.len()).map(|server| world.held_bytes(server)).max().unwrap_or_default();
    for _ in 0..MANY_CLIENTS / AT_ONCE {
        let clerks: Vec<ClientId> = (0..AT_ONCE).map(|_| clerk(world)).collect();
        ask(world, &clerks, action)?;
    }
    hold_at_most(world, before + bytes_each * MANY_CLIENTS as u64)
}

fn many_appends(world: &mut World) -> Result<(), Violation> {
    let clerk = clerk(world);
    for number in (0..26).cycle().take(1_000) {
        ask(world, &[clerk], &Action::Append(Bytes::from(vec![b'a' + number; 1_000])))?;
    }
    hold_at_most(world, 3_000_000)
}
