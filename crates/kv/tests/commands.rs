//! Commands and their replies, as Redis 7 has them.

mod common;

use bytes::Bytes;
use common::*;
use pontoon_kv::{
    Command, CommandError, LimitExceeded, Limits, Outcome, Reader, Reply, SetCondition,
    layout::USER_KEY_PREFIX_BYTES, limits::COMMAND_PARTS_MAX, read_known,
};

fn conditional(key: &str, text: &str, condition: SetCondition, return_old: bool) -> Command {
    Command::Set { key: bytes(key), value: bytes(text), condition, return_old }
}

#[test]
fn set_and_get_take_any_bytes_also_none() {
    let mut group = Group::new();
    assert_eq!(group.get("k"), Reply::Nil);
    for text in [&b""[..], b"\0\xff\r\n", b"plain"] {
        assert_eq!(group.execute(set("\0\r\n", text)), Reply::Ok);
        assert_eq!(group.get("\0\r\n"), value(text));
    }
    group.execute(set("", "empty key"));
    assert_eq!(group.get(""), value("empty key"));
}

#[test]
fn set_nx_sets_only_an_absent_key() {
    let mut group = Group::new();
    assert_eq!(group.execute(conditional("k", "1", SetCondition::IfAbsent, false)), Reply::Ok);
    assert_eq!(group.execute(conditional("k", "2", SetCondition::IfAbsent, false)), Reply::Nil);
    assert_eq!(group.get("k"), value("1"));
}

#[test]
fn set_xx_sets_only_a_present_key() {
    let mut group = Group::new();
    assert_eq!(group.execute(conditional("k", "1", SetCondition::IfPresent, false)), Reply::Nil);
    assert_eq!(group.get("k"), Reply::Nil);
    group.execute(set("k", ""));
    assert_eq!(group.execute(conditional("k", "2", SetCondition::IfPresent, false)), Reply::Ok);
    assert_eq!(group.get("k"), value("2"));
}

#[test]
fn set_get_replies_with_the_old_value_whether_or_not_it_was_set() {
    let mut group = Group::new();
    assert_eq!(group.execute(conditional("k", "1", SetCondition::Always, true)), Reply::Nil);
    assert_eq!(group.execute(conditional("k", "2", SetCondition::Always, true)), value("1"));
    assert_eq!(group.execute(conditional("k", "3", SetCondition::IfAbsent, true)), value("2"));
    assert_eq!(group.get("k"), value("2"));
    assert_eq!(group.execute(conditional("n", "1", SetCondition::IfAbsent, true)), Reply::Nil);
    assert_eq!(group.get("n"), value("1"));
    assert_eq!(group.execute(conditional("x", "1", SetCondition::IfPresent, true)), Reply::Nil);
    assert_eq!(group.get("x"), Reply::Nil);
}

#[test]
fn append_replies_with_the_new_length_and_creates_the_key() {
    let mut group = Group::new();
    assert_eq!(group.execute(append("k", "")), Reply::Integer(0));
    assert_eq!(group.get("k"), value(""));
    assert_eq!(group.execute(append("k", "ab")), Reply::Integer(2));
    assert_eq!(group.execute(append("k", "c")), Reply::Integer(3));
    assert_eq!(group.get("k"), value("abc"));
}

#[test]
fn del_counts_the_keys_that_were_there() {
    let mut group = Group::new();
    group.execute(set("a", "1"));
    group.execute(set("b", "1"));
    assert_eq!(group.execute(del(&["a", "a", "b", "c"])), Reply::Integer(2));
    assert_eq!(group.execute(del(&["a"])), Reply::Integer(0));
    assert_eq!(group.pairs(2).len(), 0);
}

#[test]
fn mset_sets_all_pairs_and_the_last_of_a_key_wins() {
    let mut group = Group::new();
    let pairs = [("a", "1"), ("b", "2"), ("a", "3")].map(|(key, text)| (bytes(key), bytes(text)));
    assert_eq!(group.execute(Command::MSet { pairs: pairs.into() }), Reply::Ok);
    assert_eq!((group.get("a"), group.get("b")), (value("3"), value("2")));
}

#[test]
fn reads_of_several_keys_answer_in_order() {
    let mut group = Group::new();
    group.execute(set("a", "1"));
    group.execute(set("b", ""));
    let keys: Vec<Bytes> = ["a", "c", "b", "a"].iter().map(bytes).collect();
    let read = |command| group.machine.read(&command).unwrap();
    assert_eq!(
        read(Command::MGet { keys: keys.clone() }),
        Reply::Array(vec![value("1"), Reply::Nil, value(""), value("1")])
    );
    assert_eq!(read(Command::Exists { keys }), Reply::Integer(3));
    assert_eq!(read(Command::StrLen { key: bytes("a") }), Reply::Integer(1));
    assert_eq!(read(Command::StrLen { key: bytes("c") }), Reply::Integer(0));
    assert_eq!(
        read(Command::Batch { commands: vec![get("a"), get("c")] }),
        Reply::Array(vec![value("1"), Reply::Nil])
    );
    assert_eq!(read(Command::Batch { commands: vec![] }), Reply::Array(vec![]));
}

#[test]
fn incrby_counts_from_zero_in_decimal() {
    let mut group = Group::new();
    assert_eq!(group.execute(increment("k", 5)), Reply::Integer(5));
    assert_eq!(group.execute(increment("k", -7)), Reply::Integer(-2));
    assert_eq!(group.get("k"), value("-2"));
}

#[test]
fn incrby_refuses_what_is_no_integer_and_changes_nothing() {
    let mut group = Group::new();
    for text in ["", " 1", "1 ", "+1", "01", "-0", "1.5", "9223372036854775808", "x"] {
        group.execute(set("k", text));
        assert_eq!(group.execute(increment("k", 1)), Reply::Error(CommandError::NotAnInteger), "{text:?}");
        assert_eq!(group.get("k"), value(text));
    }
    group.execute(set("k", "1".repeat(5000)));
    assert_eq!(group.execute(increment("k", 1)), Reply::Error(CommandError::NotAnInteger));
}

#[test]
fn incrby_refuses_to_overflow() {
    let mut group = Group::new();
    for (text, delta) in [("9223372036854775807", 1), ("-9223372036854775808", -1), ("-1", i64::MIN)] {
        group.execute(set("k", text));
        assert_eq!(group.execute(increment("k", delta)), Reply::Error(CommandError::Overflow));
        assert_eq!(group.get("k"), value(text));
    }
    group.execute(set("k", "-9223372036854775808"));
    assert_eq!(group.execute(increment("k", i64::MAX)), Reply::Integer(-1));
}

#[test]
fn a_batch_is_executed_in_order_and_an_error_stops_nothing() {
    let mut group = Group::new();
    let commands = vec![set("a", "x"), get("a"), increment("a", 1), append("a", "y"), del(&["b"]), get("a")];
    let replies = vec![
        Reply::Ok,
        value("x"),
        Reply::Error(CommandError::NotAnInteger),
        Reply::Integer(2),
        Reply::Integer(0),
        value("xy"),
    ];
    assert_eq!(group.execute(Command::Batch { commands }), Reply::Array(replies));
}

#[test]
fn a_value_does_not_outgrow_its_limit() {
    let mut group = Group::with(Limits { value_bytes_max: 10, ..Limits::default() });
    group.execute(set("k", "123456789"));
    let too_large = Reply::Error(CommandError::ValueTooLarge);
    assert_eq!(group.execute(append("k", "ab")), too_large);
    assert_eq!(group.execute(append("k", "a")), Reply::Integer(10));
    assert_eq!(group.execute(set("k", "12345678901")), too_large);
    let pairs = vec![(bytes("n"), bytes("1")), (bytes("k"), bytes("12345678901"))];
    assert_eq!(group.execute(Command::MSet { pairs }), too_large);
    assert_eq!((group.get("k"), group.get("n")), (value("123456789a"), Reply::Nil));
}

#[test]
fn a_reply_does_not_outgrow_its_limit() {
    let mut group = Group::with(Limits { value_bytes_max: 16 << 20, ..Limits::default() });
    let large = vec![b'x'; 16 << 20];
    group.execute(set("k", &large));
    let too_large = Reply::Error(CommandError::ReplyTooLarge);
    // 528 MiB may be read at once: 32 values of 16 MiB and a few bytes for each.
    let read = |count| group.machine.read(&Command::MGet { keys: vec![bytes("k"); count] }).unwrap();
    assert_eq!(read(34), too_large);
    assert!(matches!(read(3), Reply::Array(values) if values.len() == 3));
    // 80 MiB may come of one entry: the batch's fifth value is too much, and what it would have changed is not changed.
    let swap = |text| conditional("k", text, SetCondition::Always, true);
    let mut commands = vec![get("k"); 4];
    commands.extend([swap("lost"), swap("lost"), Command::StrLen { key: bytes("k") }]);
    let Reply::Array(replies) = group.execute(Command::Batch { commands }) else { panic!("no array") };
    assert!(replies[..4].iter().all(|reply| *reply == value(&large)));
    assert_eq!(replies[4..], [too_large.clone(), too_large, Reply::Integer(16 << 20)]);
}

#[test]
fn a_command_over_a_limit_is_told_which_setting_says_so() {
    let limits = Limits { key_bytes_max: 4, value_bytes_max: 10, ..Limits::default() };
    let check = |command: Command| command.check(&limits);
    assert_eq!(check(set("1234", "1234567890")), Ok(()));
    let key = check(get("12345")).unwrap_err();
    assert_eq!(key, LimitExceeded::Key { bytes: 5, max: 4 });
    assert_eq!(key.to_string(), "a key of 5 bytes is longer than key-bytes-max (4)");
    assert_eq!(check(append("k", "12345678901")), Err(LimitExceeded::Value { bytes: 11, max: 10 }));
    assert_eq!(
        check(Command::Batch { commands: vec![get("12345")] }),
        Err(LimitExceeded::Key { bytes: 5, max: 4 })
    );
    let pair = (bytes("1234"), bytes("1234567890"));
    assert_eq!(check(Command::MSet { pairs: vec![pair.clone(); 2] }), Ok(()));
    assert_eq!(
        check(Command::MSet { pairs: vec![pair; 3] }),
        Err(LimitExceeded::Command { bytes: 42, max: 28 })
    );
    assert_eq!(check(Command::Exists { keys: vec![Bytes::new(); COMMAND_PARTS_MAX] }), Ok(()));
    let count = COMMAND_PARTS_MAX + 1;
    assert_eq!(
        check(Command::Exists { keys: vec![Bytes::new(); count] }),
        Err(LimitExceeded::Parts { count })
    );
    let nested = Command::Batch { commands: vec![Command::Batch { commands: vec![] }] };
    assert_eq!(check(nested), Err(LimitExceeded::NestedBatch));
}

#[test]
fn keys_of_64_kib_are_keys_as_any_other() {
    let mut group = Group::new();
    let long = |last| format!("{}{last}", "k".repeat((64 << 10) - 1));
    let session = group.open();
    for (seq, last) in (1..).zip(["a", "b"]) {
        assert_eq!(group.once(session, seq, 1, append(&long(last), last)), integer(1));
    }
    assert_eq!(group.once(session, 3, 1, set(&"k".repeat(65_502), "short")), Outcome::Reply(Reply::Ok));
    assert_eq!(
        (group.get(&long("a")), group.get(&long("b")), group.get(&long("c"))),
        (value("a"), value("b"), Reply::Nil)
    );
    assert_eq!(group.once(session, 4, 1, del(&[&long("a"), &long("c")])), integer(1));
    assert_eq!((group.get(&long("a")), group.get(&long("b"))), (Reply::Nil, value("b")));
}

#[test]
fn a_lone_get_is_executed_from_what_is_known_and_nothing_else_is() {
    let long = |end: &str| "k".repeat(USER_KEY_PREFIX_BYTES) + end;
    let mut group = Group::new();
    group.execute(set("a", "1"));
    group.execute(set(&long("1"), "of a long key"));
    let stored = |key: &[u8]| Some(group.machine.store().get(key).unwrap());
    assert_eq!(read_known(&get("a"), stored), Some(value("1")));
    assert_eq!(read_known(&get("missing"), stored), Some(Reply::Nil));
    assert_eq!(read_known(&get(&long("1")), stored), Some(value("of a long key")));
    let of_another = || group.pairs(2).into_iter().next_back().map(|(_, record)| record);
    assert_eq!(read_known(&get(&long("2")), |_| Some(of_another())), None, "the record is of another key");
    assert_eq!(read_known(&get("a"), |_| None), None, "nothing is known");
    assert_eq!(read_known(&get("a"), |_| Some(Some("no record".into()))), None, "the state names the damage");
    for several in [Command::MGet { keys: vec![bytes("a")] }, Command::Batch { commands: vec![get("a")] }] {
        assert_eq!(read_known(&several, stored), None, "it may have to be of one moment");
    }
}
