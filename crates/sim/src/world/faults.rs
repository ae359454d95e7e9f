//! What goes wrong, and when: drawn from the seed, each fault passing by itself or ended by [`World::heal`].

use std::collections::BTreeMap;

use super::{Links, Server, World, event::Event, failing::DiskFault, node};
use crate::{
    rng::Rng,
    time::{MS, SECOND},
};

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A process ends between any two things that it does; it starts again within seconds.
    Crash,
    /// All end at once (power failure).
    CrashAll,
    /// A process is told to end, and starts again.
    Stop,
    /// A process stands still for up to five seconds.
    Pause,
    /// The servers fall into two sides.
    Partition,
    /// The leader alone is cut off.
    IsolateLeader,
    /// One direction of one link is cut.
    OneWay,
    /// A link goes up and down.
    Flap,
    /// Messages between servers are lost, doubled, late and out of order.
    BadLinks,
    /// A disk takes long to sync.
    SlowDisk,
    /// A disk has no space left: its server stops, and starts again once there is some.
    FullDisk,
    /// A disk's syncs fail: its server stops, and starts again once they succeed.
    FailingDisk,
    /// A bit of a stored record flips. A majority of the disks always stays sound.
    BitFlip,
    /// A server's clock leaps ahead, or stands still.
    ClockJump,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 14] = [
        FaultKind::Crash,
        FaultKind::CrashAll,
        FaultKind::Stop,
        FaultKind::Pause,
        FaultKind::Partition,
        FaultKind::IsolateLeader,
        FaultKind::OneWay,
        FaultKind::Flap,
        FaultKind::BadLinks,
        FaultKind::SlowDisk,
        FaultKind::FullDisk,
        FaultKind::FailingDisk,
        FaultKind::BitFlip,
        FaultKind::ClockJump,
    ];

    /// As in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Crash => "crash",
            FaultKind::CrashAll => "crash-all",
            FaultKind::Stop => "stop",
            FaultKind::Pause => "pause",
            FaultKind::Partition => "partition",
            FaultKind::IsolateLeader => "isolate-leader",
            FaultKind::OneWay => "one-way",
            FaultKind::Flap => "flap",
            FaultKind::BadLinks => "bad-links",
            FaultKind::SlowDisk => "slow-disk",
            FaultKind::FullDisk => "full-disk",
            FaultKind::FailingDisk => "failing-disk",
            FaultKind::BitFlip => "bit-flip",
            FaultKind::ClockJump => "clock-jump",
        }
    }
}

/// Which faults come, and how often.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    /// Of these kinds, each as often as the others.
    pub kinds: Vec<FaultKind>,
    /// Between two faults, in microseconds, from and to.
    pub every_us: (u64, u64),
    /// How long a passing fault lasts, in microseconds, from and to.
    pub lasting_us: (u64, u64),
}

/// The faults of a run.
#[derive(Debug)]
pub(crate) struct Faults {
    rng: Rng,
    plan: Option<FaultPlan>,
    passing: BTreeMap<u64, Passing>,
    next: u64,
}

/// A fault that ends.
#[derive(Debug)]
enum Passing {
    Cut(Vec<(Server, Server)>),
    Flapping { from: Server, to: Server, times: u64 },
    BadLinks(Links),
    SlowDisk(Server, (u64, u64)),
    FailingDisk(Server),
}

impl Faults {
    pub(super) fn new(rng: Rng) -> Faults {
        Faults { rng, plan: None, passing: BTreeMap::new(), next: 0 }
    }
}

impl World {
    /// Faults come from now on, until [`World::heal`].
    pub fn plan_faults(&mut self, plan: FaultPlan) {
        if !plan.kinds.is_empty() {
            let first = self.faults.rng.within(plan.every_us);
            self.faults.plan = Some(plan);
            self.after(first, Event::Fault);
        }
    }

    /// Everything is well from now on: links are up and good, every server with a sound disk runs, disks and processors are fast.
    pub fn heal(&mut self) {
        self.trace.line(self.now, format_args!("everything heals"));
        self.network.connect_all();
        self.setup.hesitation_us_max = MS;
        self.restore_or_retire();
        self.end_faults();
        self.network.links = Links::GOOD;
        self.network.unreliable = false;
        self.network.late_requests = 0.0;
    }

    /// No more planned faults come; every server runs, on a disk as at the start. The network stays as it is.
    pub fn end_faults(&mut self) {
        self.faults.plan = None;
        self.faults.passing.clear();
        for server in 0..self.len() {
            self.servers[server].fuse = None;
            self.servers[server].sync_us = self.setup.sync_us;
            self.servers[server].disk_fault = None;
            self.servers[server].clock_stands_until = 0;
            self.resume(server);
            self.restart(server);
        }
    }

    /// Servers reach exactly those of their own side; clients still reach all.
    pub fn partition(&mut self, side: &[bool]) {
        self.trace.line(self.now, format_args!("partition {side:?}"));
        self.network.partition(side);
    }

    /// All links are up again.
    pub fn connect(&mut self) {
        self.trace.line(self.now, format_args!("all links are up"));
        self.network.connect_all();
    }

    /// Cuts or mends one direction of a link.
    pub fn set_link(&mut self, from: Server, to: Server, up: bool) {
        self.trace.line(self.now, format_args!("link n{}->n{} up: {up}", node(from), node(to)));
        self.network.set(from, to, up);
    }

    /// Messages on a link take so much longer from now on, in microseconds.
    pub fn slow_link(&mut self, from: Server, to: Server, by_us: u64) {
        self.trace.line(self.now, format_args!("link n{}->n{} is slower by {by_us}", node(from), node(to)));
        self.network.slow(from, to, by_us);
    }

    /// Requests that clients take for lost arrive all the same with this probability, seconds later.
    pub fn set_late_requests(&mut self, probability: f64) {
        self.network.late_requests = probability;
    }

    pub(super) fn on_fault(&mut self) {
        let Some(plan) = self.faults.plan.clone() else { return };
        let kind = *self.faults.rng.pick(&plan.kinds);
        let lasting = self.faults.rng.within(plan.lasting_us);
        *self.counts.faults.entry(kind.name()).or_default() += 1;
        self.trace.line(self.now, format_args!("fault: {} for {} ms", kind.name(), lasting / MS));
        self.strike(kind, lasting);
        let next = self.faults.rng.within(plan.every_us);
        self.after(next, Event::Fault);
    }

    fn any_server(&mut self) -> Server {
        let all = self.len() as u64;
        // The leader more often than the others: it has most to lose.
        match self.leader() {
            Some(leader) if self.faults.rng.chance(0.4) => leader,
            _ => self.faults.rng.below(all) as usize,
        }
    }

    fn strike(&mut self, kind: FaultKind, lasting: u64) {
        let server = self.any_server();
        let other = (server + 1 + self.faults.rng.below(self.len() as u64 - 1) as usize) % self.len();
        match kind {
            FaultKind::Crash => self.servers[server].fuse = Some((self.faults.rng.below(40), lasting)),
            FaultKind::CrashAll => {
                for server in 0..self.len() {
                    self.crash(server);
                    let back = lasting / 2 + self.faults.rng.below(lasting / 2);
                    self.after(back, Event::Restart(server));
                }
            }
            FaultKind::Stop => self.stop(server),
            FaultKind::Pause => self.pause(server, (lasting * 2).min(5 * SECOND)),
            FaultKind::Partition => {
                let side: Vec<bool> = (0..self.len()).map(|_| self.faults.rng.chance(0.5)).collect();
                self.cut(|from, to| side[from] != side[to], lasting);
            }
            FaultKind::IsolateLeader => self.cut(|from, to| (from == server) != (to == server), lasting),
            FaultKind::OneWay => self.cut(|from, to| (from, to) == (server, other), lasting),
            FaultKind::Flap => {
                let times = 2 * self.faults.rng.below(10) + 1;
                self.pass(Passing::Flapping { from: server, to: other, times }, 0);
            }
            FaultKind::BadLinks => {
                let before = self.network.links;
                self.network.links = bad_links(&mut self.faults.rng);
                self.pass(Passing::BadLinks(before), lasting);
            }
            FaultKind::SlowDisk => {
                let before = self.servers[server].sync_us;
                let slowest = self.faults.rng.within((20 * MS, SECOND));
                self.servers[server].sync_us = (MS, slowest);
                self.pass(Passing::SlowDisk(server, before), lasting);
            }
            FaultKind::FullDisk | FaultKind::FailingDisk => {
                let full = kind == FaultKind::FullDisk;
                let fault = if full { DiskFault::Full } else { DiskFault::Failing };
                self.servers[server].disk_fault = Some(fault);
                self.pass(Passing::FailingDisk(server), lasting);
            }
            FaultKind::BitFlip => self.flip_bit(server),
            FaultKind::ClockJump => self.jump_clock(server, (lasting * 2).min(5 * SECOND)),
        }
    }

    /// Cuts the links of which this is true.
    fn cut(&mut self, which: impl Fn(Server, Server) -> bool, lasting: u64) {
        let all = self.len();
        let links = (0..all).flat_map(|from| (0..all).map(move |to| (from, to)));
        let cut: Vec<(Server, Server)> = links.filter(|(from, to)| which(*from, *to)).collect();
        for (from, to) in &cut {
            self.network.set(*from, *to, false);
        }
        self.trace.line(self.now, format_args!("cut (from 0): {cut:?}"));
        self.pass(Passing::Cut(cut), lasting);
    }

    fn pass(&mut self, passing: Passing, lasting: u64) {
        let number = self.faults.next;
        self.faults.next += 1;
        self.faults.passing.insert(number, passing);
        self.after(lasting, Event::FaultEnds(number));
    }

    pub(super) fn on_fault_ends(&mut self, number: u64) {
        match self.faults.passing.remove(&number) {
            None => {}
            Some(Passing::Cut(links)) => {
                links.into_iter().for_each(|(from, to)| self.network.set(from, to, true))
            }
            Some(Passing::BadLinks(before)) => self.network.links = before,
            Some(Passing::SlowDisk(server, before)) => self.servers[server].sync_us = before,
            Some(Passing::FailingDisk(server)) => {
                self.servers[server].disk_fault = None;
                self.restart(server);
            }
            Some(Passing::Flapping { from, to, times }) => {
                self.network.set(from, to, times.is_multiple_of(2));
                if times > 0 {
                    let next = self.faults.rng.within((5 * MS, 300 * MS));
                    self.pass(Passing::Flapping { from, to, times: times - 1 }, next);
                }
            }
        }
    }
}

fn bad_links(rng: &mut Rng) -> Links {
    let up_to = |rng: &mut Rng, percent: u64| rng.below(percent + 1) as f64 / 100.0;
    Links {
        delay_us: (100, MS + rng.below(30 * MS)),
        drop: up_to(rng, 20),
        duplicate: up_to(rng, 10),
        late: up_to(rng, 10),
        late_us: rng.below(3 * SECOND),
        ordered: rng.chance(0.2),
    }
}
