//! Random logs: the machine does what a naive model does, and where batches end or restarts happen makes no difference.

mod common;

use common::*;
use pontoon_kv::{
    Entry, MemStore, Outcome, Reply, Store,
    fuzz::{self, Author, LIMITS},
    state_hash, verify,
};

/// About 150 entries come of it.
const LOG_BYTES: usize = 5000;

fn log(seed: u64) -> Vec<Entry> {
    Author::new(&Random(seed).bytes(LOG_BYTES)).map(|step| step.entry).collect()
}

#[test]
fn a_random_log_comes_to_what_the_model_says() {
    for_seeds(0..150, |seed| fuzz::machine(&Random(seed).bytes(LOG_BYTES)));
}

#[test]
fn where_batches_end_and_restarts_happen_makes_no_difference() {
    for_seeds(0..100, |seed| {
        let entries = log(seed);
        let mut steady = open(MemStore::new(), LIMITS);
        let mut unsteady = open(MemStore::new(), LIMITS);
        let mut random = Random(seed + 1000);
        let mut rest = &entries[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(random.within(1..20).min(rest.len() as u64) as usize);
            rest = later;
            let expected: Vec<_> =
                batch.iter().flat_map(|entry| steady.apply(std::slice::from_ref(entry)).unwrap()).collect();
            assert_eq!(unsteady.apply(batch).unwrap(), expected);
            let hashes = [&steady, &unsteady].map(|machine| state_hash(&machine.view()).unwrap());
            assert_eq!(hashes[0], hashes[1], "after entry {}", steady.applied().index);
            if random.one_in(3) {
                unsteady = open(unsteady.store().clone(), LIMITS);
                assert_eq!(unsteady.applied(), steady.applied());
            }
            verify(&unsteady.store().view()).unwrap();
        }
    });
}

/// The random logs are of use only if they reach the rules.
#[test]
fn the_random_logs_reach_every_rule() {
    let mut seen = String::new();
    for seed in 0..20 {
        let mut machine = open(MemStore::new(), LIMITS);
        for entry in log(seed) {
            for (_, outcome) in machine.apply(&[entry]).unwrap() {
                if !matches!(outcome, Outcome::Reply(Reply::Bytes(_) | Reply::Array(_))) {
                    seen += &format!("{outcome:?}\n");
                }
            }
        }
    }
    for rule in [
        "Stale",
        "OutsideWindow",
        "Gap",
        "TooManySessions",
        "SessionUnknown",
        "Done",
        "ValueTooLarge",
        "NotAnInteger",
        "Overflow",
    ] {
        assert!(seen.contains(rule), "no random log comes to {rule}");
    }
}
