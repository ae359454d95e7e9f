//! Snapshots: whole, in order, of what they say they are, or refused.

mod common;

use ::bytes::Bytes;
use common::*;
use pontoon_kv::{
    GroupId, MemStore, SnapshotError, SnapshotReader, SnapshotWriter, Store,
    snapshot::{BLOCK_BYTES, Part},
    state_hash,
};

const GROUP: GroupId = GroupId(1);

fn blocks(store: &MemStore) -> Vec<Bytes> {
    let mut writer = SnapshotWriter::new(store.view(), GROUP).unwrap();
    std::iter::from_fn(|| writer.next_block().unwrap()).collect()
}

fn restore(blocks: impl IntoIterator<Item = Bytes>) -> Result<MemStore, SnapshotError> {
    let mut reader = SnapshotReader::new(GROUP);
    let mut pairs = Vec::new();
    for block in blocks {
        if let Part::Pairs(some) = reader.push(block)? {
            pairs.extend(some);
        }
    }
    reader.finish()?;
    Ok(MemStore::from_pairs(pairs).unwrap())
}

/// A state with sessions, small and chunked values and a kept reply.
fn small() -> Group {
    let mut group = Group::new();
    let session = group.open();
    group.open_kind(pontoon_kv::SessionKind::Relay);
    for (seq, command) in (1..).zip([set("a", "1"), set("b", vec![b'b'; 5000]), append("c", "3"), get("b")]) {
        group.once(session, seq, 1, command);
    }
    group
}

fn large() -> Group {
    let mut group = Group::new();
    let session = group.open();
    for seq in 1..=300 {
        group.once(session, seq, seq, set(&format!("key {seq:05}"), vec![seq as u8; seq as usize * 20]));
    }
    group.once(session, 301, 301, set("big", vec![b'b'; 1 << 20]));
    group
}

#[test]
fn a_snapshot_restores_data_sessions_and_position() {
    for mut group in [small(), large()] {
        let before = group.machine.store().clone();
        let restored = restore(blocks(&before)).unwrap();
        assert_eq!(restored, before);
        assert_eq!(state_hash(&restored).unwrap(), state_hash(&before).unwrap());
        let applied = group.machine.applied().clone();
        group.machine.replace(restored).unwrap();
        assert_eq!(*group.machine.applied(), applied);
    }
}

#[test]
fn a_copy_of_a_request_from_before_the_snapshot_is_a_copy_after_it() {
    let mut group = Group::new();
    let session = group.open();
    group.once(session, 1, 1, append("k", "x"));
    let store = restore(blocks(group.machine.store())).unwrap();
    group.machine.replace(store).unwrap();
    assert_eq!(group.once(session, 1, 1, append("k", "x")), integer(1));
    assert_eq!(group.get("k"), value("x"));
}

#[test]
fn the_header_is_that_of_the_state() {
    let group = small();
    let writer = SnapshotWriter::new(group.machine.view(), GROUP).unwrap();
    assert_eq!(writer.header().applied, *group.machine.applied());
    assert_eq!(writer.header().group, GROUP);
}

#[test]
fn an_empty_state_has_no_snapshot() {
    assert!(SnapshotWriter::new(MemStore::new().view(), GROUP).is_err());
}

#[test]
fn blocks_are_bounded_and_the_view_may_be_long_gone_from_the_store() {
    let mut group = large();
    let mut writer = SnapshotWriter::new(group.machine.view(), GROUP).unwrap();
    let expected = group.hash();
    let mut blocks = Vec::new();
    while let Some(block) = writer.next_block().unwrap() {
        assert!(block.len() <= BLOCK_BYTES + (128 << 10), "a block of {} bytes", block.len());
        blocks.push(block);
        group.execute(append("key 00001", "changed meanwhile"));
    }
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    assert_eq!(state_hash(&restore(blocks).unwrap()).unwrap(), expected);
}

#[test]
fn every_flipped_bit_is_refused() {
    let blocks = blocks(small().machine.store());
    for (at, block) in blocks.iter().enumerate() {
        for bit in 0..block.len() * 8 {
            let mut damaged = block.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut reader = SnapshotReader::new(GROUP);
            for sound in &blocks[..at] {
                reader.push(sound.clone()).unwrap();
            }
            let error = reader.push(damaged.into()).unwrap_err();
            assert!(matches!(error, SnapshotError::Damaged { block, .. } if block as usize == at), "{error}");
        }
    }
}

#[test]
fn a_missing_repeated_or_swapped_block_is_refused() {
    let blocks = blocks(large().machine.store());
    for at in 0..blocks.len() {
        let mut missing = blocks.clone();
        missing.remove(at);
        let error = restore(missing).unwrap_err();
        assert!(matches!(error, SnapshotError::Disorder { .. } | SnapshotError::Truncated { .. }), "{error}");
        let mut repeated = blocks.clone();
        repeated.insert(at, blocks[at].clone());
        assert!(matches!(restore(repeated), Err(SnapshotError::Disorder { .. })));
        if at > 0 {
            let mut swapped = blocks.clone();
            swapped.swap(at - 1, at);
            assert!(matches!(restore(swapped), Err(SnapshotError::Disorder { .. })));
        }
    }
}

#[test]
fn a_snapshot_cut_short_is_refused() {
    let blocks = blocks(small().machine.store());
    for len in 0..blocks.len() {
        let error = restore(blocks[..len].to_vec()).unwrap_err();
        assert_eq!(error, SnapshotError::Truncated { blocks: len as u32 });
    }
    for (at, block) in blocks.iter().enumerate() {
        for len in 0..block.len() {
            let mut cut = blocks.clone();
            cut[at] = block.slice(..len);
            assert!(matches!(restore(cut), Err(SnapshotError::Damaged { .. })));
        }
    }
}

#[test]
fn a_block_of_another_snapshot_is_refused() {
    let (one, other) = (small(), large());
    let mut mixed = blocks(one.machine.store());
    mixed[0] = blocks(other.machine.store())[0].clone();
    assert!(matches!(restore(mixed), Err(SnapshotError::Mislabelled(_))));
    let mut group = small();
    let before = blocks(group.machine.store());
    group.execute(set("a", "2"));
    let mut mixed = blocks(group.machine.store());
    let last = mixed.len() - 1;
    mixed[last] = before[last].clone();
    assert!(matches!(restore(mixed), Err(SnapshotError::Mislabelled(_))));
}

#[test]
fn a_snapshot_of_another_group_is_refused() {
    let blocks = blocks(small().machine.store());
    let error = SnapshotReader::new(GroupId(2)).push(blocks[0].clone()).unwrap_err();
    assert_eq!(error, SnapshotError::Group { expected: GroupId(2), found: GROUP });
}

#[test]
fn noise_is_refused() {
    for_seeds(0..1000, |seed| {
        let mut random = Random(seed);
        let len = random.below(100) as usize;
        assert!(SnapshotReader::new(GROUP).push(random.bytes(len)).is_err());
    });
}

/// A writer gone wrong, or a forger: checksums are no proof of sense.
#[test]
fn nonsense_under_a_sound_checksum_is_refused() {
    let group = small();
    let blocks = blocks(group.machine.store());
    for_seeds(0..2000, |seed| {
        let mut random = Random(seed);
        let mut forged = blocks.clone();
        let at = random.below(forged.len() as u64) as usize;
        let mut block = forged[at][..forged[at].len() - 8].to_vec();
        // Past the frame, to be about contents.
        let place = random.within(9..block.len() as u64) as usize;
        block[place] = block[place].wrapping_add(random.within(1..256) as u8);
        block.extend(xxhash_rust::xxh3::xxh3_64(&block).to_le_bytes());
        forged[at] = block.into();
        assert!(restore(forged).is_err());
    });
}

/// Lab suite, SnapshotSize: "snapshot size is reasonable".
#[test]
fn after_800_operations_of_one_session_on_one_key_a_snapshot_has_at_most_500_bytes() {
    let mut group = Group::new();
    let session = group.open();
    let mut seq = 0;
    for _ in 0..200 {
        for text in ["0", "1"] {
            for command in [set("x", text), get("x")] {
                seq += 1;
                group.once(session, seq, seq, command);
            }
            assert_eq!(group.get("x"), value(text));
        }
    }
    let bytes: usize = blocks(group.machine.store()).iter().map(Bytes::len).sum();
    assert!(bytes <= 500, "{bytes} bytes");
}

#[test]
fn a_session_costs_a_snapshot_little() {
    let mut group = Group::new();
    for at in 0..1000 {
        let session = group.open();
        let put = once(session, 1, 1, set(&format!("{at}"), "v"));
        let entry = group.entry(&[put]);
        group.machine.apply(&[entry]).unwrap();
    }
    let sessions: usize = group.pairs(1).iter().map(|(key, record)| key.len() + record.len()).sum();
    assert!(sessions <= 1000 * 25, "{sessions} bytes for 1000 sessions with one unacknowledged reply each");
}
