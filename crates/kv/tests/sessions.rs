//! Exactly once: each rule of `pontoon_kv::session` under its name.

mod common;

use common::*;
use pontoon_kv::{Command, Limits, Outcome, Proposal, Refusal, Reply, SessionId, SessionKind};

#[test]
fn a_session_id_is_the_log_index_and_the_position_in_the_block() {
    let mut group = Group::new();
    group.apply(&[]);
    let open = Proposal::Open { call: CALL, kind: SessionKind::Client };
    let outcomes = group.apply(&[open.clone(), keep_alive(SessionId(5)), open]);
    assert_eq!(outcomes[0], Outcome::Opened(SessionId(2 << 16)));
    assert_eq!(outcomes[2], Outcome::Opened(SessionId(2 << 16 | 2)));
    assert_eq!(group.machine.sessions(), 2);
}

#[test]
fn a_session_is_never_created_by_being_used() {
    let mut group = Group::new();
    let unknown = SessionId(77 << 16);
    assert_eq!(group.once(unknown, 1, 1, set("k", "v")), refused(Refusal::SessionUnknown));
    assert_eq!(group.relay(unknown, 1, 1, 1, set("k", "v")), refused(Refusal::SessionUnknown));
    assert_eq!(group.apply_one(keep_alive(unknown)), refused(Refusal::SessionUnknown));
    assert_eq!(
        group.apply_one(Proposal::Close { call: CALL, session: unknown }),
        refused(Refusal::SessionUnknown)
    );
    assert_eq!(group.get("k"), Reply::Nil);
    assert_eq!((group.machine.sessions(), group.pairs(1).len()), (0, 0));
}

#[test]
fn a_repeated_request_gets_the_first_reply_and_changes_nothing() {
    let mut group = Group::new();
    let (session, other) = (group.open(), group.open());
    assert_eq!(group.once(session, 1, 1, append("k", "x")), integer(1));
    assert_eq!(group.once(other, 1, 1, append("k", "yz")), integer(3));
    assert_eq!(group.once(session, 1, 1, append("k", "x")), integer(1));
    assert_eq!(group.get("k"), value("xyz"));
}

#[test]
fn a_copy_within_the_same_entry_or_batch_is_a_copy() {
    let mut group = Group::new();
    let session = group.open();
    let copy = once(session, 1, 1, append("k", "x"));
    assert_eq!(group.apply(&[copy.clone(), copy.clone()]), [integer(1), integer(1)]);
    let mut entries = vec![
        group.entry(&[once(session, 2, 1, append("k", "x"))]),
        group.entry(&[once(session, 2, 1, append("k", "x"))]),
    ];
    entries[1].index.0 += 1;
    let outcomes = group.machine.apply(&entries).unwrap();
    assert_eq!(
        outcomes.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>(),
        [integer(2), integer(2)]
    );
    assert_eq!(group.get("k"), value("xx"));
}

#[test]
fn a_late_copy_of_a_set_does_not_undo_a_newer_one() {
    let mut group = Group::new();
    let (session, other) = (group.open(), group.open());
    group.once(session, 1, 1, set("k", "old"));
    group.once(other, 1, 1, set("k", "new"));
    assert_eq!(group.once(session, 1, 1, set("k", "old")), Outcome::Reply(Reply::Ok));
    assert_eq!(group.get("k"), value("new"));
}

#[test]
fn an_error_reply_is_recorded_as_any_other() {
    let mut group = Group::new();
    let session = group.open();
    group.execute(set("k", "text"));
    let first = group.once(session, 1, 1, increment("k", 1));
    group.execute(set("k", "1"));
    assert!(matches!(first, Outcome::Reply(Reply::Error(_))));
    assert_eq!(group.once(session, 1, 1, increment("k", 1)), first);
    assert_eq!(group.get("k"), value("1"));
}

#[test]
fn requests_of_a_window_are_executed_in_any_order_each_once() {
    let mut group = Group::new();
    let session = group.open();
    for seq in [3, 1, 4, 2] {
        let text = seq.to_string();
        assert!(matches!(group.once(session, seq, 1, append("k", &text)), Outcome::Reply(_)));
    }
    for seq in 1..=4 {
        group.once(session, seq, 1, append("k", "again"));
    }
    assert_eq!(group.get("k"), value("3142"));
}

#[test]
fn the_window_reaches_from_the_floor_or_a_higher_ack() {
    let mut group = Group::with(Limits { session_window: 4, ..Limits::default() });
    let session = group.open();
    assert_eq!(group.once(session, 5, 1, append("k", "5")), refused(Refusal::OutsideWindow));
    assert_eq!(group.once(session, 4, 1, append("k", "4")), integer(1));
    assert_eq!(group.once(session, 5, 2, append("k", "5")), integer(2));
    assert_eq!(group.once(session, 6, 2, append("k", "6")), refused(Refusal::OutsideWindow));
    assert_eq!(group.once(session, u64::MAX, 2, append("k", "6")), refused(Refusal::OutsideWindow));
    assert_eq!(group.get("k"), value("45"));
}

#[test]
fn below_the_floor_a_request_is_stale_whether_or_not_it_was_executed() {
    let mut group = Group::new();
    let session = group.open();
    group.once(session, 1, 1, append("k", "1"));
    group.once(session, 3, 3, append("k", "3"));
    for seq in [0, 1, 2] {
        assert_eq!(group.once(session, seq, seq, append("k", "late")), refused(Refusal::Stale));
    }
    assert_eq!(group.get("k"), value("13"));
}

#[test]
fn an_acknowledgement_drops_the_records_below_it() {
    let mut group = Group::new();
    let session = group.open();
    for seq in 1..=100 {
        group.once(session, seq, 1, set("k", "v"));
    }
    let full = group.pairs(1)[0].1.len();
    group.once(session, 101, 101, set("k", "v"));
    let trimmed = group.pairs(1)[0].1.len();
    assert!(full > 200 && trimmed < 16, "{full} and {trimmed} bytes");
}

#[test]
fn a_copy_with_a_higher_ack_raises_the_floor() {
    let mut group = Group::new();
    let session = group.open();
    for seq in 1..=3 {
        group.once(session, seq, 1, append("k", "x"));
    }
    assert_eq!(group.once(session, 3, 3, append("k", "x")), integer(3));
    assert_eq!(group.once(session, 2, 1, append("k", "x")), refused(Refusal::Stale));
    assert_eq!(group.once(session, 3, 3, append("k", "x")), integer(3));
}

#[test]
fn a_request_below_its_own_ack_is_executed_once_and_leaves_no_record() {
    let mut group = Group::new();
    let session = group.open();
    assert_eq!(group.once(session, 2, 9, append("k", "x")), integer(1));
    assert_eq!(group.once(session, 2, 9, append("k", "x")), refused(Refusal::Stale));
    assert_eq!(group.get("k"), value("x"));
}

#[test]
fn a_large_reply_is_kept_apart_from_the_record_and_goes_with_the_floor() {
    let mut group = Group::new();
    let session = group.open();
    let old = vec![b'o'; 10_000];
    group.execute(set("k", &old));
    let swap = Command::Set {
        key: bytes("k"),
        value: bytes("new"),
        condition: Default::default(),
        return_old: true,
    };
    assert_eq!(group.once(session, 1, 1, swap.clone()), Outcome::Reply(value(&old)));
    assert!(group.pairs(1)[0].1.len() < 64, "the session's record stays small");
    assert_eq!(group.pairs(3).len(), 3, "the reply is in three chunks");
    group.restart();
    assert_eq!(group.once(session, 1, 1, swap), Outcome::Reply(value(&old)), "again, word for word");
    assert_eq!(group.get("k"), value("new"));
    group.once(session, 2, 2, get("k"));
    assert_eq!(group.pairs(3).len(), 0, "acknowledged, so gone");
}

#[test]
fn large_replies_go_with_a_closed_or_expired_session() {
    let mut group = Group::new();
    group.execute(set("k", "v".repeat(100)));
    for end in ["close", "expiry"] {
        let session = group.open();
        group.once(session, 1, 1, get("k"));
        assert_eq!(group.pairs(3).len(), 1);
        match end {
            "close" => drop(group.apply_one(Proposal::Close { call: CALL, session })),
            _ => {
                group.clock += group.limits.session_ttl_ms;
                group.apply(&[]);
            }
        }
        assert_eq!((group.pairs(1).len(), group.pairs(3).len()), (0, 0), "{end}");
    }
}

#[test]
fn a_relay_executes_in_order_and_keeps_no_replies() {
    let mut group = Group::new();
    let session = group.open_kind(SessionKind::Relay);
    assert_eq!(group.relay(session, 1, 1, 1, append("k", "1")), integer(1));
    assert_eq!(group.relay(session, 3, 1, 8, append("k", "3")), refused(Refusal::Gap { attempt: 8 }));
    assert_eq!(group.relay(session, 2, 1, 1, append("k", "2")), integer(2));
    assert_eq!(group.relay(session, 3, 1, 9, append("k", "3")), integer(3));
    assert_eq!(group.relay(session, 3, 1, 9, append("k", "3")), refused(Refusal::Stale));
    assert_eq!(group.get("k"), value("123"));
    assert!(group.pairs(1)[0].1.len() <= 8);
}

#[test]
fn what_a_relay_has_acknowledged_past_never_executes() {
    let mut group = Group::new();
    let session = group.open_kind(SessionKind::Relay);
    assert_eq!(group.relay(session, 5, 5, 1, append("k", "5")), integer(1));
    for seq in 0..5 {
        assert_eq!(group.relay(session, seq, seq, 1, append("k", "late")), refused(Refusal::Stale));
    }
    assert_eq!(group.relay(session, 7, 6, 2, append("k", "7")), refused(Refusal::Gap { attempt: 2 }));
    assert_eq!(group.relay(session, u64::MAX, u64::MAX, 3, append("k", "last")), refused(Refusal::Stale));
    assert_eq!(group.get("k"), value("5"));
}

#[test]
fn a_request_in_a_session_of_the_other_kind_is_refused() {
    let mut group = Group::new();
    let (client, server) = (group.open(), group.open_kind(SessionKind::Relay));
    assert_eq!(group.once(server, 1, 1, set("k", "v")), refused(Refusal::SessionUnknown));
    assert_eq!(group.relay(client, 1, 1, 1, set("k", "v")), refused(Refusal::SessionUnknown));
    assert_eq!(group.get("k"), Reply::Nil);
}

#[test]
fn at_the_cap_an_open_is_refused_and_no_session_is_evicted() {
    let mut group = Group::with(Limits { sessions_max: 2, ..Limits::default() });
    let (a, b) = (group.open(), group.open());
    let open = Proposal::Open { call: CALL, kind: SessionKind::Client };
    assert_eq!(group.apply_one(open.clone()), refused(Refusal::TooManySessions));
    assert_eq!(group.once(a, 1, 1, append("k", "a")), integer(1));
    assert_eq!(group.apply_one(Proposal::Close { call: CALL, session: b }), Outcome::Done);
    assert!(matches!(group.apply_one(open), Outcome::Opened(_)));
}

#[test]
fn a_servers_session_opens_even_at_the_cap_and_counts_towards_it() {
    let mut group = Group::with(Limits { sessions_max: 1, ..Limits::default() });
    group.open();
    let server = group.open_kind(SessionKind::Relay);
    assert_eq!(group.relay(server, 1, 1, 1, append("k", "x")), integer(1));
    assert_eq!(group.machine.sessions(), 2);
    let open = Proposal::Open { call: CALL, kind: SessionKind::Client };
    assert_eq!(group.apply_one(open), refused(Refusal::TooManySessions));
}

#[test]
fn an_idle_session_expires_by_the_cluster_clock_at_any_entry() {
    let mut group = Group::new();
    let session = group.open();
    group.clock += group.limits.session_ttl_ms - 1;
    group.apply(&[]);
    assert_eq!(group.machine.sessions(), 1);
    group.clock += 1;
    group.apply(&[]);
    assert_eq!((group.machine.sessions(), group.pairs(1).len()), (0, 0));
    assert_eq!(group.once(session, 1, 1, set("k", "v")), refused(Refusal::SessionUnknown));
    assert_eq!(group.get("k"), Reply::Nil);
}

#[test]
fn a_session_that_expires_with_the_entry_does_not_execute_in_it() {
    let mut group = Group::new();
    let session = group.open();
    group.once(session, 1, 1, append("k", "x"));
    group.clock += group.limits.session_ttl_ms;
    assert_eq!(group.once(session, 1, 1, append("k", "x")), refused(Refusal::SessionUnknown));
    assert_eq!(group.get("k"), value("x"));
}

#[test]
fn every_use_keeps_a_session_alive() {
    type Use = fn(SessionId) -> Proposal;
    let uses: [(&str, Use); 4] = [
        ("keep-alive", keep_alive),
        ("new request", |session| once(session, 2, 1, get("k"))),
        ("copy", |session| once(session, 1, 1, get("k"))),
        ("refused request", |session| once(session, 100_000, 1, get("k"))),
    ];
    for (name, of) in uses {
        let mut group = Group::new();
        let session = group.open();
        group.once(session, 1, 1, get("k"));
        group.clock += group.limits.session_ttl_ms - 1;
        group.apply(&[of(session)]);
        group.restart();
        group.clock += group.limits.session_ttl_ms - 1;
        group.apply(&[]);
        assert_eq!(group.machine.sessions(), 1, "{name}");
        group.clock += 1;
        group.apply(&[]);
        assert_eq!(group.machine.sessions(), 0, "{name}");
    }
}

#[test]
fn the_cluster_clock_never_goes_back() {
    let mut group = Group::new();
    group.apply(&[]);
    let session = group.open();
    group.clock = 10;
    group.once(session, 1, 1, set("k", "v"));
    assert_eq!(group.machine.applied().clock.0, 1000);
    group.clock = 999 + group.limits.session_ttl_ms;
    group.apply(&[]);
    assert_eq!(group.machine.sessions(), 1);
}

#[test]
fn after_a_restart_a_copy_is_still_a_copy() {
    let mut group = Group::new();
    let (client, server) = (group.open(), group.open_kind(SessionKind::Relay));
    group.once(client, 2, 1, append("k", "c"));
    group.relay(server, 1, 1, 1, append("k", "s"));
    group.restart();
    assert_eq!(group.once(client, 2, 1, append("k", "c")), integer(1));
    assert_eq!(group.relay(server, 1, 1, 1, append("k", "s")), refused(Refusal::Stale));
    assert_eq!(group.once(client, 1, 1, append("k", "d")), integer(3));
    assert_eq!(group.get("k"), value("csd"));
}

#[test]
fn a_sessions_record_is_written_once_per_batch_however_often_it_is_used() {
    let mut machine = open(Spy::default(), Limits::default());
    let group = Group::new();
    let open = group.entry(&[Proposal::Open { call: CALL, kind: SessionKind::Client }]);
    let session = SessionId(1 << 16);
    let uses: Vec<_> = (1..=200).map(|seq| once(session, seq, seq, set("k", "v"))).collect();
    let entries: Vec<_> = std::iter::once(open)
        .chain((2..10).map(|index| {
            let mut entry = group.entry(&uses[(index as usize - 2) * 25..(index as usize - 1) * 25]);
            entry.index.0 = index;
            entry
        }))
        .collect();
    machine.apply(&entries).unwrap();
    let batch = &machine.store().last;
    let keys: Vec<u8> = batch.keys().map(|key| key[0]).collect();
    assert_eq!(keys, [0, 1, 2], "applied record, session, head: one write for 201 proposals");
}
