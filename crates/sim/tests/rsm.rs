//! The rows of the replicated state machine, each on a few seeds.

use pontoon_sim::{lab::RsmRow, world::Traced};

#[test]
fn every_row_passes() {
    for row in RsmRow::ALL {
        for seed in 1..=10 {
            if let Err(violation) = row.run(seed, Traced::No) {
                panic!("{}, seed {seed}: {violation}", row.name());
            }
        }
    }
}
