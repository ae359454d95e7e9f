//! Messages between members: order, batches, bounds, lost and restored connections.

mod peer_support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use peer_support::*;
use pontoon_kv::{Entry, NodeId};
use pontoon_replica::{Message, MessageKind};

const MIB: usize = 1 << 20;

#[test]
fn messages_arrive_complete_in_order_and_in_batches() {
    keep_log();
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    const COUNT: u64 = 20_000;
    let data = |index: u64| Bytes::from(vec![index as u8; (index % 700) as usize]);
    let sent: Vec<Message> = (0..COUNT).map(|index| append(one.node, two.node, index, data(index))).collect();
    for turn in sent.chunks(100) {
        one.peers.send(GROUP, turn.to_vec());
    }
    let events = two.events_until("all arrive", |events| received(events).len() as u64 >= COUNT);
    assert_eq!(received(&events), sent);
    assert!((events.len() as u64) < COUNT / 10, "{COUNT} messages came in {} events", events.len());
    one.stop();
    two.stop();
}

#[test]
fn each_of_three_members_reaches_each_other() {
    let settings = members(3);
    let running: Vec<Member> = settings.iter().map(Member::start).collect();
    for from in &running {
        for to in running.iter().filter(|to| to.node != from.node) {
            from.reaches(to);
        }
    }
    // One call, two destinations.
    let one = &running[0];
    let both = [2, 3].map(|to| message(MessageKind::RequestVote, one.node, NodeId(to), to));
    one.peers.send(GROUP, both.to_vec());
    for (to, expected) in running[1..].iter().zip(both) {
        let events = to.events_until("the vote request", |events| !received(events).is_empty());
        assert_eq!(received(&events), [expected]);
    }
    running.into_iter().for_each(Member::stop);
}

#[test]
fn short_messages_overtake_megabytes_of_appends() {
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    two.set_full(true);
    const APPENDS: usize = 60;
    let data = Bytes::from(vec![7; MIB]);
    for index in 0..APPENDS as u64 {
        one.peers.send(GROUP, vec![append(one.node, two.node, index, data.clone())]);
    }
    one.peers.send(GROUP, vec![message(MessageKind::Heartbeat, one.node, two.node, 0)]);
    two.set_full(false);
    let events = two.events_until("all arrive", |events| received(events).len() > APPENDS);
    let messages = received(&events);
    let heartbeat = messages.iter().position(|message| message.kind == MessageKind::Heartbeat).unwrap();
    assert!(heartbeat < APPENDS, "the heartbeat came last");
    let appends = messages.iter().filter(|message| message.kind == MessageKind::Append);
    assert!(appends.map(|message| message.index.0).eq(0..APPENDS as u64), "appends keep their order");
    one.stop();
    two.stop();
}

#[test]
fn a_restarted_member_is_reached_again_and_the_loss_is_reported() {
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    two.reaches(&one);
    two.stop();
    one.events_until("the loss is reported", |events| unreachable(events) > 0);
    let two = Member::start(&settings[1]);
    let restarted = Instant::now();
    two.reaches(&one);
    one.reaches(&two);
    assert!(restarted.elapsed() < Duration::from_secs(3), "it took {:?}", restarted.elapsed());
    one.stop();
    two.stop();
}

#[test]
fn what_waits_for_a_member_that_does_not_read_is_bounded_and_sending_stays_fast() {
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    two.set_full(true);
    const APPENDS: usize = 400;
    let data = Bytes::from(vec![7; MIB]);
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for index in 0..APPENDS as u64 {
        let sending = Instant::now();
        one.peers.send(GROUP, vec![append(one.node, two.node, index, data.clone())]);
        slowest = slowest.max(sending.elapsed());
    }
    // A report may be due a moment later: one was made while the connection was set up.
    let more = append(one.node, two.node, APPENDS as u64, data.clone());
    let mut events = Vec::new();
    await_that("a report", || {
        one.peers.send(GROUP, vec![more.clone()]);
        events.extend(one.take_events());
        unreachable(&events) > 0
    });
    let reports = unreachable(&events);
    let periods = begun.elapsed().as_millis() as usize / 100 + 1;
    assert!(slowest < Duration::from_secs(1), "one call took {slowest:?}");
    assert!((1..=periods).contains(&reports), "{reports} reports in {periods} periods of 100 ms");
    two.set_full(false);
    // What is sent once there is room again marks the end.
    let last = message(MessageKind::Append, one.node, two.node, u64::MAX - 1);
    let is_last = |message: &Message| message.index == last.index;
    await_that("the queue is through", || {
        one.peers.send(GROUP, vec![last.clone()]);
        two.messages().iter().any(is_last)
    });
    let arrived = received(&two.take_events()).iter().filter(|message| !is_last(message)).count();
    // 64 MiB in the queue; the rest are the sockets' buffers and the write at hand.
    assert!((64..=128).contains(&arrived), "{arrived} MiB waited");
    one.stop();
    two.stop();
}

#[test]
fn sending_to_a_member_that_is_not_there_is_fast_and_reported() {
    let settings = members(2);
    let one = Member::start(&settings[0]);
    let begun = Instant::now();
    for index in 0..100_000 {
        one.peers.send(GROUP, vec![message(MessageKind::Heartbeat, one.node, NodeId(2), index)]);
    }
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    let reports = unreachable(&one.take_events());
    assert!((1..=elapsed.as_millis() as usize / 100 + 1).contains(&reports), "{reports} in {elapsed:?}");
    one.stop();
}

#[test]
fn a_forwarded_proposal_of_many_entries_arrives_in_parts() {
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    let entry = |byte: u8| Entry { data: Bytes::from(vec![byte; MIB / 3]), ..Entry::default() };
    let entries: Vec<Entry> = (0..10).map(entry).collect();
    let proposal =
        Message { entries: entries.clone(), ..message(MessageKind::Propose, one.node, two.node, 0) };
    one.peers.send(GROUP, vec![proposal]);
    let all = |messages: Vec<Message>| -> Vec<Entry> {
        messages.into_iter().flat_map(|message| message.entries).collect()
    };
    let events = two.events_until("all entries", |events| all(received(events)).len() >= 10);
    assert!(received(&events).len() > 1);
    assert_eq!(all(received(&events)), entries);
    one.stop();
    two.stop();
}

#[test]
fn what_is_queued_when_a_member_stops_still_goes_out() {
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    let last = message(MessageKind::TimeoutNow, one.node, two.node, 5);
    one.peers.send(GROUP, vec![last.clone()]);
    one.stop();
    let events = two.events_until("the last word", |events| !received(events).is_empty());
    assert_eq!(received(&events), [last]);
    two.stop();
}
