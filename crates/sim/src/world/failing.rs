//! Disks that fail, and what becomes of their servers: they stop at once, as the real driver does (`Fatal`), and are started
//! again, by whoever watches over them. A server whose disk is damaged refuses to start, or stops whenever it reads the damage.

use bytes::Bytes;
use pontoon_kv::{MemStore, Reader};

use super::{Damage, Server, World, event::Event, node};
use crate::time::{MS, SECOND};

/// How a disk fails, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// Nothing more can be written.
    Full,
    /// What is written cannot be synced: nobody knows how much of it is there.
    Failing,
}

impl World {
    /// The server cannot go on: nothing that its disk does not have is acknowledged.
    pub(super) fn fail_stop(&mut self, server: Server, why: &str) {
        self.trace.line(self.now, format_args!("n{} stops: {why}", node(server)));
        self.counts.fail_stops += 1;
        self.crash(server);
        let again = self.servers[server].rng.within((10 * MS, SECOND));
        self.after(again, Event::Restart(server));
    }

    /// A bit of what the server's disk holds is not what was written any more. A majority of the disks always stays sound.
    pub(super) fn flip_bit(&mut self, server: Server) {
        let damaged = self.servers.iter().filter(|machinery| machinery.disk.damage.is_some()).count();
        if 2 * (damaged + 1) >= self.len() || self.servers[server].disk.damage.is_some() {
            return;
        }
        let machinery = &mut self.servers[server];
        let Some(damage) = machinery.disk.flip(&mut machinery.rng) else { return };
        self.trace.line(self.now, format_args!("n{}'s disk is damaged: {damage:?}", node(server)));
        if let (Damage::Value(value), Some(life)) = (damage, &mut machinery.life) {
            let tables = life.machine.store_mut();
            // What was written since lies in memory, over the damage.
            if holds(&tables.pairs, &value.key) == holds(&machinery.disk.state, &value.key) {
                tables.damaged = Some(value);
            }
        }
    }

    /// The operator's answer to a damaged disk is one of two: its contents are restored as they were, or it is gone. There is no
    /// change of membership yet by which the server could come back under a new id: it stays away.
    pub(super) fn restore_or_retire(&mut self) {
        for server in 0..self.len() {
            if self.servers[server].disk.damage.is_none() {
                continue;
            }
            self.crash(server);
            let machinery = &mut self.servers[server];
            machinery.retired = machinery.rng.chance(0.5);
            if !machinery.retired {
                machinery.disk.damage = None;
            }
            let what = if machinery.retired { "is given up" } else { "is restored" };
            self.trace.line(self.now, format_args!("n{}'s disk {what}", node(server)));
        }
    }

    /// The servers that are to serve at the end of a run: all whose disks are sound.
    pub fn standing(&self) -> Vec<Server> {
        (0..self.len()).filter(|server| !self.servers[*server].retired).collect()
    }

    /// A server's clock leaps ahead, or stands still for so long as if it had been set back.
    pub(super) fn jump_clock(&mut self, server: Server, back_us: u64) {
        let ahead = self.servers[server].rng.chance(0.5);
        if !ahead {
            self.servers[server].clock_stands_until = self.now + back_us;
        } else if self.is_running(server) {
            // The real driver makes up for two ticks at most; the core must be safe with any number.
            let rng = &mut self.servers[server].rng;
            let ticks = if rng.chance(0.5) { 2 } else { rng.below(200) };
            self.ticks_leapt += ticks;
            (0..ticks).for_each(|_| self.input(server, pontoon_replica::Input::Tick));
        }
        self.trace.line(self.now, format_args!("n{}'s clock jumps, ahead: {ahead}", node(server)));
    }

    /// The cluster clock cannot have got beyond this, in milliseconds: it goes as fast as the fastest server's.
    pub(super) fn clock_limit_ms(&self) -> u64 {
        let tick_ms = self.setup.config.tick_ms;
        self.now * 100 / (100 - self.setup.drift_percent) / MS + (self.ticks_leapt + 1) * tick_ms
    }
}

fn holds(state: &MemStore, key: &[u8]) -> Option<Bytes> {
    state.get(key).expect("a store in memory can be read")
}
