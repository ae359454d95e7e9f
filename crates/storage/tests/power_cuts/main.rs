//! Power cuts: after each step of a real server's disk, whatever a cut could leave is opened by the real recovery, and all that was
//! acknowledged is there. (The method: Pillai et al., *All file systems are not created equal*, OSDI 2014.)
//!
//! - `recorder` notes each write, sync and change of names that the log, the state and the folder do;
//! - `disk` says what a power cut can leave of them;
//! - `history` is the work that is recorded, and what must be found afterwards.

#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "the table of docs/testing.md")]
#![allow(unreachable_pub, reason = "modules of a test")]

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod disk;
mod history;
mod recorder;

use std::time::Instant;

use cuts::{Cuts, fast_folder};
use disk::{NodeId, Step};
use history::{Expected, Work};
use recorder::record;

/// So many servers are recorded at work.
const SERVERS_VARIABLE: &str = "PONTOON_POWER_CUTS";
/// How long each works.
const TURNS: u64 = 20;

#[test]
fn whatever_a_power_cut_leaves_is_recovered_with_all_that_was_acknowledged() {
    let servers: u64 =
        std::env::var(SERVERS_VARIABLE).map_or(1, |servers| servers.parse().expect("a number"));
    let started = Instant::now();
    let mut cuts = Cuts::default();
    for seed in 1..=servers {
        let folder = fast_folder();
        let data = folder.path().join("data");
        let (before, steps, history) = record(folder.path(), || Work::run(&data, seed, TURNS));
        cuts.enumerate(&format!("server {seed}"), before, &steps, &history, Expected::nothing(), true);
    }
    eprintln!("{servers} servers, {cuts}, {} s", started.elapsed().as_secs());
    cuts.assert_no_failure();
}

#[test]
fn a_server_that_forgot_to_sync_would_be_found_out() {
    let folder = fast_folder();
    let data = folder.path().join("data");
    let (before, steps, history) = record(folder.path(), || Work::run(&data, 1, TURNS));
    let folders: Vec<NodeId> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Create { node, is_folder: true, .. } => Some(*node),
            _ => None,
        })
        .collect();
    for forgets_folders in [true, false] {
        let forgotten =
            |step: &Step| matches!(step, Step::Sync { node } if folders.contains(node) == forgets_folders);
        let steps: Vec<Step> = steps.iter().filter(|step| !forgotten(step)).cloned().collect();
        let mut cuts = Cuts::default();
        cuts.enumerate("forgetful", before.clone(), &steps, &history, Expected::nothing(), false);
        assert!(!cuts.failures.is_empty(), "{cuts}, and nothing is missing");
    }
}
