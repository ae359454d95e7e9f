//! Rounds over all systems and shapes, and a table of medians.
//!
//! All systems run all the time; only one is loaded at once. A round measures each shape with each contender, and every other round
//! in the reverse order, so that what drifts (a disk, a neighbour) falls on all of them.

mod contender;
mod results;
pub mod shape;

use anyhow::Result;

use crate::{
    args::{CompareArgs, RunArgs, SystemName},
    document::{self, Place},
    load::{Op, etcd},
    machine::Machine,
    systems::{self, Etcd, Pontoon, Redis},
};
use contender::{Contender, Settings};
use results::Results;
pub use results::median;
use shape::Shape;

/// The length of each value.
const VALUE_BYTES: u64 = 256;
/// Seconds of the same load before each measurement.
const WARMUP_SECONDS: u64 = 1;

/// The systems under test; none of those that were not asked for.
struct Systems {
    pontoon: Option<Pontoon>,
    etcd: Option<Etcd>,
    redis: Option<Redis>,
}

/// Measures, prints, and writes bench/README.md's table.
pub fn run(run: &RunArgs, args: &CompareArgs) -> Result<()> {
    let place = Place::new(run)?;
    let machine = Machine::look(place.dir())?;
    let chosen = |name| args.only.is_empty() || args.only.contains(&name);
    let mut systems = Systems::start(&place, chosen)?;
    let settings = Settings {
        pontoon: place.pontoon().to_path_buf(),
        keys: args.keys,
        value_bytes: VALUE_BYTES,
        seconds: args.seconds,
        warmup: WARMUP_SECONDS,
    };
    systems.load_keys(&settings)?;

    let shapes = if args.shapes.is_empty() { Shape::ALL.to_vec() } else { args.shapes.clone() };
    let mut results = Results::default();
    for round in 1..=args.rounds {
        for shape in &shapes {
            for op in [Op::Put, Op::Get] {
                let mut contenders = Contender::of(&systems, op)?;
                if round % 2 == 0 {
                    contenders.reverse();
                }
                for contender in contenders {
                    let outcome = contender.measure(op, *shape, &settings)?;
                    document::say(format_args!(
                        "round {round}: {} {shape} {:<22} {:>9.0} /s  p99 {:>9.3} ms  errors {}",
                        op.name(),
                        contender.name(),
                        outcome.per_second,
                        outcome.p99_us as f64 / 1e3,
                        outcome.errors
                    ));
                    results.add(op, *shape, contender.name(), outcome);
                }
            }
        }
    }
    systems.check()?;
    let memory = systems.memory()?;
    let text = [machine.text(), settings_text(args), results.text(), memory].join("\n");
    document::say(format_args!("\n{text}"));
    let whole = args.only.is_empty() && args.shapes.is_empty();
    if whole && !run.no_write {
        document::replace_block("README.md", "compare", &text)?;
    }
    Ok(())
}

fn settings_text(args: &CompareArgs) -> String {
    format!(
        "{} rounds of {} s each, medians. Values of {VALUE_BYTES} random bytes, {} keys. All servers of all systems ran on loopback \
         and wrote to\nthis disk; one was loaded at a time. Pontoon: three servers, defaults. etcd: three members, `{}`. Redis: one \
         server,\n`{}`.\n",
        args.rounds,
        args.seconds,
        args.keys,
        systems::ETCD_FLAGS,
        systems::REDIS_FLAGS
    )
}

impl Systems {
    fn start(place: &Place, chosen: impl Fn(SystemName) -> bool) -> Result<Systems> {
        let dir = place.dir();
        let pontoon = chosen(SystemName::Pontoon).then(|| Pontoon::start(place.pontoon(), dir, 3, &[]));
        let etcd = chosen(SystemName::Etcd).then(|| Etcd::start(dir));
        let redis = chosen(SystemName::Redis).then(|| Redis::start(dir));
        Ok(Systems { pontoon: pontoon.transpose()?, etcd: etcd.transpose()?, redis: redis.transpose()? })
    }

    fn load_keys(&self, settings: &Settings) -> Result<()> {
        document::say(format_args!("loading {} keys", settings.keys));
        if let Some(pontoon) = &self.pontoon {
            settings.resp_load_keys(pontoon.addresses()?)?;
        }
        if let Some(redis) = &self.redis {
            settings.resp_load_keys(vec![redis.address()])?;
        }
        if let Some(system) = &self.etcd {
            etcd::load_keys(&settings.etcd(system, Op::Put, Shape::ALL[3]))?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.pontoon.as_mut().map_or(Ok(()), Pontoon::check)
    }

    fn memory(&self) -> Result<String> {
        let mut rows = Vec::new();
        let mut add = |name: &str, processes: Vec<&systems::Process>| -> Result<()> {
            let each =
                processes.iter().map(|process| process.resident_bytes()).collect::<Result<Vec<_>>>()?;
            let text = each.iter().map(|bytes| (bytes >> 20).to_string()).collect::<Vec<_>>().join(", ");
            rows.push(vec![name.to_string(), text]);
            Ok(())
        };
        if let Some(pontoon) = &self.pontoon {
            add("Pontoon", pontoon.processes())?;
        }
        if let Some(etcd) = &self.etcd {
            add("etcd", etcd.processes())?;
        }
        if let Some(redis) = &self.redis {
            add("Redis", vec![redis.process()])?;
        }
        Ok(document::table(&["after all rounds", "memory of each server, MiB (resident)"], &rows))
    }
}
