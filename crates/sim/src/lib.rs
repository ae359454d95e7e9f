//! Floor 5: what proves Pontoon.
//!
//! - [`world`]: a whole cluster in one thread and virtual time, from one seed: servers, network, disks, clients, faults.
//! - [`scenario`]: a run drawn from a seed.
//! - [`lab`]: the classic suite, row by row.
//! - [`processes`]: the same rows against real servers.
//! - [`scripts`]: runs with a plot.
//! - [`check`]: what must hold in every run, one property a file.
//! - [`linearizability`]: decides whether a history of client operations could have come from one copy of the data.

pub mod check;
pub mod client;
pub mod history;
pub mod lab;
pub mod linearizability;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod processes;
pub mod rng;
pub mod scenario;
pub mod scripts;
pub mod shrink;
pub mod time;
pub mod trace;
pub mod world;
