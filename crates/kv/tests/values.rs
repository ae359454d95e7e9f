//! Values in chunks: what they cost, and that damage to them is never served.

mod common;

use common::*;
use pontoon_kv::{Index, Limits, Reader, Reply, layout::CHUNK_BYTES, read_known};

const HEAD: u8 = 2;
const CHUNK: u8 = 3;

/// Bytes that differ from chunk to chunk.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at / CHUNK_BYTES) as u8).collect()
}

#[test]
fn values_of_all_sizes_around_a_chunk_are_read_as_written() {
    let mut group = Group::new();
    for len in
        [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5, 1 << 20]
    {
        group.execute(set("k", pattern(len)));
        assert_eq!(group.get("k"), value(pattern(len)), "{len}");
        let known = read_known(&get("k"), |key| Some(group.machine.store().get(key).unwrap()));
        assert_eq!(known, (len <= CHUNK_BYTES).then(|| value(pattern(len))), "from its record alone, {len}");
        let chunks = if len <= CHUNK_BYTES { 0 } else { len.div_ceil(CHUNK_BYTES) };
        assert_eq!((group.pairs(HEAD).len(), group.pairs(CHUNK).len()), (1, chunks), "{len}");
    }
}

#[test]
fn appends_of_any_size_join_seamlessly() {
    for step in [1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10_000] {
        let mut group = Group::new();
        let whole = pattern((20 * step).min(40_000));
        let session = group.open();
        for (seq, part) in (1..).zip(whole.chunks(step)) {
            group.once(session, seq, seq, append("k", part));
        }
        assert_eq!(group.get("k"), value(&whole), "step {step}");
    }
}

#[test]
fn appends_within_a_batch_see_one_another_and_end_in_the_same_state() {
    let parts: Vec<_> = pattern(30_000).chunks(3000).map(<[u8]>::to_vec).collect();
    let mut apart = Group::new();
    let mut together = Group::new();
    let session = apart.open();
    together.open();
    let proposals: Vec<_> =
        (1..).zip(&parts).map(|(seq, part)| once(session, seq, 1, append("k", part))).collect();
    let entries: Vec<_> = (2..)
        .zip(&proposals)
        .map(|(index, proposal)| {
            let mut entry = apart.entry(std::slice::from_ref(proposal));
            entry.index = Index(index);
            entry
        })
        .collect();
    for entry in &entries {
        apart.machine.apply(std::slice::from_ref(entry)).unwrap();
    }
    together.machine.apply(&entries).unwrap();
    assert_eq!(apart.get("k"), value(pattern(30_000)));
    assert_eq!(apart.hash(), together.hash());
}

#[test]
fn overwriting_and_deleting_a_chunked_value_leaves_no_chunk_behind() {
    let mut group = Group::new();
    group.execute(set("k", pattern(20_000)));
    group.execute(set("k", pattern(9_000)));
    assert_eq!(group.pairs(CHUNK).len(), 3);
    group.execute(set("k", "short"));
    assert_eq!(group.pairs(CHUNK).len(), 0);
    group.execute(append("k", pattern(9_000)));
    assert_eq!(group.pairs(CHUNK).len(), 3);
    group.execute(del(&["k"]));
    assert_eq!((group.pairs(HEAD).len(), group.pairs(CHUNK).len()), (0, 0));
}

#[test]
fn overwriting_a_value_that_was_chunked_before_a_restart_leaves_no_chunk_behind() {
    let mut group = Group::new();
    group.execute(set("k", pattern(20_000)));
    group.machine = open(group.machine.store().clone(), group.limits);
    group.execute(set("k", "short"));
    assert_eq!(group.pairs(CHUNK).len(), 0);
}

#[test]
fn a_plain_set_asks_for_what_it_replaces_only_where_there_may_be_chunks() {
    let mut machine = open(Spy::default(), Limits::default());
    let session = pontoon_kv::SessionId(1 << 16);
    let mut asked_by = |index: u64, proposal| {
        let before = machine.store().asked.get();
        let data = pontoon_kv::Block::encode(&[proposal]);
        let (term, clock) = (pontoon_kv::Term(1), pontoon_kv::ClusterTime(1));
        machine.apply(&[pontoon_kv::Entry { index: Index(index), term, clock, data }]).unwrap();
        machine.store().asked.get() - before
    };
    asked_by(1, pontoon_kv::Proposal::Open { call: CALL, kind: pontoon_kv::SessionKind::Client });
    assert_eq!(asked_by(2, once(session, 1, 1, set("k", "v"))), 0);
    assert_eq!(asked_by(3, once(session, 2, 2, set("k", "w"))), 0);
    asked_by(4, once(session, 3, 3, set("long", pattern(5000))));
    assert_eq!(asked_by(5, once(session, 4, 4, set("k", "x"))), 1);
}

#[test]
fn an_append_to_8_mib_writes_at_most_three_times_what_one_to_8_kib_writes() {
    let written = |len: usize| {
        let mut machine = open(Spy::default(), Limits::default());
        let group = Group::new();
        let session = pontoon_kv::SessionId(1 << 16);
        let open = pontoon_kv::Proposal::Open { call: CALL, kind: pontoon_kv::SessionKind::Client };
        let appended = |seq| once(session, seq, seq, append("k", [b'a'; 64]));
        let mut bytes_max = 0;
        for (index, proposals) in [vec![open, once(session, 1, 1, set("k", pattern(len)))]]
            .into_iter()
            .chain((2..200).map(|seq| vec![appended(seq)]))
            .enumerate()
        {
            let mut entry = group.entry(&proposals);
            entry.index = Index(index as u64 + 1);
            machine.apply(&[entry]).unwrap();
            if index > 0 {
                bytes_max = bytes_max.max(machine.store().written());
            }
        }
        bytes_max
    };
    let (small, large) = (written(8 << 10), written(8 << 20));
    assert!(large <= 3 * small, "{large} bytes against {small}");
    assert!(large < 2 * CHUNK_BYTES, "{large} bytes for an append of 64");
}

#[test]
fn every_record_knows_the_entry_that_last_changed_it() {
    let mut group = Group::new();
    let session = group.open();
    for (seq, command) in
        (1..).zip([set("k", "v"), append("k", "w"), append("k", pattern(5000)), append("k", "x")])
    {
        group.once(session, seq, 1, command);
        // Form, then the revision.
        assert_eq!(u64::from(group.pairs(HEAD)[0].1[1]), group.machine.applied().index.0);
    }
    let changed = group.machine.applied().index.0;
    group.once(session, 5, 1, get("k"));
    group.once(session, 6, 1, increment("k", 1));
    assert_eq!(u64::from(group.pairs(HEAD)[0].1[1]), changed, "what does not change it does not count");
}

#[test]
fn a_value_with_a_missing_or_misshapen_chunk_is_refused() {
    let mut group = Group::new();
    group.execute(set("k", pattern(10_000)));
    let sound = group.machine.store().clone();
    for (key, chunk) in group.pairs(CHUNK) {
        for damage in [None, Some(chunk.slice(1..)), Some([&chunk[..], b"x"].concat().into())] {
            let mut store = sound.clone();
            store.tamper(key.clone(), damage);
            assert!(pontoon_kv::verify(&store).is_err());
            let machine = open(store, group.limits);
            let error = machine.read(&get("k")).unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
            assert_eq!(
                machine.read(&pontoon_kv::Command::StrLen { key: bytes("k") }).unwrap(),
                Reply::Integer(10_000)
            );
        }
    }
}

#[test]
fn an_append_to_a_damaged_chunk_stops_the_machine() {
    let mut group = Group::new();
    group.execute(set("k", pattern(10_000)));
    let session = group.open();
    let (last, _) = group.pairs(CHUNK).pop().unwrap();
    group.machine.store_mut().tamper(last, Some(bytes("x")));
    let entry = group.entry(&[once(session, 1, 1, append("k", "y"))]);
    assert!(group.machine.apply(std::slice::from_ref(&entry)).is_err());
    assert!(group.machine.apply(&[entry]).is_err(), "and it stays stopped");
}

#[test]
fn a_damaged_head_record_is_refused() {
    let mut group = Group::new();
    group.execute(set("k", pattern(100)));
    let (key, record) = group.pairs(HEAD).pop().unwrap();
    for damage in [
        record.slice(..0),
        record.slice(..record.len() - 1),
        [&record[..], b"x"].concat().into(),
        bytes([9, 1, 0]),
    ] {
        group.machine.store_mut().tamper(key.clone(), Some(damage));
        assert!(group.machine.read(&get("k")).is_err());
    }
}

#[test]
fn an_entry_that_cannot_be_read_stops_the_machine_and_is_named() {
    let mut group = Group::new();
    let session = group.open();
    let mut entry = group.entry(&[once(session, 1, 1, set("k", "v"))]);
    entry.data = entry.data.slice(..entry.data.len() - 1);
    let error = group.machine.apply(&[entry]).unwrap_err();
    assert!(error.to_string().contains("entry 2"), "{error}");
}

#[test]
#[should_panic(expected = "entry 7 came to be applied where 2 is next")]
fn an_entry_out_of_turn_is_a_fault_of_the_caller() {
    let mut group = Group::new();
    group.open();
    let mut entry = group.entry(&[]);
    entry.index = Index(7);
    let _ = group.machine.apply(&[entry]);
}

#[test]
fn a_view_stays_as_it_was() {
    let mut group = Group::new();
    group.execute(set("k", "old"));
    let view = group.machine.view();
    group.execute(set("k", "new"));
    assert_eq!(pontoon_kv::read(&view, &get("k"), &group.limits).unwrap(), value("old"));
}

#[test]
fn no_record_holds_on_to_the_entry_that_it_came_in() {
    let mut group = Group::new();
    let session = group.open();
    let commands = [set("short", "value"), set("long", pattern(10_000)), append("long", pattern(10_000))];
    let proposals: Vec<_> =
        (1..).zip(commands).map(|(seq, command)| once(session, seq, 1, command)).collect();
    let entry = group.entry(&proposals);
    group.machine.apply(std::slice::from_ref(&entry)).unwrap();
    let records: Vec<_> = (0..=CHUNK).flat_map(|space| group.pairs(space)).collect();
    assert!(records.len() > 6, "heads, chunks, a session: {}", records.len());
    for (key, record) in records {
        let shared = entry.data.as_ptr_range().contains(&record.as_ptr());
        assert!(!shared, "the record at {key:?} is a part of the entry");
    }
}
