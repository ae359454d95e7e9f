//! What the experiments share: fresh clusters, and loads to start from.

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    args::{GrowthArgs, RunArgs},
    document::{self, Place},
    load::{Op, resp},
    machine::Machine,
    systems::Pontoon,
};

/// How long a load runs before it is measured.
const WARMUP_SECONDS: u64 = 1;

/// The place, the machine and the times.
pub struct Lab {
    place: Place,
    machine: Machine,
    seconds: u64,
}

/// A cluster with a folder of its own. The servers end before their folder is removed.
pub struct Cluster {
    pub pontoon: Pontoon,
    _dir: TempDir,
}

impl Lab {
    /// Ready.
    pub fn new(run: &RunArgs, args: &GrowthArgs) -> Result<Lab> {
        let place = Place::new(run)?;
        let machine = Machine::look(place.dir())?;
        Ok(Lab { place, machine, seconds: args.seconds })
    }

    /// The machine, the commit and the command, as Markdown.
    pub fn machine(&self) -> String {
        self.machine.text()
    }

    /// Seconds of a measurement.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// A new cluster of so many servers with these flags.
    pub fn cluster(&self, count: usize, flags: &[&str]) -> Result<Cluster> {
        let dir = self.place.another()?;
        let pontoon = Pontoon::start(self.place.pontoon(), dir.path(), count, flags)?;
        Ok(Cluster { pontoon, _dir: dir })
    }

    /// A put or get of 256 bytes over 100,000 keys, 16 x 64, through all servers.
    pub fn load(&self, cluster: &Cluster, op: Op) -> Result<resp::Load> {
        Ok(resp::Load {
            pontoon: self.place.pontoon().to_path_buf(),
            servers: cluster.pontoon.addresses()?,
            op,
            connections: 16,
            inflight: 64,
            keys: 100_000,
            value_bytes: 256,
            seconds: self.seconds,
            warmup: WARMUP_SECONDS,
            sessions: false,
            rate: None,
            load_first: false,
        })
    }

    /// A closed loop's rate of puts at the peak.
    pub fn peak(&self, cluster: &Cluster) -> Result<f64> {
        self.peak_of(self.load(cluster, Op::Put)?)
    }

    /// That of this load, after every key was written.
    pub fn peak_of(&self, load: resp::Load) -> Result<f64> {
        let peak = resp::Load { load_first: true, ..load }.run()?.operations_per_second;
        document::say(format_args!("peak: {peak:.0} puts/s"));
        Ok(peak)
    }
}
