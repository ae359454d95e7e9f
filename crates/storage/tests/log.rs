//! The log: what is written comes back after a restart, torn tails go, damage is refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use pontoon_kv::{ClusterTime, Entry, GroupId, Index, NodeId, Term};
use pontoon_replica::{HardState, Persist};
use pontoon_storage::log::{Log, LogOptions, OpenError, RestoredLog, WriteError};

const GROUP: GroupId = GroupId(1);
const OTHER: GroupId = GroupId(2);

fn entry(index: u64, term: u64, bytes: usize) -> Entry {
    let data = (0..bytes).map(|at| (index as usize * 31 + term as usize * 7 + at) as u8).collect::<Vec<u8>>();
    Entry { index: Index(index), term: Term(term), clock: ClusterTime(index * 10), data: Bytes::from(data) }
}

fn entries(indexes: std::ops::RangeInclusive<u64>, term: u64, bytes: usize) -> Vec<Entry> {
    indexes.map(|index| entry(index, term, bytes)).collect()
}

fn append(entries: Vec<Entry>) -> Persist {
    Persist { sync: true, entries, ..Persist::default() }
}

fn trim(index: u64, term: u64) -> Persist {
    Persist { trim_to: Some((Index(index), Term(term))), ..Persist::default() }
}

fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: NodeId(vote), commit: Index(commit) }
}

fn small() -> LogOptions {
    LogOptions { file_bytes: 16 << 10, purge_bytes: 64 << 10 }
}

fn open(folder: &Path) -> Log {
    Log::open(folder, small()).expect("the log opens")
}

fn write(log: &Log, persist: Persist) {
    log.write(&[(GROUP, persist)]).expect("the log accepts the write");
}

fn indexes(restored: &RestoredLog) -> Vec<u64> {
    restored.entries.iter().map(|entry| entry.index.0).collect()
}

/// The newest file of the append queue.
fn newest_file(folder: &Path) -> PathBuf {
    append_files(folder).pop().expect("the log has a file")
}

fn append_files(folder: &Path) -> Vec<PathBuf> {
    let files =
        fs::read_dir(folder).expect("the folder is readable").map(|file| file.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "raftlog")).collect();
    files.sort();
    files
}

/// A copy as a crash would leave it: the log is not closed, so nothing is cut or marked.
fn crash_copy(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in fs::read_dir(folder).expect("the folder is readable") {
        let file = file.expect("an entry");
        fs::copy(file.path(), copy.path().join(file.file_name())).expect("the file is copied");
    }
    copy
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).expect("the file is readable");
    bytes[offset] ^= 0x10;
    fs::write(path, bytes).expect("the file is writable");
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files =
        fs::read_dir(folder).expect("the folder is readable").map(|file| file.expect("an entry").path());
    files.map(|path| (path.clone(), fs::read(path).expect("the file is readable"))).collect()
}

#[test]
fn a_new_log_knows_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(&folder.path().join("log"));
    assert!(log.restore(GROUP).expect("a restored log").is_blank());
    assert!(log.groups().is_empty());
}

#[test]
fn hard_state_and_entries_come_back_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = hard_state(3, 2, 4);
    {
        let log = open(folder.path());
        write(&log, Persist { hard_state: Some(state), ..append(entries(1..=5, 3, 100)) });
    }
    let restored = open(folder.path()).restore(GROUP).expect("a restored log");
    assert_eq!(restored.hard_state, state);
    assert_eq!(restored.trimmed, (Index(0), Term(0)));
    assert_eq!(restored.entries, entries(1..=5, 3, 100));
    assert_eq!(restored.bytes, 500);
    assert_eq!(restored.last(), (Index(5), Term(3)));
}

#[test]
fn entries_replace_whatever_was_there_from_the_first_ones_index_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let expected = [entries(1..=3, 1, 10), entries(4..=5, 2, 10)].concat();
    {
        let log = open(folder.path());
        write(&log, append(entries(1..=9, 1, 10)));
        write(&log, append(entries(4..=5, 2, 10)));
        assert_eq!(log.restore(GROUP).expect("a restored log").entries, expected);
    }
    assert_eq!(open(folder.path()).restore(GROUP).expect("a restored log").entries, expected);
}

#[test]
fn several_steps_of_a_turn_take_effect_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let log = open(folder.path());
        let steps = [
            append(entries(1..=9, 1, 10)),
            append(entries(4..=7, 2, 10)),
            trim(5, 2),
            append(entries(7..=8, 3, 10)),
        ];
        log.write(&steps.map(|step| (GROUP, step))).expect("the log accepts the write");
    }
    let restored = open(folder.path()).restore(GROUP).expect("a restored log");
    assert_eq!(restored.trimmed, (Index(5), Term(2)));
    assert_eq!(restored.entries, [entries(6..=6, 2, 10), entries(7..=8, 3, 10)].concat());
}

#[test]
fn a_trimmed_log_remembers_the_position_before_its_first_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let log = open(folder.path());
        write(&log, append(entries(1..=9, 4, 10)));
        write(&log, trim(9, 4));
        assert_eq!(log.read(GROUP, Index(3), Index(7), 1000), Ok(Vec::new()));
    }
    let log = open(folder.path());
    let restored = log.restore(GROUP).expect("a restored log");
    assert_eq!((restored.trimmed, restored.last()), ((Index(9), Term(4)), (Index(9), Term(4))));
    write(&log, append(entries(10..=11, 4, 10)));
    assert_eq!(indexes(&log.restore(GROUP).expect("a restored log")), [10, 11]);
}

#[test]
fn a_reset_log_starts_after_the_snapshot_before_or_behind_its_old_end() {
    for position in [50, 5] {
        let folder = tempfile::tempdir().expect("a folder");
        let state = hard_state(7, 1, 3);
        {
            let log = open(folder.path());
            write(&log, Persist { hard_state: Some(state), ..append(entries(1..=20, 1, 10)) });
            write(
                &log,
                Persist { sync: true, reset_to: Some((Index(position), Term(6))), ..Persist::default() },
            );
            let restored = log.restore(GROUP).expect("a restored log");
            assert_eq!((restored.hard_state, restored.last()), (state, (Index(position), Term(6))));
        }
        {
            let log = open(folder.path());
            let restored = log.restore(GROUP).expect("a restored log");
            assert_eq!((restored.hard_state, restored.last()), (state, (Index(position), Term(6))));
            write(&log, append(entries(position + 1..=position + 2, 7, 10)));
        }
        let restored = open(folder.path()).restore(GROUP).expect("a restored log");
        assert_eq!(restored.entries, entries(position + 1..=position + 2, 7, 10));
    }
}

#[test]
fn a_reset_may_bring_its_first_entries_along() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let log = open(folder.path());
        write(&log, append(entries(1..=20, 1, 10)));
        write(&log, Persist { reset_to: Some((Index(10), Term(2))), ..append(entries(11..=12, 3, 10)) });
    }
    assert_eq!(open(folder.path()).restore(GROUP).expect("a restored log").entries, entries(11..=12, 3, 10));
}

#[test]
fn groups_are_separate() {
    let folder = tempfile::tempdir().expect("a folder");
    {
        let log = open(folder.path());
        log.write(&[(GROUP, append(entries(1..=3, 1, 10))), (OTHER, append(entries(1..=5, 2, 10)))])
            .expect("a write");
        log.write(&[(OTHER, trim(4, 2))]).expect("a write");
    }
    let log = open(folder.path());
    assert_eq!(log.groups(), [GROUP, OTHER]);
    assert_eq!(log.restore(GROUP).expect("a restored log").entries, entries(1..=3, 1, 10));
    assert_eq!(log.restore(OTHER).expect("a restored log").entries, entries(5..=5, 2, 10));
}

#[test]
fn reading_is_bounded_in_bytes_but_yields_at_least_one_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=10, 1, 1000)));
    assert_eq!(log.read(GROUP, Index(2), Index(9), 3500), Ok(entries(2..=4, 1, 1000)));
    assert_eq!(log.read(GROUP, Index(2), Index(9), 1), Ok(entries(2..=2, 1, 1000)));
    assert_eq!(log.read(GROUP, Index(9), Index(99), u64::MAX), Ok(entries(9..=10, 1, 1000)));
    assert_eq!(log.read(GROUP, Index(11), Index(12), 1000), Ok(Vec::new()));
    assert_eq!(log.read(OTHER, Index(1), Index(2), 1000), Ok(Vec::new()));
}

#[test]
#[should_panic = "leaves a gap"]
fn a_gap_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=3, 1, 10)));
    write(&log, append(entries(5..=6, 1, 10)));
}

#[test]
fn a_long_log_survives_trims_purges_resets_and_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos()
        as u64;
    let mut random = Random(seed | 1);
    let mut log = open(folder.path());
    let (mut model, mut trimmed, mut term) = (Vec::<Entry>::new(), (Index(0), Term(0)), 1);
    for step in 0..600 {
        let last = model.last().map_or(trimmed, |entry| (entry.index, entry.term));
        match random.below(20) {
            0..=10 => {
                let first = last.0.0 + 1;
                let new = entries(first..=first + random.below(5), term, 1 + random.below(3000) as usize);
                model.extend(new.iter().cloned());
                write(&log, append(new));
            }
            11..=12 if !model.is_empty() => {
                term += 1;
                let keep = random.below(model.len() as u64) as usize;
                let first = model[keep].index.0;
                model.truncate(keep);
                model.extend(entries(first..=first + random.below(3), term, 200));
                write(&log, append(model[keep..].to_vec()));
            }
            13..=15 if !model.is_empty() => {
                let kept = model.split_off(1 + random.below(model.len() as u64) as usize);
                let end = model.last().expect("one entry at least goes");
                trimmed = (end.index, end.term);
                model = kept;
                write(&log, trim(trimmed.0.0, trimmed.1.0));
                log.purge().expect("the log purges");
            }
            16 => {
                term += 1;
                let index = last.0.0.saturating_sub(random.below(10)).max(trimmed.0.0) + random.below(10);
                trimmed = (Index(index), Term(term));
                model.clear();
                write(&log, Persist { sync: true, reset_to: Some(trimmed), ..Persist::default() });
            }
            17..=18 => {
                drop(log);
                log = open(folder.path());
            }
            _ => {
                let copy = crash_copy(folder.path());
                let restored = open(copy.path()).restore(GROUP).expect("a restored log");
                assert_eq!(
                    (restored.trimmed, restored.entries),
                    (trimmed, model.clone()),
                    "seed {seed}, step {step}, crashed"
                );
            }
        }
        let restored = log.restore(GROUP).expect("a restored log");
        assert_eq!(
            (restored.trimmed, restored.entries),
            (trimmed, model.clone()),
            "seed {seed}, step {step}"
        );
    }
}

#[test]
fn the_disk_use_of_a_trimmed_log_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    for index in 1..=1000 {
        write(&log, append(entries(index..=index, 1, 4000)));
        if index % 10 == 0 {
            write(&log, trim(index, 1));
            log.purge().expect("the log purges");
        }
    }
    let bytes: u64 = fs::read_dir(folder.path())
        .expect("readable")
        .map(|file| file.expect("an entry").metadata().expect("its size").len())
        .sum();
    assert!(bytes < 3 * small().purge_bytes, "4 MB passed through, and {bytes} bytes remain");
}

#[test]
fn the_hard_state_of_a_quiet_group_survives_the_purging_of_a_busy_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = hard_state(9, 3, 0);
    {
        let log = open(folder.path());
        log.write(&[(OTHER, Persist { sync: true, hard_state: Some(state), ..Persist::default() })])
            .expect("a write");
        for index in 1..=300 {
            write(&log, append(entries(index..=index, 1, 4000)));
            write(&log, trim(index, 1));
            log.purge().expect("the log purges");
        }
        let first_file = append_files(folder.path()).remove(0);
        assert!(!first_file.ends_with("0000000000000001.raftlog"), "nothing was purged: {first_file:?}");
    }
    assert_eq!(open(folder.path()).restore(OTHER).expect("a restored log").hard_state, state);
}

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
    write(&log, append(entries(1..=9, 1, 10)));
    write(&log, trim(5, 1));
    let trimmed = log.restore(GROUP).expect("a restored log");
    assert!(trimmed.check_continues(GROUP, Index(4)).is_err(), "entry 5 is lost");
    for applied in [5, 7, 9, 20] {
        assert_eq!(trimmed.check_continues(GROUP, Index(applied)), Ok(()));
    }
}

#[test]
fn reads_go_on_while_files_are_purged() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    write(&log, append(entries(1..=20, 1, 1000)));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (log, stop) = (&log, &stop);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let mut read = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let low = Index(log.trimmed(GROUP).0.0 + 1);
                        for entry in log.read(GROUP, low, Index(u64::MAX), 20_000).expect("the log reads") {
                            assert_eq!(entry, self::entry(entry.index.0, 1, 1000));
                            read += 1;
                        }
                    }
                    read
                })
            })
            .collect();
        for index in 21..=1500 {
            write(log, Persist { sync: index % 50 == 0, ..append(entries(index..=index, 1, 1000)) });
            if index % 7 == 0 {
                write(log, trim(index - 15, 1));
                log.purge().expect("the log purges");
            }
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("the reader ends") > 0, "nothing was read meanwhile");
        }
    });
}

/// A small generator (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
