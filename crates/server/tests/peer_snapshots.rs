//! Snapshots between members: whole or not at all, beside the messages.

mod peer_support;

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use peer_support::*;
use pontoon_kv::Index;
use pontoon_replica::{Message, MessageKind};
use pontoon_server::peer::PeerEvent;

const BLOCK_BYTES: usize = 256 << 10;

fn blocks(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| Bytes::from(vec![number as u8; BLOCK_BYTES - number])).collect()
}

/// How transfers ended, as their sender was told.
fn ends(events: &[PeerEvent]) -> Vec<bool> {
    let ends = events.iter().filter_map(|event| match event {
        PeerEvent::SnapshotSent { ok, .. } => Some(*ok),
        _ => None,
    });
    ends.collect()
}

fn arrivals(events: &[PeerEvent]) -> Vec<Message> {
    let arrivals = events.iter().filter_map(|event| match event {
        PeerEvent::SnapshotReceived { group: GROUP, message } => Some((**message).clone()),
        _ => None,
    });
    arrivals.collect()
}

fn end_of_transfer(sender: &Member) -> Vec<bool> {
    ends(&sender.events_until("the transfer ends", |events| !ends(events).is_empty()))
}

fn pair() -> (Member, Member) {
    keep_log();
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    two.reaches(&one);
    (one, two)
}

#[test]
fn a_snapshot_arrives_whole_while_messages_go_both_ways() {
    let (one, two) = pair();
    // The source waits after its fifth block until messages have gone there and back.
    let (go_on, wait) = mpsc::channel();
    let contents = blocks(40);
    let mut rest = contents.clone().into_iter().enumerate();
    let source = Blocks(move || {
        let next = rest.next();
        if matches!(next, Some((5, _))) {
            wait.recv().map_err(|error| error.to_string())?;
        }
        Ok(next.map(|(_, block)| block))
    });
    let announced = snapshot_message(one.node, two.node, 3, 100);
    one.peers.send_snapshot(GROUP, announced.clone(), Box::new(source));
    await_that("it has begun", || *two.snapshots.stages_open.lock().unwrap() == 1);
    for (from, to) in [(&one, &two), (&two, &one)] {
        let heartbeat = message(MessageKind::Heartbeat, from.node, to.node, 1);
        from.peers.send(GROUP, vec![heartbeat.clone()]);
        let events = to.events_until("a heartbeat meanwhile", |events| !received(events).is_empty());
        assert_eq!((received(&events), arrivals(&events).len()), (vec![heartbeat], 0));
    }
    go_on.send(()).unwrap();
    let events = two.events_until("the snapshot", |events| !arrivals(events).is_empty());
    assert_eq!(arrivals(&events), [announced]);
    assert_eq!(end_of_transfer(&one), [true]);
    assert_eq!(two.snapshots.finished(), [(Index(100), contents)]);
    one.stop();
    two.stop();
}

#[test]
fn after_a_cut_the_sender_knows_and_the_next_attempt_succeeds() {
    let settings = members(2);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    // An endless source: only the cut ends it.
    let block = Bytes::from(vec![1; BLOCK_BYTES]);
    let source_of_all = Blocks(move || Ok(Some(block.clone())));
    let (sender, third) = mpsc::channel();
    two.snapshots.on_block(move |number| {
        if number == 3 {
            sender.send(()).map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), Box::new(source_of_all));
    third.recv_timeout(PATIENCE).unwrap();
    two.stop();
    assert_eq!(end_of_transfer(&one), [false]);
    let two = Member::start(&settings[1]);
    one.reaches(&two);
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 101), source(blocks(9)));
    assert_eq!(end_of_transfer(&one), [true]);
    assert_eq!(two.snapshots.finished(), [(Index(101), blocks(9))]);
    one.stop();
    two.stop();
}

#[test]
fn a_failing_stage_or_source_fails_the_transfer_and_nothing_is_received() {
    let (one, two) = pair();
    two.snapshots.on_block(|number| if number == 6 { Err("the disk is full".to_string()) } else { Ok(()) });
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), source(blocks(40)));
    assert_eq!(end_of_transfer(&one), [false]);
    two.snapshots.on_block(|_| Ok(()));
    let mut left = 3;
    let failing = Blocks(move || {
        left -= 1;
        if left == 0 { Err("a damaged table".to_string()) } else { Ok(Some(Bytes::from_static(b"block"))) }
    });
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), Box::new(failing));
    assert_eq!(end_of_transfer(&one), [false]);
    let panicking = Blocks(|| panic!("a bug in the source"));
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), Box::new(panicking));
    assert_eq!(end_of_transfer(&one), [false]);
    await_that("the reasons are logged", || {
        ["the disk is full", "a damaged table", "reading it ended in a panic"]
            .iter()
            .all(|why| log().contains(why))
    });
    assert!(arrivals(&two.take_events()).is_empty() && two.snapshots.finished().is_empty());
    one.stop();
    two.stop();
}

#[test]
fn a_newer_snapshot_takes_the_place_of_an_older_one_and_not_the_other_way_round() {
    keep_log();
    let settings = members(3);
    let running: Vec<Member> = settings.iter().map(Member::start).collect();
    let [one, two, three] = &running[..] else { unreachable!("three members") };
    one.reaches(two);
    three.reaches(two);
    let block = Bytes::from(vec![1; BLOCK_BYTES]);
    let endless = || {
        Box::new(Blocks({
            let block = block.clone();
            move || Ok(Some(block.clone()))
        }))
    };
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), endless());
    await_that("it has begun", || *two.snapshots.stages_open.lock().unwrap() == 1);
    // A former leader's.
    three.peers.send_snapshot(GROUP, snapshot_message(three.node, two.node, 2, 90), source(blocks(5)));
    assert_eq!(end_of_transfer(three), [false]);
    // The next leader's.
    three.peers.send_snapshot(GROUP, snapshot_message(three.node, two.node, 4, 110), source(blocks(5)));
    assert_eq!(end_of_transfer(three), [true]);
    assert_eq!(end_of_transfer(one), [false]);
    assert_eq!(two.snapshots.finished(), [(Index(110), blocks(5))]);
    running.into_iter().for_each(Member::stop);
}

#[test]
fn an_empty_snapshot_and_one_to_an_absent_member_end_as_well() {
    let settings = members(3);
    let (one, two) = (Member::start(&settings[0]), Member::start(&settings[1]));
    one.reaches(&two);
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), source(Vec::new()));
    assert_eq!(end_of_transfer(&one), [true]);
    let absent = snapshot_message(one.node, settings[2].node, 3, 100);
    one.peers.send_snapshot(GROUP, absent, source(blocks(5)));
    assert_eq!(end_of_transfer(&one), [false]);
    one.stop();
    two.stop();
}

#[test]
fn a_receiver_that_makes_no_progress_is_given_up_and_the_source_released() {
    let (one, two) = pair();
    let (release, wait) = mpsc::channel::<()>();
    two.snapshots.on_block(move |_| wait.recv().map_err(|error| error.to_string()));
    let (held, released) = mpsc::channel::<()>();
    let block = Bytes::from(vec![1; BLOCK_BYTES]);
    let endless = Blocks(move || {
        // Dropped with the source.
        let _ = &held;
        Ok(Some(block.clone()))
    });
    let begun = Instant::now();
    one.peers.send_snapshot(GROUP, snapshot_message(one.node, two.node, 3, 100), Box::new(endless));
    assert_eq!(end_of_transfer(&one), [false]);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(released.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
    drop(release);
    one.stop();
    two.stop();
}
