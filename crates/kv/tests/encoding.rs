//! The byte forms: they round-trip, and a decoder stands whatever it is given.

mod common;

use ::bytes::Bytes;
use common::*;
use pontoon_kv::{
    Applied, Block, BlockBuilder, CallId, ClusterTime, Command, CommandError, ConfState, DecodeError,
    Encoding, Index, NodeId, Proposal, Reply, SessionId, SessionKind, SetCondition, Term,
};

/// One of every shape.
fn commands() -> Vec<Command> {
    let key = || bytes("key");
    let mut commands = vec![
        get("key"),
        Command::StrLen { key: key() },
        Command::Exists { keys: vec![] },
        Command::MGet { keys: vec![key(), bytes(""), bytes([0xff; 200])] },
        append("key", ""),
        del(&["a", "b"]),
        Command::MSet { pairs: vec![(key(), bytes("1")), (bytes(""), bytes(""))] },
        increment("key", i64::MIN),
    ];
    for condition in [SetCondition::Always, SetCondition::IfAbsent, SetCondition::IfPresent] {
        for return_old in [false, true] {
            commands.push(Command::Set { key: key(), value: bytes("value"), condition, return_old });
        }
    }
    commands.push(Command::Batch { commands: commands.clone() });
    commands.push(Command::Batch { commands: vec![] });
    commands
}

fn replies() -> Vec<Reply> {
    let mut replies =
        vec![Reply::Ok, Reply::Nil, Reply::Integer(i64::MIN), Reply::Integer(0), value(""), value([7; 300])];
    for error in [
        CommandError::NotAnInteger,
        CommandError::Overflow,
        CommandError::ValueTooLarge,
        CommandError::ReplyTooLarge,
    ] {
        replies.push(Reply::Error(error));
    }
    let nested = vec![Reply::Ok, Reply::Array(replies.clone()), Reply::Array(vec![])];
    replies.extend([Reply::Array(vec![]), Reply::Array(nested)]);
    replies
}

fn proposals() -> Vec<Proposal> {
    let call = CallId { node: NodeId(300), nonce: u64::MAX };
    let session = SessionId(9 << 16 | 3);
    let mut proposals = vec![
        Proposal::Open { call, kind: SessionKind::Client },
        Proposal::Open { call, kind: SessionKind::Relay },
        Proposal::KeepAlive { call, session },
        Proposal::Close { call, session },
    ];
    for command in commands() {
        proposals.push(once(session, 1, u64::MAX, command.clone()));
        proposals.push(relay(session, 1 << 40, 0, u32::MAX, command));
    }
    proposals
}

fn states() -> Vec<Applied> {
    let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
    let conf_state = ConfState {
        voters: nodes(&[1, 2, 300]),
        learners: nodes(&[4]),
        voters_outgoing: nodes(&[]),
        learners_next: nodes(&[u64::MAX]),
        auto_leave: true,
    };
    vec![
        Applied::default(),
        Applied { index: Index(1 << 50), term: Term(7), clock: ClusterTime(1), conf_state },
    ]
}

fn round_trips<T: Encoding + PartialEq + std::fmt::Debug>(values: Vec<T>) {
    for value in values {
        let data = value.encode();
        assert_eq!(T::decode(data.clone()).as_ref(), Ok(&value));
        for len in 0..data.len() {
            assert!(T::decode(data.slice(..len)).is_err(), "{value:?} cut to {len} bytes");
        }
        assert_eq!(T::decode([&data[..], b"\0"].concat().into()), Err(DecodeError::Trailing(1)), "{value:?}");
        let newer = [&[data[0] + 1], &data[1..]].concat();
        assert!(matches!(T::decode(newer.into()), Err(DecodeError::Version { found: 2, known: 1, .. })));
    }
}

#[test]
fn everything_round_trips_and_nothing_shorter_longer_or_newer_is_accepted() {
    round_trips(commands());
    round_trips(replies());
    round_trips(proposals());
    round_trips(states());
    round_trips(states().into_iter().map(|applied| applied.conf_state).collect());
}

#[test]
fn a_block_round_trips_and_knows_its_size_while_it_is_built() {
    let proposals = proposals();
    let mut builder = BlockBuilder::new();
    assert!(builder.is_empty());
    for (count, proposal) in (1..).zip(&proposals) {
        let before = builder.bytes();
        builder.push(proposal);
        assert_eq!((builder.len(), builder.bytes()), (count, before + proposal.encode().len() - 1));
    }
    let bytes = builder.bytes();
    let block = builder.finish();
    assert_eq!(block.len(), bytes);
    assert_eq!(block, Block::encode(&proposals));
    assert_eq!(Block::decode(block.clone()).unwrap(), proposals);
    for len in 0..block.len() {
        assert!(Block::decode(block.slice(..len)).is_err(), "cut to {len} bytes");
    }
}

#[test]
fn a_block_holds_up_to_65535_proposals_and_not_none() {
    let proposal = once(SessionId(1), 1, 1, get(""));
    let full = vec![proposal; Block::PROPOSALS_MAX];
    assert_eq!(Block::decode(Block::encode(&full)).unwrap().len(), 65_535);
    assert!(Block::decode(Bytes::from_static(&[1, 0, 0])).is_err());
    assert!(std::panic::catch_unwind(|| Block::encode(&[])).is_err());
    let beyond = [&full[..], &full[..1]].concat();
    assert!(std::panic::catch_unwind(|| Block::encode(&beyond)).is_err());
}

#[test]
fn decoded_keys_and_values_are_slices_of_the_block() {
    let block = Block::encode(&[once(SessionId(1), 1, 1, set("key", "value"))]);
    let within = block.as_ptr_range();
    let Proposal::Once { command: Command::Set { key, value, .. }, .. } =
        Block::decode(block.clone()).unwrap().remove(0)
    else {
        panic!("not what was encoded");
    };
    assert!(within.contains(&key.as_ptr()) && within.contains(&value.as_ptr()));
}

#[test]
fn a_batch_in_a_batch_is_refused() {
    // Version, batch of one: batch of none.
    assert_eq!(
        Command::decode(Bytes::from_static(&[1, 10, 1, 10, 0])),
        Err(DecodeError::Invalid("a batch holds a batch"))
    );
}

#[test]
fn replies_do_not_nest_without_end() {
    let mut data = vec![1];
    data.extend([5, 1].repeat(100_000));
    data.push(1);
    assert!(Reply::decode(data.into()).is_err());
}

#[test]
fn what_decodes_is_what_was_encoded_whatever_the_bytes() {
    fn decode_all(data: &Bytes) {
        if let Ok(proposals) = Block::decode(data.clone()) {
            assert_eq!(Block::encode(&proposals), data);
        }
        if let Ok(command) = Command::decode(data.clone()) {
            assert_eq!(command.encode(), data);
        }
        if let Ok(reply) = Reply::decode(data.clone()) {
            assert_eq!(reply.encode(), data);
        }
        if let Ok(applied) = Applied::decode(data.clone()) {
            assert_eq!(applied.encode(), data);
        }
    }
    let seeds: Vec<Vec<u8>> = commands()
        .iter()
        .map(Encoding::encode)
        .chain(replies().iter().map(Encoding::encode))
        .chain(states().iter().map(Encoding::encode))
        .chain([Block::encode(&proposals())])
        .map(Vec::from)
        .collect();
    for_seeds(0..200, |seed| {
        let mut random = Random(seed);
        for _ in 0..100 {
            let len = random.below(40) as usize;
            let mut noise = random.bytes(len).to_vec();
            if let Some(version) = noise.first_mut() {
                *version = 1;
            }
            decode_all(&noise.into());
            let mut damaged = seeds[random.below(seeds.len() as u64) as usize].clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] = random.next() as u8;
            }
            decode_all(&damaged.into());
        }
    });
}
