//! Requests of all kinds on keys and sessions that no history tells of: what they come to shows in the states' equality.

use bytes::Bytes;
use pontoon_kv::{Command, Index, SessionId, SetCondition};
use pontoon_replica::Request;

use super::{World, clients::NOISE};
use crate::rng::Rng;

impl World {
    /// Throws some request at some server.
    pub(super) fn make_noise(&mut self) {
        let server = self.rng.below(self.len() as u64) as usize;
        let last = self.servers[server].disk.state.index();
        let request = request(&mut self.rng, last);
        self.on_request(server, NOISE, 0, request, true);
    }
}

fn request(rng: &mut Rng, last: Index) -> Request {
    // Sessions are named for the entries that opened them: some of these exist.
    let session = SessionId(rng.within((1, last.0 + 1)) << 16 | rng.below(2));
    match rng.below(8) {
        0 => Request::OpenSession,
        1 => Request::KeepAliveSession(session),
        2 if rng.chance(0.05) => Request::CloseSession(session),
        _ => Request::Plain(command(rng)),
    }
}

fn command(rng: &mut Rng) -> Command {
    let key = |rng: &mut Rng| Bytes::from(format!("noise-{}", rng.below(5)));
    let value = |rng: &mut Rng| Bytes::from(vec![b'5'; rng.below(20) as usize]);
    match rng.below(8) {
        0 => Command::IncrBy { key: key(rng), delta: rng.next() as i64 },
        1 => Command::MSet { pairs: (0..rng.below(4)).map(|_| (key(rng), value(rng))).collect() },
        2 => Command::Del { keys: (0..rng.below(3)).map(|_| key(rng)).collect() },
        3 => Command::MGet { keys: (0..rng.below(3)).map(|_| key(rng)).collect() },
        4 => Command::Exists { keys: vec![key(rng)] },
        5 => {
            let condition =
                *rng.pick(&[SetCondition::Always, SetCondition::IfAbsent, SetCondition::IfPresent]);
            Command::Set { key: key(rng), value: value(rng), condition, return_old: rng.chance(0.5) }
        }
        6 => Command::Append { key: key(rng), value: Bytes::from(vec![b'x'; rng.below(9_000) as usize]) },
        _ => {
            let commands = (0..rng.below(4)).map(|_| match rng.below(2) {
                0 => Command::Get { key: key(rng) },
                _ => Command::IncrBy { key: key(rng), delta: 1 },
            });
            Command::Batch { commands: commands.collect() }
        }
    }
}
