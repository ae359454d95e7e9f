//! The memory rows.

use pontoon_sim::{lab::MemoryRow, world::Traced};

#[test]
fn every_row_passes() {
    for row in MemoryRow::ALL {
        if let Err(violation) = row.run(1, Traced::No) {
            panic!("{}: {violation}", row.name());
        }
    }
}
