//! The network: between servers, whatever may happen to datagrams; between clients and servers, the classic lab's figures.

use crate::{rng::Rng, time::MS, world::event::Server};

/// labrpc's `unreliable`: a request is late by less than this, in milliseconds.
pub(crate) const UNRELIABLE_DELAY_MS: u64 = 27;

/// labrpc's `unreliable`: a request gets lost with this probability, and a reply with the same.
pub(crate) const UNRELIABLE_LOSS: f64 = 0.1;

/// How messages between servers fare on a link that is up.
#[derive(Debug, Clone, Copy)]
pub struct Links {
    /// Delay, in microseconds, from and to.
    pub delay_us: (u64, u64),
    /// Lost.
    pub drop: f64,
    /// Arrives twice, at different times.
    pub duplicate: f64,
    /// Arrives later by up to `late_us`.
    pub late: f64,
    /// How much later.
    pub late_us: u64,
    /// Messages on one link keep their order, as on a connection.
    pub ordered: bool,
}

impl Links {
    /// A quiet local network.
    pub const GOOD: Links =
        Links { delay_us: (50, 400), drop: 0.0, duplicate: 0.0, late: 0.0, late_us: 0, ordered: true };
}

/// The network's state.
#[derive(Debug)]
pub(crate) struct Network {
    rng: Rng,
    pub(crate) links: Links,
    /// Whether clients' requests and replies get lost and delayed (labrpc's `unreliable`).
    pub(crate) unreliable: bool,
    /// A request that is reported as lost arrives all the same, seconds later.
    pub(crate) late_requests: f64,
    up: Vec<Vec<bool>>,
    /// How much longer messages take on a link, in microseconds.
    slower_us: Vec<Vec<u64>>,
    last_arrival: Vec<Vec<u64>>,
}

/// What becomes of a client's request.
pub(crate) enum Fate {
    /// It arrives after so long.
    Arrives { after: u64 },
    /// The client hears of a failure after `after`; it may arrive all the same after `late`.
    Fails { after: u64, late: Option<u64> },
}

impl Network {
    pub(crate) fn new(rng: Rng, servers: usize, links: Links, unreliable: bool) -> Network {
        Network {
            rng,
            links,
            unreliable,
            late_requests: 0.0,
            up: vec![vec![true; servers]; servers],
            slower_us: vec![vec![0; servers]; servers],
            last_arrival: vec![vec![0; servers]; servers],
        }
    }

    pub(crate) fn is_up(&self, from: Server, to: Server) -> bool {
        self.up[from][to]
    }

    pub(crate) fn set(&mut self, from: Server, to: Server, up: bool) {
        self.up[from][to] = up;
    }

    /// Messages that are sent from now on take so much longer.
    pub(crate) fn slow(&mut self, from: Server, to: Server, by_us: u64) {
        self.slower_us[from][to] = by_us;
    }

    /// All links are up.
    pub(crate) fn connect_all(&mut self) {
        self.up.iter_mut().flatten().for_each(|up| *up = true);
    }

    /// Servers reach exactly those of their own side.
    pub(crate) fn partition(&mut self, side: &[bool]) {
        for from in 0..side.len() {
            for to in 0..side.len() {
                self.up[from][to] = side[from] == side[to];
            }
        }
    }

    /// When copies of a message that is sent now arrive: none, one or two.
    pub(crate) fn arrivals(&mut self, now: u64, from: Server, to: Server) -> Vec<u64> {
        if !self.up[from][to] || self.rng.chance(self.links.drop) {
            return Vec::new();
        }
        let copies = if self.rng.chance(self.links.duplicate) { 2 } else { 1 };
        (0..copies).map(|_| self.arrival(now, from, to)).collect()
    }

    fn arrival(&mut self, now: u64, from: Server, to: Server) -> u64 {
        let mut at = now + self.slower_us[from][to] + self.rng.within(self.links.delay_us);
        if self.rng.chance(self.links.late) {
            at += self.rng.below(self.links.late_us + 1);
        }
        if self.links.ordered {
            at = at.max(self.last_arrival[from][to]);
            self.last_arrival[from][to] = at;
        }
        at
    }

    /// A client sends a request (labrpc: 0..26 ms of delay and a loss of 10 % if unreliable).
    pub(crate) fn request(&mut self) -> Fate {
        if !self.unreliable {
            return Fate::Arrives { after: self.rng.below(200) };
        }
        let after = self.rng.below(UNRELIABLE_DELAY_MS) * MS;
        if self.rng.chance(UNRELIABLE_LOSS) {
            let late = self.rng.chance(self.late_requests).then(|| after + self.rng.below(5_000 * MS));
            return Fate::Fails { after, late };
        }
        Fate::Arrives { after }
    }

    /// A server replies: after how long, and whether the reply arrives (labrpc: 10 % do not, if unreliable).
    pub(crate) fn reply(&mut self) -> (u64, bool) {
        (self.rng.below(200), !(self.unreliable && self.rng.chance(UNRELIABLE_LOSS)))
    }

    /// A client learns that a server is not there (labrpc: 0..99 ms).
    pub(crate) fn failure_after(&mut self) -> u64 {
        self.rng.below(100) * MS
    }
}
