//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::{compare::shape::Shape, growth::Experiment};

/// Starts a three-server Pontoon, a three-member etcd and a single Redis on loopback, and loads them alternately.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub compare: CompareArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// How cost grows: a table and a plot for each experiment, in bench/growth/
    Growth(GrowthArgs),
    /// Where a put's processor time goes, stage by stage: a table in bench/README.md
    Stages(StagesArgs),
}

/// Where and with what.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Where the servers keep their data while it runs: on a real disk [default: bench/compare/target]
    #[arg(long, value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,
    /// The binary under test; none: target/release/pontoon is built first
    #[arg(long, value_name = "FILE", global = true)]
    pub pontoon: Option<PathBuf>,
    /// Print only, write nothing to bench/
    #[arg(long, global = true)]
    pub no_write: bool,
}

#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Rounds; the table has their medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Only these systems; nothing is written to bench/ then
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<SystemName>,
    /// Only these shapes, such as 1x1,16x64 (connections x requests in flight on each); nothing is written to bench/ then
    #[arg(long, value_delimiter = ',', value_parser = Shape::parse)]
    pub shapes: Vec<Shape>,
    /// How many keys
    #[arg(long, default_value_t = 100_000)]
    pub keys: u64,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SystemName {
    Pontoon,
    Etcd,
    Redis,
}

#[derive(Debug, clap::Args)]
pub struct GrowthArgs {
    /// Only these experiments
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Experiment>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Rounds of the slow disk's comparison
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Seconds of the stall test
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stall_seconds: u64,
    /// The largest number of keys
    #[arg(long, default_value_t = 10_000_000)]
    pub keys_max: u64,
}

#[derive(Debug, clap::Args)]
pub struct StagesArgs {
    /// Seconds of the profile
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
}
