//! `pontoon`: a cluster on this machine, one server, or a client of either.

#![allow(
    unreachable_pub,
    reason = "a binary has no outside: `pub` tells what a module offers to its siblings"
)]

mod args;
mod bench;
mod client;
mod config;
mod failure;
mod info;
mod logging;
mod memory;
mod output;
mod serve;
mod signals;
mod status;
mod units;
mod up;

use std::process::ExitCode;

use args::Command;

#[global_allocator]
static ALLOCATOR: memory::Allocator = memory::Allocator;

fn main() -> ExitCode {
    memory::Allocator::set_up();
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    let done = match cli.command {
        Command::Up(args) => up::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Put(args) => client::put(args),
        Command::Append(args) => client::append(args),
        Command::Get(args) => client::get(args),
        Command::Del(args) => client::delete(args),
        Command::Status(args) => status::run(args),
        Command::Bench(args) => bench::run(*args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
