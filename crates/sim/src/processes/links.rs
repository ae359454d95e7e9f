//! What the network is like: which servers hear which, and what gets lost.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;

use super::tally::Tally;
use crate::{
    rng::Rng,
    world::{Server, UNRELIABLE_DELAY_MS, UNRELIABLE_LOSS},
};

/// The network of one cluster, as its proxies ask for it.
#[derive(Debug)]
pub(super) struct Links {
    /// Whether requests, replies and messages are delayed and get lost.
    pub(super) unreliable: bool,
    /// `up[from][to]`: whether `to` hears `from`.
    up: Vec<Vec<watch::Sender<bool>>>,
    rng: Mutex<Rng>,
    tally: Arc<Tally>,
}

/// What the network does to one request, reply or message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It goes on after so long.
    Late(Duration),
    /// It gets lost.
    Lost,
}

impl Links {
    pub(super) fn new(servers: usize, unreliable: bool, rng: Rng, tally: Arc<Tally>) -> Links {
        let all = || (0..servers).map(|_| watch::Sender::new(true)).collect();
        Links { unreliable, up: (0..servers).map(|_| all()).collect(), rng: Mutex::new(rng), tally }
    }

    /// Servers hear exactly those of their own side.
    pub(super) fn partition(&self, side: &[bool]) {
        self.tally.part();
        for (from, row) in self.up.iter().enumerate() {
            for (to, link) in row.iter().enumerate() {
                link.send_replace(side[from] == side[to]);
            }
        }
    }

    /// Nobody hears this server any more; whom it hears stays as it is.
    pub(super) fn mute(&self, from: Server) {
        for link in &self.up[from] {
            link.send_replace(false);
        }
    }

    /// All hear all.
    pub(super) fn connect(&self) {
        for link in self.up.iter().flatten() {
            link.send_replace(true);
        }
    }

    /// Whether `to` hears `from`, now and later.
    pub(super) fn link(&self, from: Server, to: Server) -> Option<watch::Receiver<bool>> {
        Some(self.up.get(from)?.get(to)?.subscribe())
    }

    /// labrpc's figures for a request: late, or lost before it is delivered. Messages between servers fare alike.
    pub(super) fn request(&self) -> Fate {
        let mut rng = self.rng();
        let after = Duration::from_millis(rng.below(UNRELIABLE_DELAY_MS));
        let lost = rng.chance(UNRELIABLE_LOSS);
        drop(rng);
        if lost { self.lose() } else { Fate::Late(after) }
    }

    /// labrpc's figures for a reply: lost after the request was executed, or not late at all.
    pub(super) fn reply(&self) -> Fate {
        let lost = self.rng().chance(UNRELIABLE_LOSS);
        if lost { self.lose() } else { Fate::Late(Duration::ZERO) }
    }

    /// A fair coin.
    pub(super) fn coin(&self) -> bool {
        self.rng().chance(0.5)
    }

    /// Brings these into any order.
    pub(super) fn shuffle<T>(&self, what: &mut [T]) {
        self.rng().shuffle(what);
    }

    /// Chance of its own for whoever needs more of it.
    pub(super) fn fork(&self) -> Rng {
        self.rng().fork()
    }

    fn lose(&self) -> Fate {
        self.tally.lose();
        Fate::Lost
    }

    fn rng(&self) -> MutexGuard<'_, Rng> {
        self.rng.lock().expect("no panic holds this lock")
    }
}
