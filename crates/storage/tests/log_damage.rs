//! A log that a crash or a damaged disk has left behind: what is cut, what is refused, what is noticed.

mod log_support;

use std::{fs, path::Path};

use log_support::*;
use pontoon_kv::Index;
use pontoon_replica::Persist;
use pontoon_storage::log::{Log, OpenError, WriteError};

#[test]
fn a_torn_tail_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=3, 1, 300)));
    let before = fs::metadata(newest_file(folder.path())).expect("its size").len();
    let end = end_of_data(&newest_file(folder.path()));
    write(&log, append(entries(4..=6, 1, 300)));
    let full = end_of_data(&newest_file(folder.path()));
    assert!(end < full && full as u64 <= before, "the file has space allocated ahead");
    for cut in (end..full).step_by(13).chain([full - 1]) {
        let copy = crash_copy(folder.path());
        let file = newest_file(copy.path());
        let mut bytes = fs::read(&file).expect("readable");
        bytes.truncate(cut);
        if cut % 2 == 0 {
            bytes.resize(full + 1000, 0);
        }
        fs::write(&file, bytes).expect("writable");
        let log = open(copy.path());
        assert_eq!(
            indexes(&log.restore(GROUP).expect("a restored log")),
            [1, 2, 3],
            "cut at {cut} of {full}"
        );
        write(&log, append(entries(4..=4, 2, 10)));
        drop(log);
        assert_eq!(indexes(&open(copy.path()).restore(GROUP).expect("a restored log")), [1, 2, 3, 4]);
    }
}

/// Where the zeros begin that were allocated ahead.
fn end_of_data(path: &Path) -> usize {
    let bytes = fs::read(path).expect("readable");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_flipped_bit_before_durable_bytes_is_refused_by_name_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=2, 1, 100)));
    let end = end_of_data(&newest_file(folder.path()));
    write(&log, append(entries(3..=4, 1, 100)));
    write(&log, append(entries(5..=5, 1, 100)));
    for offset in (0..end).step_by(3) {
        let copy = crash_copy(folder.path());
        let file = newest_file(copy.path());
        flip(&file, offset);
        let before = contents(copy.path());
        match Log::open(copy.path(), small()) {
            Err(OpenError::Damaged { path, .. } | OpenError::Newer { path, .. }) => assert_eq!(path, file),
            Err(other) => panic!("byte {offset}: {other}"),
            Ok(_) => panic!("byte {offset} is damaged, and the log opens"),
        }
        assert_eq!(contents(copy.path()), before, "byte {offset}");
    }
}

#[test]
fn any_damage_in_an_older_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    for index in 1..=20 {
        write(&log, append(entries(index..=index, 1, 4000)));
    }
    let files = append_files(folder.path());
    assert!(files.len() > 2);
    let length = fs::metadata(&files[0]).expect("its size").len() as usize;
    for offset in (0..length).step_by(97).chain([length - 1]) {
        let copy = crash_copy(folder.path());
        flip(&append_files(copy.path())[0], offset);
        assert!(Log::open(copy.path(), small()).is_err(), "byte {offset} is damaged, and the log opens");
    }
    for cut in [length - 1, length / 2, 1, 0] {
        let copy = crash_copy(folder.path());
        let file = &append_files(copy.path())[0];
        fs::File::options().write(true).open(file).expect("the file").set_len(cut as u64).expect("writable");
        assert!(
            matches!(Log::open(copy.path(), small()), Err(OpenError::Damaged { .. })),
            "cut to {cut} bytes"
        );
    }
    for gone in 0..files.len() - 1 {
        let copy = crash_copy(folder.path());
        let file = append_files(copy.path()).remove(gone);
        fs::remove_file(&file).expect("the file goes");
        let error = Log::open(copy.path(), small()).err().expect("a file is missing");
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
    }
}

#[test]
fn unsynced_writes_may_be_lost_out_of_order_but_never_synced_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=3, 1, 100)));
    let durable = end_of_data(&newest_file(folder.path()));
    write(&log, Persist { sync: false, ..append(entries(4..=4, 1, 100)) });
    let middle = end_of_data(&newest_file(folder.path()));
    write(&log, Persist { sync: false, ..append(entries(5..=5, 1, 100)) });
    let copy = crash_copy(folder.path());
    let file = newest_file(copy.path());
    let mut bytes = fs::read(&file).expect("readable");
    bytes[durable..middle].fill(0);
    fs::write(&file, bytes).expect("writable");
    assert_eq!(indexes(&open(copy.path()).restore(GROUP).expect("a restored log")), [1, 2, 3]);
}

#[test]
fn an_interrupted_change_of_files_is_recovered() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=3, 1, 100)));
    for leftover in [&b""[..], &b"RAFT-LOG-FILE"[..], &[0; 5000]] {
        let copy = crash_copy(folder.path());
        let file = newest_file(copy.path());
        let data = end_of_data(&file) as u64;
        fs::File::options().write(true).open(&file).expect("the file").set_len(data).expect("writable");
        fs::write(copy.path().join("0000000000000002.raftlog"), leftover).expect("writable");
        assert_eq!(indexes(&open(copy.path()).restore(GROUP).expect("a restored log")), [1, 2, 3]);
    }
}

#[test]
fn after_a_failed_write_the_log_refuses_all_further_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let log = open(&path);
    write(&log, append(entries(1..=1, 1, 100)));
    fs::rename(&path, folder.path().join("elsewhere")).expect("renamed");
    let failed =
        (2..100).find_map(|index| log.write(&[(GROUP, append(entries(index..=index, 1, 9000)))]).err());
    assert!(matches!(failed, Some(WriteError::Failed(_))), "{failed:?}");
    let refused = log.write(&[(
        GROUP,
        Persist { sync: true, hard_state: Some(hard_state(1, 1, 0)), ..Persist::default() },
    )]);
    assert!(matches!(refused, Err(WriteError::Refused(_))), "{refused:?}");
    assert!(matches!(log.purge(), Err(WriteError::Refused(_))));
}

#[test]
fn a_commit_index_beyond_the_end_shows_that_the_end_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, Persist { hard_state: Some(hard_state(1, 1, 7)), ..append(entries(1..=3, 1, 100)) });
    let error = log.restore(GROUP).expect_err("the end is missing");
    assert!(error.to_string().contains("its end is lost"), "{error}");
}

#[test]
fn a_log_that_does_not_go_on_where_the_state_ends_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let blank = log.restore(GROUP).expect("a restored log");
    assert_eq!(blank.check_continues(GROUP, Index(0)), Ok(()));
    assert!(blank.check_continues(GROUP, Index(5)).is_err(), "the log is lost");
    write(&log, Persist { hard_state: Some(hard_state(1, 1, 0)), ..append(entries(1..=9, 1, 10)) });
    write(&log, trim(5, 1));
    let trimmed = log.restore(GROUP).expect("a restored log");
    assert!(trimmed.check_continues(GROUP, Index(4)).is_err(), "entry 5 is lost");
    for applied in [5, 7, 9, 20] {
        assert_eq!(trimmed.check_continues(GROUP, Index(applied)), Ok(()));
    }
}

#[test]
fn a_hard_state_behind_the_entries_shows_that_it_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, Persist { hard_state: Some(hard_state(1, 1, 0)), ..append(entries(1..=2, 1, 10)) });
    write(&log, append(entries(3..=3, 2, 10)));
    let error = log.restore(GROUP).expect("restored").check_continues(GROUP, Index(0));
    assert!(
        error.expect_err("the vote is lost").to_string().contains("its hard state"),
        "term 1 and an entry of term 2"
    );
}
