//! The step function, driven by hand: one member, and what the test says for the others.

use bytes::Bytes;
use pontoon_kv::{Applied, ClusterTime, Command, ConfState, GroupId};
use raft::eraftpb::{self, MessageType};

use super::*;
use crate::{HardState, MessageKind, Persist, SnapshotMeta, convert, io::Request, trim::Needed};

/// The only voter, with this log.
fn alone(entries: Vec<Entry>) -> Replica {
    among(vec![NodeId(1)], entries)
}

/// The first of these voters, with this log.
fn among(voters: Vec<NodeId>, entries: Vec<Entry>) -> Replica {
    configured(Config::new(GroupId(1), NodeId(1), 7), voters, entries)
}

fn configured(config: Config, voters: Vec<NodeId>, entries: Vec<Entry>) -> Replica {
    let conf_state = ConfState { voters, ..ConfState::default() };
    let term = entries.last().map_or(Term(0), |entry| entry.term);
    let restored = Restored {
        hard_state: HardState { term, ..HardState::default() },
        applied: Applied { conf_state, ..Applied::default() },
        trimmed: (Index(0), Term(0)),
        entries,
    };
    Replica::new(config, restored)
}

/// The entries that are to be written now, and the number of the last write.
fn written(replica: &mut Replica) -> (usize, u64) {
    let mut all = Persist::default();
    for output in replica.outputs() {
        if let Output::Persist(persist) = output {
            all.number = persist.number;
            all.entries.extend(persist.entries);
        }
    }
    (all.entries.len(), all.number)
}

/// Found by the simulator: after a restart the cluster clock stood still until its leader's had made up for what the log
/// knew already, if the log ended with a new leader's entry, which has no stamp.
#[test]
fn the_clock_goes_on_from_the_latest_stamp_in_the_log() {
    let stamped = ClusterTime(60_000);
    let entry =
        |index, term, clock| Entry { index: Index(index), term: Term(term), clock, data: Bytes::new() };
    let mut replica = alone(vec![entry(1, 1, stamped), entry(2, 2, ClusterTime(0))]);
    replica.step(Input::Request(Ticket(1), Request::OpenSession));
    let mut stamps = Vec::new();
    for _ in 0..100 {
        replica.step(Input::Tick);
        for output in replica.outputs() {
            if let Output::Persist(persist) = output {
                stamps.extend(persist.entries.iter().map(|entry| entry.clock));
                replica.step(Input::Persisted(persist.number));
            }
        }
    }
    stamps.retain(|stamp| *stamp > ClusterTime(0));
    assert!(!stamps.is_empty(), "what was asked for is in the log");
    assert!(stamps.iter().all(|stamp| *stamp >= stamped), "{stamps:?} are not before {stamped}");
}

#[test]
fn what_comes_in_while_the_leaders_disk_is_at_work_shares_the_next_append() {
    let mut replica = alone(Vec::new());
    while !replica.leads() {
        replica.step(Input::Tick);
        let (_, number) = written(&mut replica);
        replica.step(Input::Persisted(number));
    }
    while let (1.., number) = written(&mut replica) {
        replica.step(Input::Persisted(number));
    }
    let mut ask = |ticket| {
        replica.step(Input::Request(Ticket(ticket), Request::OpenSession));
        written(&mut replica)
    };
    let (entries, first) = ask(1);
    assert_eq!(entries, 1, "a lone request does not wait");
    assert_eq!((ask(2).0, ask(3).0), (0, 0), "those that come after it do");
    replica.step(Input::Persisted(first));
    assert_eq!(written(&mut replica).0, 1, "and then go together, as one entry");
}

/// raft-rs would pass them on, and panics over the term in them.
#[test]
fn what_is_for_the_leader_is_let_go_by_who_does_not_lead() {
    let mut replica = alone(Vec::new());
    let message = |msg_type| eraftpb::Message {
        msg_type,
        from: 2,
        to: 1,
        term: 5,
        entries: vec![eraftpb::Entry::default()].into(),
        ..eraftpb::Message::default()
    };
    replica.step(Input::Message(crate::convert::message_from_raft(message(MessageType::MsgHeartbeat))));
    assert_eq!(replica.status().leader, Some(NodeId(2)));
    for kind in [MessageType::MsgPropose, MessageType::MsgReadIndex, MessageType::MsgTransferLeader] {
        replica.step(Input::Message(crate::convert::message_from_raft(message(kind))));
    }
    let sent = replica.outputs().into_iter().filter_map(|output| match output {
        Output::Send(messages) => Some(messages),
        _ => None,
    });
    let kinds: Vec<_> = sent.flatten().map(|message| message.kind).collect();
    assert_eq!(kinds, [crate::MessageKind::Propose], "only the opening of its own session");
}

/// Found by the simulator: with a timeout shorter than an election, what the leader had no room for was proposed once.
#[test]
fn what_is_lost_twice_on_its_way_to_the_leader_is_proposed_a_third_time_before_the_timeout() {
    for request_timeout_ticks in [20, 200] {
        let config = Config { request_timeout_ticks, ..Config::new(GroupId(1), NodeId(1), 7) };
        let mut replica = configured(config, vec![NodeId(1), NodeId(2)], Vec::new());
        let heartbeat = |replica: &mut Replica| {
            let (msg_type, from, term) = (MessageType::MsgHeartbeat, 2, 5);
            hear(replica, eraftpb::Message { msg_type, from, term, ..eraftpb::Message::default() })
        };
        heartbeat(&mut replica);
        replica.step(Input::Request(Ticket(1), Request::OpenSession));
        let mut passed_on = 0;
        for _ in 1..request_timeout_ticks {
            let said = sent(&mut replica).into_iter().chain(heartbeat(&mut replica));
            let proposals = said.filter(|message| message.kind == MessageKind::Propose);
            passed_on += proposals.map(|message| message.entries.len()).sum::<usize>();
            replica.step(Input::Tick);
        }
        assert!(passed_on >= 3, "{passed_on} times in {request_timeout_ticks} ticks");
    }
}

#[test]
fn a_leader_knows_which_of_its_entries_its_followers_need() {
    let entry = |index| Entry { index: Index(index), term: Term(1), ..Entry::default() };
    let mut replica = among(vec![NodeId(1), NodeId(2), NodeId(3)], (1..=9).map(entry).collect());
    let needed = |answering: Option<u64>, silent: Option<u64>| Needed {
        answering: answering.map(Index),
        silent: silent.map(Index),
    };
    assert_eq!(replica.needed_by_followers(), needed(None, None), "a follower need not know");
    replica.raft.raft.become_candidate();
    replica.raft.raft.become_leader();
    assert_eq!(replica.needed_by_followers(), needed(None, Some(9)), "nobody has answered");
    let term = replica.raft.raft.term;
    let acknowledges = |replica: &mut Replica, from, index| {
        let msg_type = MessageType::MsgAppendResponse;
        hear(replica, eraftpb::Message { msg_type, from, term, index, ..eraftpb::Message::default() });
    };
    acknowledges(&mut replica, 2, 7);
    acknowledges(&mut replica, 3, 4);
    assert_eq!(replica.needed_by_followers(), needed(Some(4), None));
    for _ in 0..40 {
        acknowledges(&mut replica, 2, 7);
        replica.step(Input::Tick);
    }
    assert_eq!(replica.needed_by_followers(), needed(Some(7), Some(4)), "one has been silent for long");
    replica.raft.mut_store().trim((Index(4), Term(1)));
    assert_eq!(replica.needed_by_followers(), needed(Some(7), Some(4)));
    replica.raft.mut_store().trim((Index(5), Term(1)));
    assert_eq!(replica.needed_by_followers(), needed(Some(7), None), "it needs a snapshot in any case");
}

/// A member says something; of its kind's fields the test gives those that matter.
fn hear(replica: &mut Replica, message: eraftpb::Message) -> Vec<Message> {
    let message = eraftpb::Message { to: 1, ..message };
    replica.step(Input::Message(convert::message_from_raft(message)));
    sent(replica)
}

/// What the replica says; its disk is quick.
fn sent(replica: &mut Replica) -> Vec<Message> {
    let mut sent = Vec::new();
    loop {
        let before = sent.len();
        let mut wrote = false;
        for output in replica.outputs() {
            match output {
                Output::Send(messages) => sent.extend(messages),
                Output::Persist(persist) => {
                    wrote = true;
                    replica.step(Input::Persisted(persist.number));
                }
                _ => {}
            }
        }
        if !wrote && sent.len() == before {
            return sent;
        }
    }
}

/// This member has all of the log.
fn acknowledge(replica: &mut Replica, from: u64) -> Vec<Message> {
    let last = replica.status().last.0;
    acknowledge_up_to(replica, from, last)
}

fn acknowledge_up_to(replica: &mut Replica, from: u64, index: u64) -> Vec<Message> {
    let (msg_type, term) = (MessageType::MsgAppendResponse, replica.raft.raft.term);
    hear(replica, eraftpb::Message { msg_type, from, term, index, ..eraftpb::Message::default() })
}

/// A member passes a proposal on.
fn pass_on(replica: &mut Replica, from: u64) {
    let entry = eraftpb::Entry { data: "block".into(), ..eraftpb::Entry::default() };
    let (msg_type, entries) = (MessageType::MsgPropose, vec![entry].into());
    hear(replica, eraftpb::Message { msg_type, from, entries, ..eraftpb::Message::default() });
}

/// The first of so many voters, which leads and has committed in its term.
fn leader_of(voters: u64) -> Replica {
    let mut replica = among((1..=voters).map(NodeId).collect(), Vec::new());
    replica.raft.raft.become_candidate();
    replica.raft.raft.become_leader();
    sent(&mut replica);
    while replica.status().commit < replica.status().last {
        (2..=voters).for_each(|voter| drop(acknowledge(&mut replica, voter)));
    }
    replica
}

fn ask_for_a_read_index(replica: &mut Replica, from: u64, term: u64) -> Vec<Message> {
    let entry = eraftpb::Entry { data: "round".into(), ..eraftpb::Entry::default() };
    let msg_type = MessageType::MsgReadIndex;
    hear(
        replica,
        eraftpb::Message { msg_type, from, term, entries: vec![entry].into(), ..Default::default() },
    )
}

fn kinds(messages: &[Message]) -> Vec<MessageKind> {
    messages.iter().map(|message| message.kind).collect()
}

#[test]
fn a_question_of_who_makes_a_majority_with_the_leader_confirms_it() {
    let mut replica = leader_of(3);
    let term = replica.status().term.0;
    let answer = ask_for_a_read_index(&mut replica, 2, term);
    assert_eq!(kinds(&answer), [MessageKind::ReadIndexResponse]);
    assert_eq!((answer[0].to, answer[0].index), (NodeId(2), replica.status().commit));
    assert_eq!(&answer[0].entries[0].data[..], b"round");
}

#[test]
fn no_question_confirms_a_leader_that_does_not_make_a_majority_with_who_asks() {
    let mut replica = leader_of(5);
    let term = replica.status().term.0;
    let round = ask_for_a_read_index(&mut replica, 2, term);
    assert_eq!(kinds(&round), [MessageKind::Heartbeat; 4]);
}

/// Leads, has applied its log, and has not just started.
fn leader_that_may_read(voters: u64) -> Replica {
    let mut replica = leader_of(voters);
    replica.now = 100;
    replica.step(Input::Applied { index: replica.status().commit, outcomes: Vec::new() });
    replica
}

fn read(replica: &mut Replica) {
    replica.step(Input::Request(Ticket(1), Request::Plain(Command::Get { key: "k".into() })));
}

/// Whom the replica asks whether it still leads, and the round's name.
fn asked(replica: &mut Replica) -> (Vec<u64>, Bytes) {
    let asked = sent(replica);
    assert!(asked.iter().all(|message| message.kind == MessageKind::Heartbeat), "{asked:?}");
    let round = asked.first().map(|message| message.context.clone()).unwrap_or_default();
    let members: std::collections::BTreeSet<_> = asked.iter().map(|message| message.to.0).collect();
    (members.into_iter().collect(), round)
}

/// Leads three voters, of which the third was quick: its answer to this round is what a lone read waits for.
fn leader_with_a_lone_read() -> (Replica, Bytes) {
    let mut replica = leader_that_may_read(3);
    read(&mut replica);
    let (_, round) = asked(&mut replica);
    answer_round(&mut replica, 3, &round);
    read(&mut replica);
    let (few, round) = asked(&mut replica);
    assert_eq!((few, replica.reads.len()), (vec![3], 1));
    (replica, round)
}

fn answer_round(replica: &mut Replica, from: u64, round: &Bytes) {
    let (msg_type, term, context) =
        (MessageType::MsgHeartbeatResponse, replica.raft.raft.term, round.clone());
    let answer = eraftpb::Message { msg_type, from, term, context, ..eraftpb::Message::default() };
    assert_eq!(hear(replica, answer), []);
}

#[test]
fn a_lone_read_asks_only_those_who_confirmed_a_round_in_the_same_tick() {
    for (voters, others, quick) in [(3, vec![2, 3], vec![3]), (5, vec![2, 3, 4, 5], vec![3, 5])] {
        let mut replica = leader_that_may_read(voters);
        read(&mut replica);
        let (everybody, round) = asked(&mut replica);
        assert_eq!(everybody, others, "nobody is known to be quick");
        quick.iter().for_each(|member| answer_round(&mut replica, *member, &round));
        read(&mut replica);
        let (few, round) = asked(&mut replica);
        assert_eq!(few, quick);
        assert_eq!(replica.reads.len(), 1, "their answers are waited for");
        quick.iter().for_each(|member| answer_round(&mut replica, *member, &round));
        assert_eq!(replica.reads.len(), 0);
        replica.step(Input::Tick);
        read(&mut replica);
        assert_eq!(asked(&mut replica).0, others, "they were quick a tick ago");
    }
}

#[test]
fn reads_that_come_together_ask_everybody() {
    let (mut replica, round) = leader_with_a_lone_read();
    answer_round(&mut replica, 3, &round);
    read(&mut replica);
    read(&mut replica);
    assert_eq!(asked(&mut replica).0, [2, 3]);
}

#[test]
fn who_is_quick_no_more_keeps_a_read_waiting_until_that_shows_and_for_a_tick_at_most() {
    for it_shows in [Input::Tick, Input::Unreachable(NodeId(3))] {
        let (mut replica, round) = leader_with_a_lone_read();
        replica.step(it_shows); // A tick without a heartbeat of its own: those are two ticks apart.
        assert_eq!(asked(&mut replica), (vec![2], round.clone()));
        answer_round(&mut replica, 2, &round);
        assert_eq!(replica.reads.len(), 0);
    }
}

#[test]
fn a_read_that_comes_while_a_lone_one_waits_asks_everybody_for_both() {
    let (mut replica, _) = leader_with_a_lone_read();
    read(&mut replica);
    let (everybody, second) = asked(&mut replica);
    assert_eq!(everybody, [2, 3]);
    replica.step(Input::Tick);
    assert_eq!(asked(&mut replica).0, [0_u64; 0], "nobody is asked for the first again");
    answer_round(&mut replica, 2, &second);
    assert_eq!(replica.reads.len(), 0);
}

#[test]
fn who_leads_no_more_asks_nobody_whom_it_has_spared() {
    let (mut replica, round) = leader_with_a_lone_read();
    let (msg_type, term) = (MessageType::MsgHeartbeat, replica.raft.raft.term + 1);
    replica.step(Input::Message(convert::message_from_raft(eraftpb::Message {
        msg_type,
        from: 2,
        to: 1,
        term,
        ..eraftpb::Message::default()
    })));
    replica.step(Input::Tick);
    assert!(sent(&mut replica).iter().all(|message| message.context != round));
}

#[test]
fn no_question_of_another_term_confirms_a_leader() {
    let mut replica = leader_of(3);
    let term = replica.status().term.0;
    for other in [0, term - 1, term + 1] {
        let round = ask_for_a_read_index(&mut replica, 2, other);
        assert!(!kinds(&round).contains(&MessageKind::ReadIndexResponse), "of term {other}: {round:?}");
    }
}

#[test]
fn no_question_is_answered_before_the_leader_has_committed_in_its_term() {
    let mut replica = among(vec![NodeId(1), NodeId(2), NodeId(3)], Vec::new());
    replica.raft.raft.become_candidate();
    replica.raft.raft.become_leader();
    sent(&mut replica);
    let term = replica.status().term.0;
    assert_eq!(ask_for_a_read_index(&mut replica, 2, term), []);
    let round = acknowledge(&mut replica, 3);
    assert!(kinds(&round).contains(&MessageKind::Heartbeat), "it was not forgotten: {round:?}");
}

#[test]
fn a_followers_question_is_of_its_term() {
    let mut replica = among(vec![NodeId(1), NodeId(2), NodeId(3)], Vec::new());
    let msg_type = MessageType::MsgHeartbeat;
    hear(&mut replica, eraftpb::Message { msg_type, from: 2, term: 5, ..eraftpb::Message::default() });
    replica.step(Input::Request(Ticket(1), Request::Plain(Command::Get { key: "k".into() })));
    let asked = sent(&mut replica).into_iter().find(|message| message.kind == MessageKind::ReadIndex);
    assert_eq!(asked.map(|asked| (asked.to, asked.term)), Some((NodeId(2), Term(5))));
}

#[test]
fn a_commit_is_told_at_once_to_who_waits_for_it() {
    let mut replica = leader_of(3);
    pass_on(&mut replica, 3);
    let told = acknowledge(&mut replica, 2);
    assert_eq!(kinds(&told), [MessageKind::Append]);
    assert_eq!((told[0].to, told[0].commit), (NodeId(3), replica.status().last));
    assert_eq!(acknowledge(&mut replica, 3), [], "the other hears of it with the next append or heartbeat");
}

/// Only the last was waited for: the client of the first had its answer with that of the second.
#[test]
fn a_commit_is_told_at_once_although_who_waits_for_it_waits_for_more() {
    let mut replica = leader_of(3);
    for _ in 0..2 {
        pass_on(&mut replica, 3);
    }
    let first = replica.status().last.0 - 1;
    let told = acknowledge_up_to(&mut replica, 2, first);
    assert_eq!(kinds(&told), [MessageKind::Append]);
    assert_eq!((told[0].to, told[0].commit), (NodeId(3), Index(first)));
}

#[test]
fn a_member_that_may_lack_what_it_is_to_read_gets_an_append_with_the_answer() {
    let mut replica = leader_of(3);
    replica.step(Input::Request(Ticket(1), Request::OpenSession));
    sent(&mut replica);
    assert_eq!(acknowledge(&mut replica, 2), [], "nobody waits for it");
    let term = replica.status().term.0;
    let told = ask_for_a_read_index(&mut replica, 3, term);
    assert_eq!(kinds(&told), [MessageKind::ReadIndexResponse, MessageKind::Append]);
    assert_eq!((told[1].to, told[1].commit), (NodeId(3), told[0].index));
    acknowledge(&mut replica, 3);
    assert_eq!(kinds(&ask_for_a_read_index(&mut replica, 3, term)), [MessageKind::ReadIndexResponse]);
}

/// Found by the simulator (604146): the message left like any other, without the snapshot's contents.
#[test]
fn a_snapshot_goes_its_own_way_although_the_leader_has_stepped_down_meanwhile() {
    let mut replica = leader_of(3);
    let (term, last) = (replica.status().term, replica.status().last);
    replica.raft.mut_store().trim((last, term));
    let progress = replica.raft.raft.mut_prs().get_mut(2).expect("a member");
    progress.matched = 0;
    progress.become_probe();
    let meta = SnapshotMeta { index: last, term, ..SnapshotMeta::default() };
    replica.step(Input::SnapshotBuilt { to: NodeId(2), meta });
    let (msg_type, term) = (MessageType::MsgHeartbeat, term.0 + 1);
    let later = eraftpb::Message { msg_type, from: 3, to: 1, term, ..eraftpb::Message::default() };
    replica.step(Input::Message(convert::message_from_raft(later)));
    let outputs = replica.outputs();
    assert_eq!(replica.status().role, Role::Follower);
    assert!(outputs.iter().any(|output| matches!(output, Output::SendSnapshot(_))), "{outputs:?}");
    for output in outputs {
        match output {
            Output::Persist(persist) => replica.step(Input::Persisted(persist.number)),
            Output::Send(messages) => assert!(!kinds(&messages).contains(&MessageKind::Snapshot)),
            _ => {}
        }
    }
    assert!(!kinds(&sent(&mut replica)).contains(&MessageKind::Snapshot));
}
