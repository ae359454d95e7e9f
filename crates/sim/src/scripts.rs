//! Runs with a plot: what chance would need long to come upon.

mod figure_8;
mod late_round;
mod late_snapshot;
mod long_snapshot;

use bytes::Bytes;
use pontoon_kv::{Command, Refusal, Reply, Seq, SessionId};
use pontoon_replica::{Answer, NotExecuted, Request};

use crate::{
    check::Violation,
    client::PlainCaller,
    linearizability::Action,
    scenario::settle,
    time::{MS, SECOND},
    world::{Server, Setup, Traced, World},
};

/// With snapshots: the log may grow by so many bytes before it is trimmed.
const LOG_BYTES_MAX: u64 = 1_000;

/// A plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Calls that are blocked in a deposed leader end within a second after healing.
    BlockedCallsEnd,
    /// An expired session's old request is refused, not executed.
    ExpiredStaysExpired,
    /// Servers agree on which sessions have expired, whatever their clocks.
    ExpiryIsTheSameEverywhere,
    /// Figure 8 of the Raft paper: an entry of an earlier term on a majority is not committed by that.
    Figure8,
    /// An answer to an earlier read round does not count for a later one.
    LateRound,
    /// A snapshot that comes late does not take the state back.
    LateSnapshot,
    /// What is appended while a snapshot is on its way is still in the log when it has arrived.
    LongSnapshot,
}

impl Script {
    /// All of them.
    pub const ALL: [Script; 7] = [
        Script::BlockedCallsEnd,
        Script::ExpiredStaysExpired,
        Script::ExpiryIsTheSameEverywhere,
        Script::Figure8,
        Script::LateRound,
        Script::LateSnapshot,
        Script::LongSnapshot,
    ];

    /// Plays it.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn run(self, seed: u64, traced: Traced) -> Result<(), Violation> {
        let servers = if self == Script::Figure8 { 5 } else { 3 };
        let mut setup = Setup { traced, ..Setup::new(seed, servers) };
        setup.config.limits.session_ttl_ms = 5_000;
        if self == Script::Figure8 {
            // One entry a message: the old entry arrives before the new leader's own.
            setup.config.append_bytes_max = 1;
        }
        if matches!(self, Script::LateSnapshot | Script::LongSnapshot) {
            setup.config.log_bytes_max = Some(LOG_BYTES_MAX);
        }
        let mut world = World::new(setup);
        match self {
            Script::BlockedCallsEnd => blocked_calls_end(&mut world),
            Script::ExpiredStaysExpired => expired_stays_expired(&mut world),
            Script::ExpiryIsTheSameEverywhere => expiry_is_the_same_everywhere(&mut world),
            Script::Figure8 => figure_8::play(&mut world),
            Script::LateRound => late_round::play(&mut world),
            Script::LateSnapshot => late_snapshot::play(&mut world),
            Script::LongSnapshot => long_snapshot::play(&mut world),
        }?;
        settle(&mut world)
    }
}

fn plain_client(world: &mut World, server: Server) -> usize {
    world.add_client(None, |rng| Box::new(PlainCaller::new(rng, vec![server])))
}

fn leader(world: &mut World) -> Result<Server, Violation> {
    world.run_for(3 * SECOND)?;
    world.leader().ok_or_else(|| Violation::new("there is a leader", "none".to_string()))
}

/// Has a plain client of this server append so often to one value.
fn appends(world: &mut World, server: Server, count: u64) -> Result<(), Violation> {
    let client = plain_client(world, server);
    for number in 0..count {
        let token = format!("{client}.{number}{:-<60};", "");
        world.ask_for(client, "k", Action::Append(Bytes::from(token)))?;
    }
    Ok(())
}

/// A follower is cut off until it needs a snapshot, and connected again; the leader's connection stalls in the middle of the transfer.
fn send_snapshot_that_stalls(world: &mut World, leader: Server, lagging: Server) -> Result<(), Violation> {
    let side: Vec<bool> = (0..world.len()).map(|server| server == lagging).collect();
    world.partition(&side);
    appends(world, leader, 60)?;
    // It has been silent for a while: nothing of the log is left for it.
    world.run_for(2 * SECOND)?;
    appends(world, leader, 1)?;
    world.stall_transfers(leader, true);
    world.connect();
    match world.run_while(5 * SECOND, |world| world.transfers_of(leader) == 0)? {
        true => Ok(()),
        false => Err(Violation::new("the plot goes on", "no snapshot is on its way".to_string())),
    }
}

fn append(seq: u64, ack: u64, session: SessionId, token: &'static str) -> Request {
    let command =
        Command::Append { key: Bytes::from_static(b"k"), value: Bytes::from_static(token.as_bytes()) };
    Request::Once { session, seq: Seq(seq), ack: Seq(ack), command }
}

fn expect(found: Answer, expected: Answer) -> Result<(), Violation> {
    match found == expected {
        true => Ok(()),
        false => Err(Violation::new("an answer is as expected", format!("{found:?}, not {expected:?}"))),
    }
}

fn open(world: &mut World, server: Server) -> Result<SessionId, Violation> {
    match world.ask_server(server, Request::OpenSession)? {
        Answer::Opened(session) => Ok(session),
        other => Err(Violation::new("a session opens", format!("{other:?}"))),
    }
}

fn blocked_calls_end(world: &mut World) -> Result<(), Violation> {
    let old = leader(world)?;
    let client = plain_client(world, old);
    let other = plain_client(world, (old + 1) % world.len());
    world.ask_for(client, "first", Action::Put(Bytes::from_static(b"x;")))?;
    let side: Vec<bool> = (0..world.len()).map(|server| server == old).collect();
    world.partition(&side);
    for number in 0..100 {
        let key = Bytes::from(format!("k{number}"));
        world.call(client, &key, Action::Append(Bytes::from(format!("{number};"))));
    }
    world.run_for(2 * SECOND)?;
    world.ask_for(other, "elsewhere", Action::Put(Bytes::from_static(b"y;")))?;
    world.connect();
    if world.run_while(SECOND, |world| world.in_flight() > 0)? {
        return Ok(());
    }
    Err(Violation::new("blocked calls end", format!("{} do not, a second after healing", world.in_flight())))
}

fn expired_stays_expired(world: &mut World) -> Result<(), Violation> {
    let server = leader(world)?;
    let session = open(world, server)?;
    let executed = world.ask_server(server, append(1, 1, session, "once;"))?;
    expect(executed, Answer::Reply(Reply::Integer(5)))?;
    world.run_for(20 * SECOND)?;
    // Time passes for the cluster with its entries.
    let client = plain_client(world, server);
    world.ask_for(client, "other", Action::Put(Bytes::from_static(b"x;")))?;
    let again = world.ask_server(server, append(1, 1, session, "once;"))?;
    expect(again, Answer::NotExecuted(NotExecuted::Refused(Refusal::SessionUnknown)))
}

fn expiry_is_the_same_everywhere(world: &mut World) -> Result<(), Violation> {
    let server = leader(world)?;
    let session = open(world, server)?;
    for seq in 1..20 {
        let asked = (server + seq as usize) % world.len();
        let answer = world.ask_server(asked, append(seq, seq, session, "x;"))?;
        expect(answer, Answer::Reply(Reply::Integer(2 * seq as i64)))?;
        world.run_for(500 * MS)?;
    }
    Ok(())
}
