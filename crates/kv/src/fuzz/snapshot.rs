//! Snapshots that never were one.

use bytes::{BufMut, Bytes};

use crate::{
    ConfState, GroupId, Limits, Machine, MemStore, SnapshotReader, SnapshotWriter, Store,
    snapshot::{END, FRAME_BYTES, Part, seal},
    state_hash::StateHash,
    verify,
};

const GROUP: GroupId = GroupId(1);

/// A block as it comes.
const RAW: u8 = 0x80;
/// Under a checksum that holds, the number of another block.
const LATER: u8 = 0x40;
const _: () = assert!(END < LATER, "a kind leaves room for the flags");

/// Blocks, each `kind: byte, length: u16 little-endian, bytes`. Most are put under a frame and a checksum that hold, for no change
/// of a block's payload would get past those; an empty end block is filled in. A snapshot that is accepted is the one that its
/// own state makes, and a state that can be opened and verified, or is refused.
pub fn snapshot(data: &[u8]) {
    let mut reader = SnapshotReader::new(GROUP);
    let (mut pairs, mut hash) = (Vec::new(), StateHash::new());
    let mut rest = data;
    for number in 0.. {
        let Some((kind, payload)) = next_block(&mut rest) else { break };
        let block = match kind {
            kind if kind & RAW != 0 => Bytes::copy_from_slice(payload),
            END if payload.is_empty() => {
                let mut end = hash.pairs.to_le_bytes().to_vec();
                end.put_u128_le(hash.digest());
                framed(END, number, &end)
            }
            kind => framed(kind & !LATER, number + u32::from(kind & LATER != 0), payload),
        };
        match reader.push(block) {
            Err(_) => return,
            Ok(Part::Header(header)) => assert_eq!(header.group, GROUP),
            Ok(Part::Pairs(some)) => {
                some.iter().for_each(|(key, value)| hash.pair(key, value));
                pairs.extend(some);
            }
            Ok(Part::End) => break,
        }
    }
    let Ok(header) = reader.finish() else { return };
    let store = MemStore::from_pairs(pairs.clone()).expect("an accepted snapshot has an applied record");
    let mut writer = SnapshotWriter::new(store.view(), GROUP).expect("the same");
    assert_eq!(*writer.header(), header, "the header is that of the state");
    let mut again = Vec::new();
    let mut reader = SnapshotReader::new(GROUP);
    while let Some(block) = writer.next_block().expect("a store in memory does not fail") {
        if let Part::Pairs(some) = reader.push(block).expect("a snapshot just made is sound") {
            again.extend(some);
        }
    }
    assert_eq!(again, pairs, "what was taken is what is given");
    let opened = Machine::open(store.clone(), Limits::default(), ConfState::default()).is_ok();
    assert!(opened || verify(&store).is_err(), "a verified state can be opened");
}

fn next_block<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let ([kind, low, high], after) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
    let (payload, after) = after.split_at(length);
    *rest = after;
    Some((*kind, payload))
}

fn framed(kind: u8, number: u32, payload: &[u8]) -> Bytes {
    let mut block = vec![kind];
    block.put_u32_le(number);
    block.put_u32_le(0);
    assert_eq!(block.len(), FRAME_BYTES);
    block.extend_from_slice(payload);
    seal(block)
}

/// The form that [`snapshot`] takes, of a snapshot's blocks: an example for it.
pub fn unframed(blocks: &[Bytes]) -> Vec<u8> {
    let mut data = Vec::new();
    for block in blocks {
        let payload = if block[0] == END { &[][..] } else { &block[FRAME_BYTES..block.len() - 8] };
        let length = u16::try_from(payload.len()).expect("an example is small");
        data.push(block[0]);
        data.put_u16_le(length);
        data.extend_from_slice(payload);
    }
    data
}
