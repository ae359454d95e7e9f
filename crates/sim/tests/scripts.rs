//! Runs with a plot, each on a few seeds.

use pontoon_sim::{scripts::Script, world::Traced};

#[test]
fn every_script_ends_well() {
    for script in Script::ALL {
        for seed in 1..=5 {
            if let Err(violation) = script.run(seed, Traced::No) {
                panic!("{script:?}, seed {seed}: {violation}");
            }
        }
    }
}
