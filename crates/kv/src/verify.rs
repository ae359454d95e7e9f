//! Whether a state is whole.

use std::collections::BTreeMap;

use crate::{
    Applied, Reader, StoreError,
    layout::{CHUNK, HEAD, ValueId, chunk_key, damaged},
    record::{Chunked, Head, Stored},
    session::Sessions,
    store::try_scan,
};

/// Reads a whole state and holds every record against the others: each can be read, every chunk belongs to one value or one
/// recorded reply, and none is missing or of a wrong size. It takes memory for each chunked value, a few words.
pub fn verify(reader: &impl Reader) -> Result<(), StoreError> {
    Applied::load(reader)?;
    let mut owners = BTreeMap::new();
    for chunked in Sessions::load(reader)?.chunked_replies() {
        own(&mut owners, chunked)?;
    }
    try_scan(reader, &[HEAD], &[CHUNK], |_, record| {
        let (head, _) = Head::decode(record).map_err(|error| damaged("a head record", error))?;
        match head.value {
            Stored::Chunked(chunked) => own(&mut owners, chunked),
            Stored::Inline(_) => Ok(()),
        }
    })?;
    let mut expected =
        owners.values().flat_map(|chunked| (0..chunked.count()).map(move |number| (*chunked, number)));
    try_scan(reader, &[CHUNK], &[CHUNK + 1], |key, chunk| {
        let (chunked, number) =
            expected.next().ok_or_else(|| damaged("the state", "a chunk belongs to no value"))?;
        if key != chunk_key(chunked.id, number) {
            return Err(damaged("the state", "a chunk is missing or belongs to no value"));
        }
        chunked.check(number, &chunk)
    })?;
    expected.next().map_or(Ok(()), |_| Err(damaged("the state", "a chunk is missing")))
}

fn own(owners: &mut BTreeMap<ValueId, Chunked>, chunked: Chunked) -> Result<(), StoreError> {
    match owners.insert(chunked.id, chunked) {
        None => Ok(()),
        Some(_) => Err(damaged(format_args!("value {:#x}", chunked.id.0), "it has two owners")),
    }
}
