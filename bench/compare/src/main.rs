//! Pontoon beside what a user would pick instead, where its time goes, and how its cost grows.
//!
//! ```text
//!   compare   rounds over all systems and shapes, a table of medians
//!   growth    how throughput and latency change with keys, sizes, requests in flight, servers, faults, time
//!   stages    where a put's processor time goes: a profile of a leader and of a follower
//!   systems   the servers under test, as processes of their own: Pontoon, etcd, Redis
//!   load      what loads them: `pontoon bench` for all that speak RESP, a gRPC client for etcd
//!   machine   what it all ran on
//!   document  tables and plots, and where they are written
//! ```
//!
//! It lives outside of Pontoon's workspace and knows Pontoon only as a user does: by its binary, its protocol and its figures.

#![allow(
    unreachable_pub,
    reason = "a binary has no outside: `pub` tells what a module offers to its siblings"
)]

mod args;
mod compare;
mod document;
mod growth;
mod load;
mod machine;
mod stages;
mod systems;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let args = args::Args::parse();
    match &args.command {
        None => compare::run(&args.run, &args.compare),
        Some(args::Command::Growth(growth)) => growth::run(&args.run, growth),
        Some(args::Command::Stages(stages)) => stages::run(&args.run, stages),
    }
}
