//! The clerk's decisions as transcripts: what happens on the left, what the machine wants done on the right.
//!
//! Servers are called a, b, c. `a < SET k v` sends to a; `1: OK` tells call 1 its outcome.

mod script;

use std::time::Duration;

use pontoon_clerk::machine::{Input, Settings};
use pontoon_wire::resp::Value;
use script::{Script, settings};

const NOTHING: [&str; 0] = [];

#[test]
fn nothing_is_sent_before_the_first_request_and_a_read_needs_no_session() {
    let mut script = Script::new(settings());
    assert_eq!(script.pass(100_000), NOTHING);
    assert_eq!(script.read(1, "GET k"), ["connect a"]);
    assert_eq!(script.connected("a"), ["a < GET k"]);
    assert_eq!(script.reply("a", Value::Null), ["1: Null"]);
    assert_eq!(script.machine.wake_at().map(|_| script.pass(100_000)).unwrap_or_default(), NOTHING);
}

#[test]
fn the_first_write_opens_the_session_and_later_ones_share_it() {
    let mut script = Script::new(settings());
    assert_eq!(script.write(1, "SET k 1"), ["connect a"]);
    assert_eq!(script.write(2, "SET k 2"), NOTHING);
    assert_eq!(script.connected("a"), ["a < SESSION OPEN"]);
    assert_eq!(script.write(3, "SET k 3"), NOTHING);
    let sent = ["a < ONCE 7 1 1 SET k 1", "a < ONCE 7 2 1 SET k 2", "a < ONCE 7 3 1 SET k 3"];
    assert_eq!(script.reply("a", Value::Integer(7)), sent);
}

#[test]
fn the_server_of_a_seed_is_asked_first() {
    let mut script = Script::new(Settings { seed: 4, ..settings() });
    assert_eq!(script.read(1, "GET k"), ["connect b"]);
}

#[test]
fn after_a_lost_reply_the_same_seq_is_sent_to_another_server() {
    let mut script = Script::with_session();
    assert_eq!(script.write(1, "APPEND k x"), ["a < ONCE 7 2 2 APPEND k x"]);
    assert_eq!(script.lost("a"), NOTHING);
    assert_eq!(script.pass(10), ["connect b"]);
    assert_eq!(script.connected("b"), ["b < ONCE 7 2 2 APPEND k x"]);
    assert_eq!(script.reply("b", Value::Integer(2)), ["1: Integer(2)"]);
}

#[test]
fn not_ready_busy_and_stopping_send_the_request_elsewhere() {
    for text in
        ["NOTREADY no majority", "BUSY too many requests", "STOPPING", "ERR max number of clients reached"]
    {
        let mut script = Script::with_session();
        assert_eq!(script.write(1, "SET k 1"), ["a < ONCE 7 2 2 SET k 1"]);
        assert_eq!(script.error("a", text), NOTHING);
        assert_eq!(script.pass(10), ["connect b"]);
        assert_eq!(script.connected("b"), ["b < ONCE 7 2 2 SET k 1"]);
        // No copy can have been executed, so the session's end does no harm.
        assert_eq!(script.error("b", "SESSIONEXPIRED"), NOTHING);
        assert_eq!(script.pass(30), ["b < SESSION OPEN"]);
        assert_eq!(script.reply("b", Value::Integer(8)), ["b < ONCE 8 1 1 SET k 1"]);
        assert_eq!(script.reply("b", Value::OK), ["1: OK"]);
    }
}

#[test]
fn ack_is_the_lowest_seq_without_an_answer_in_whatever_order_answers_come() {
    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    script.write(2, "SET k 2");
    // 2 goes over b and is answered first.
    assert_eq!(script.error("a", "BUSY"), NOTHING);
    assert_eq!(script.reply("a", Value::OK), ["2: OK"]);
    assert_eq!(script.pass(10), ["connect b"]);
    assert_eq!(script.connected("b"), ["b < ONCE 7 2 2 SET k 1"]);
    assert_eq!(script.write(3, "SET k 3"), ["b < ONCE 7 4 2 SET k 3"]);
    assert_eq!(script.reply("b", Value::OK), ["1: OK"]);
    assert_eq!(script.write(4, "SET k 4"), ["b < ONCE 7 5 4 SET k 4"]);
}

#[test]
fn the_window_is_never_exceeded_and_more_wait_in_order() {
    let mut script = Script::with_session();
    for call in 1..=4 {
        assert_eq!(script.write(call, "SET k v"), [format!("a < ONCE 7 {} 2 SET k v", call + 1)]);
    }
    assert_eq!(script.write(5, "SET k 5"), NOTHING);
    assert_eq!(script.read(6, "GET k"), NOTHING, "reads count as well");
    // The lowest seq (2) moves to another server, where nothing is answered; the others are answered.
    assert_eq!(script.error("a", "BUSY"), NOTHING);
    for call in 2..=4 {
        let told = script.reply("a", Value::OK);
        assert_eq!(told[0], format!("{call}: OK"));
        assert!(
            !told.iter().any(|line| line.contains("ONCE")),
            "seq 6 is outside of the window from 2: {told:?}"
        );
    }
    assert!(!script.pass(10).iter().any(|line| line.contains("ONCE")));
    assert_eq!(script.connected("b"), ["b < ONCE 7 2 2 SET k v", "b < GET k"]);
    assert_eq!(script.reply("b", Value::OK), ["1: OK", "b < ONCE 7 6 6 SET k 5"]);
}

#[test]
fn at_the_deadline_a_write_that_was_never_sent_or_always_refused_is_surely_not_executed() {
    let mut script = Script::new(settings());
    script.write(1, "SET k 1");
    let told: Vec<String> = script.pass(10_000).into_iter().filter(|line| line.starts_with("1:")).collect();
    assert_eq!(told, ["1: not executed"]);

    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    script.error("a", "NOTREADY");
    script.lost("a");
    let told: Vec<String> = script.pass(10_000).into_iter().filter(|line| line.starts_with("1:")).collect();
    assert_eq!(told, ["1: not executed"]);
}

#[test]
fn at_the_deadline_a_write_of_which_a_copy_may_live_is_unknown() {
    // Lost after sending; told to be unknown; still on its way.
    for end in [
        Script::lost as fn(&mut Script, &str) -> Vec<String>,
        |script, a| script.error(a, "UNKNOWN"),
        |_, _| Vec::new(),
    ] {
        let mut script = Script::with_session();
        script.write(1, "SET k 1");
        end(&mut script, "a");
        let told: Vec<String> =
            script.pass(10_000).into_iter().filter(|line| line.starts_with("1:")).collect();
        assert_eq!(told, ["1: unknown"]);
    }
}

#[test]
fn a_sure_refusal_does_not_undo_an_earlier_copy_of_unknown_end() {
    for refusal in ["NOTREADY", "BUSY", "STALE", "SESSIONEXPIRED", "NOAUTH"] {
        let mut script = Script::with_session();
        script.write(1, "SET k 1");
        script.lost("a");
        script.pass(10);
        assert_eq!(script.connected("b"), ["b < ONCE 7 2 2 SET k 1"]);
        let mut told = script.error("b", refusal);
        told.extend(script.pass(10_000));
        let told: Vec<String> = told.into_iter().filter(|line| line.starts_with("1:")).collect();
        assert_eq!(told, ["1: unknown"], "{refusal}");
    }
}

#[test]
fn a_result_settles_whatever_came_before() {
    let mut script = Script::with_session();
    script.write(1, "INCR k");
    script.error("a", "UNKNOWN");
    script.pass(10);
    script.connected("b");
    assert_eq!(script.error("b", "ERR value is not an integer"), ["1: rejected ERR value is not an integer"]);
}

#[test]
fn giving_up_moves_ack_so_that_late_copies_are_refused() {
    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    script.lost("a");
    assert_eq!(script.pass(10), ["connect b"]);
    script.lost("b");
    let told = script.pass(10_000);
    assert!(told.contains(&"1: unknown".to_string()), "{told:?}");
    script.write(2, "SET k 2");
    let server = *script.connections.iter().max_by_key(|(_, connection)| connection.0).expect("it tries").0;
    assert_eq!(script.connected(server), [format!("{server} < ONCE 7 3 3 SET k 2")]);
}

#[test]
fn a_late_answer_to_a_call_given_up_is_dropped() {
    let mut settings = settings();
    settings.silence_max = Duration::from_secs(60);
    let mut script = Script::new(settings);
    script.write(1, "SET k 1");
    script.connected("a");
    script.reply("a", Value::Integer(7));
    assert_eq!(script.pass(10_000), ["1: unknown"]);
    assert_eq!(script.write(2, "GET k"), ["a < ONCE 7 2 2 GET k"]);
    assert_eq!(script.reply("a", Value::OK), NOTHING, "this is call 1's");
    assert_eq!(script.reply("a", Value::Null), ["2: Null"]);
}

#[test]
fn expiry_ends_what_may_have_happened_and_moves_the_rest_to_a_new_session() {
    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    script.write(2, "SET k 2");
    script.lost("a");
    script.pass(10);
    script.connected("b");
    script.pass(10);
    // 1 and 2 may have happened; 3 and 4 are new.
    script.write(3, "SET k 3");
    script.write(4, "SET k 4");
    script.write(5, "SET k 5");
    let mut told = Vec::new();
    for _ in 1..=4 {
        told.extend(script.error("b", "SESSIONEXPIRED idle for too long"));
    }
    told.sort();
    assert_eq!(told, ["1: unknown", "2: unknown", "b < SESSION OPEN"]);
    let mut sent = script.reply("b", Value::Integer(8));
    sent.extend(script.pass(10));
    sent.sort();
    assert_eq!(sent[0], "b < ONCE 8 1 1 SET k 5");
    assert_eq!(sent.len(), 3, "3 and 4 follow in the new session: {sent:?}");
    assert!(sent.iter().all(|line| line.starts_with("b < ONCE 8 ")), "{sent:?}");
}

#[test]
fn a_copy_lost_in_an_expired_session_is_never_sent_in_another() {
    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    script.write(2, "SET k 2");
    assert_eq!(script.error("a", "SESSIONEXPIRED"), NOTHING);
    assert_eq!(script.lost("a"), ["2: unknown"]);
    script.pass(10);
    assert_eq!(script.connected("b"), ["b < SESSION OPEN"]);
    assert_eq!(script.reply("b", Value::Integer(8)), ["b < ONCE 8 1 1 SET k 1"]);
}

#[test]
fn an_idle_session_is_kept_alive_at_a_third_of_its_ttl() {
    let mut script = Script::with_session();
    assert_eq!(script.pass(19_999), NOTHING);
    assert_eq!(script.pass(1), ["a < SESSION KEEPALIVE 7"]);
    assert_eq!(script.reply("a", Value::OK), NOTHING);
    script.pass(10_000);
    script.write(1, "SET k 1");
    script.reply("a", Value::OK);
    assert_eq!(script.pass(19_999), NOTHING, "a write keeps it alive as well");
    assert_eq!(script.pass(1), ["a < SESSION KEEPALIVE 7"]);
    assert_eq!(script.error("a", "SESSIONEXPIRED"), NOTHING);
    assert_eq!(script.pass(100_000), NOTHING, "the next write opens a new one");
    assert_eq!(script.write(2, "SET k 2"), ["a < SESSION OPEN"]);
}

#[test]
fn a_keepalive_that_failed_is_repeated_elsewhere() {
    let mut script = Script::with_session();
    script.pass(20_000);
    assert_eq!(script.lost("a"), NOTHING);
    assert_eq!(script.pass(500), ["connect b"]);
    assert_eq!(script.connected("b"), ["b < SESSION KEEPALIVE 7"]);
}

#[test]
fn opening_a_session_is_repeated_until_it_works() {
    let mut script = Script::new(settings());
    script.write(1, "SET k 1");
    script.connected("a");
    assert_eq!(script.error("a", "TOOMANYSESSIONS"), NOTHING);
    assert_eq!(script.pass(10), ["a < SESSION OPEN"]);
    assert_eq!(script.error("a", "NOTREADY"), NOTHING);
    assert_eq!(script.pass(20), ["connect b"]);
    assert_eq!(script.connected("b"), ["b < SESSION OPEN"]);
    assert_eq!(script.lost("b"), NOTHING);
    assert_eq!(script.pass(40), ["connect c"]);
    assert_eq!(script.connected("c"), ["c < SESSION OPEN"]);
    assert_eq!(script.reply("c", Value::Integer(9)), ["c < ONCE 9 1 1 SET k 1"]);
}

#[test]
fn a_server_without_sessions_is_reported_at_once() {
    let mut script = Script::new(settings());
    script.write(1, "SET k 1");
    script.connected("a");
    assert_eq!(
        script.error("a", "ERR unknown command 'SESSION'"),
        ["1: rejected ERR unknown command 'SESSION'"]
    );
}

#[test]
fn reads_are_repeated_freely_and_never_unknown() {
    let mut script = Script::new(settings());
    script.read(1, "GET k");
    script.connected("a");
    assert_eq!(script.lost("a"), NOTHING);
    assert_eq!(script.pass(10), ["connect b"]);
    assert_eq!(script.connected("b"), ["b < GET k"]);
    assert_eq!(script.error("b", "UNKNOWN"), NOTHING);
    let told: Vec<String> = script.pass(10_000).into_iter().filter(|line| line.starts_with("1:")).collect();
    assert_eq!(told, ["1: not executed"]);
}

#[test]
fn servers_that_cannot_be_reached_are_tried_in_turn_with_doubling_rests() {
    let mut script = Script::new(settings());
    assert_eq!(script.read(1, "GET k"), ["connect a"]);
    assert_eq!(script.lost("a"), ["connect b"]);
    assert_eq!(script.lost("b"), ["connect c"]);
    assert_eq!(script.lost("c"), NOTHING, "all have just failed");
    let mut attempts = 0;
    for _ in 0..9_900 {
        let mut told = script.pass(1);
        while let Some(line) = told.pop() {
            let server = line.strip_prefix("connect ").expect("it does nothing but try");
            attempts += 1;
            told.extend(script.lost(server));
        }
    }
    assert!((3 * 20..3 * 60).contains(&attempts), "{attempts} attempts in ten seconds on three servers");
}

#[test]
fn a_server_that_does_not_accept_or_goes_silent_is_given_up() {
    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    assert_eq!(script.pass(2_999), NOTHING);
    assert_eq!(script.pass(1), ["disconnect a"]);
    assert_eq!(script.pass(10), ["connect b"]);
    assert_eq!(script.pass(980), NOTHING);
    assert_eq!(script.pass(20), ["disconnect b", "connect c"]);
    assert_eq!(script.connected("c"), ["c < ONCE 7 2 2 SET k 1"]);
}

#[test]
fn a_slow_server_that_goes_on_answering_is_not_given_up() {
    let mut script = Script::with_session();
    for call in 1..=4 {
        script.write(call, "SET k v");
    }
    for call in 1..=4 {
        assert_eq!(script.pass(2_400), NOTHING);
        assert_eq!(script.reply("a", Value::OK), [format!("{call}: OK")]);
    }
}

#[test]
fn a_wrong_password_is_told_at_once() {
    let mut script = Script::new(settings());
    script.write(1, "SET k 1");
    let told = script.refused("a", "WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(told, ["1: rejected WRONGPASS invalid username-password pair or user is disabled."]);
}

#[test]
fn a_server_whose_connections_are_used_up_is_no_wrong_password() {
    let mut script = Script::new(settings());
    script.read(1, "GET k");
    assert_eq!(script.refused("a", "ERR max number of clients reached"), ["connect b"]);
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_connection() {
    let mut script = Script::with_session();
    assert_eq!(script.reply("a", Value::OK), ["disconnect a"]);
    assert_eq!(script.read(1, "GET k"), ["connect b"]);
}

#[test]
fn what_a_connection_given_up_still_says_is_ignored() {
    let mut script = Script::with_session();
    let old = script.connections["a"];
    script.write(1, "SET k 1");
    script.lost("a");
    assert_eq!(script.step(Input::Reply(old, Value::OK)), NOTHING);
    assert_eq!(script.step(Input::Lost(old, "again".to_string())), NOTHING);
    assert_eq!(script.step(Input::Connected(old)), NOTHING);
    assert_eq!(script.pass(10), ["connect b"]);
}

#[test]
fn closing_finishes_what_was_asked_and_ends_the_session() {
    let mut script = Script::with_session();
    script.write(1, "SET k 1");
    assert_eq!(script.step(Input::Close), NOTHING);
    assert_eq!(script.write(2, "SET k 2"), ["2: not executed"]);
    assert_eq!(script.reply("a", Value::OK), ["1: OK", "a < SESSION CLOSE 7"]);
    assert_eq!(script.reply("a", Value::OK), ["closed"]);
    assert_eq!(script.write(3, "SET k 3"), ["3: not executed"]);
    assert_eq!(script.machine.wake_at(), None);
}

#[test]
fn closing_without_a_session_or_a_server_does_not_wait() {
    assert_eq!(Script::new(settings()).step(Input::Close), ["closed"]);
    let mut script = Script::with_session();
    script.step(Input::Close);
    assert_eq!(script.lost("a"), ["closed"], "a session that is not closed expires");
}
