//! The fuzz targets of this crate, on valid bytes changed at random.

mod log_support;

use std::fs;

use log_support::*;
use pontoon_mutate::Target;
use pontoon_replica::Persist;
use pontoon_storage::log::fuzz;

/// A file of a log as a crash leaves it, but for most of the zeros at its end.
fn log_file() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, Persist { hard_state: Some(hard_state(1, 2, 0)), ..append(entries(1..=3, 1, 20)) });
    write(&log, Persist { hard_state: Some(hard_state(2, 1, 2)), ..append(entries(3..=5, 2, 10)) });
    write(&log, trim(2, 1));
    log.write(&[(OTHER, append(entries(1..=1, 1, 5)))]).expect("the log accepts the write");
    let mut file = fs::read(newest_file(crash_copy(folder.path()).path())).expect("the file is readable");
    let written = file.iter().rposition(|byte| *byte != 0).expect("a file with a header") + 1;
    file.truncate(written + 16);
    file
}

#[test]
fn log_files() {
    Target { name: "log_file", check: fuzz::log_file, held_bytes_max: 8 << 20 }.run(&[log_file()]);
}

#[test]
fn log_records() {
    let numbers = |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let examples: [Vec<u8>; 4] =
        [numbers(&[1, 2, 3, 4]), numbers(&[1, 5, 2]), numbers(&[7, 1]), numbers(&[7, 1, 99])];
    Target { name: "log_record", check: fuzz::log_record, held_bytes_max: 16 << 10 }.run(&examples);
}
