//! The machine against the model.

use std::slice;

use super::{
    author::{Author, KEYS, LIMITS, Step, Then},
    model::Model,
};
use crate::{
    Block, Command, ConfState, GroupId, Machine, MemStore, Proposal, SnapshotReader, SnapshotWriter, Store,
    snapshot::Part, state_hash, verify,
};

/// A log made of these bytes: the machine and the model agree on every outcome, and neither restarts nor snapshots in between
/// change anything.
pub fn machine(data: &[u8]) {
    let mut machine = open(MemStore::new());
    let mut model = Model::new(LIMITS);
    for Step { entry, proposals, then } in Author::new(data) {
        if !entry.data.is_empty() {
            assert_eq!(Block::decode(entry.data.clone()).as_ref(), Ok(&proposals), "a block decodes");
        }
        let outcomes = machine.apply(slice::from_ref(&entry)).expect("a store in memory does not fail");
        let expected: Vec<_> =
            proposals.iter().map(Proposal::wait_key).zip(model.apply(&entry, &proposals)).collect();
        assert_eq!(outcomes, expected, "entry {}: {proposals:?}", entry.index);
        assert_eq!(machine.sessions(), model.sessions(), "entry {}", entry.index);
        match then {
            Then::Next => {}
            Then::Restart => machine = open(machine.store().clone()),
            Then::Restore => {
                let restored = restored(machine.store());
                assert_eq!(restored, *machine.store(), "a snapshot holds all");
                machine.replace(restored).expect("a sound snapshot can be gone on from");
            }
        }
    }
    for key in KEYS {
        let get = Command::Get { key: key.into() };
        assert_eq!(machine.read(&get).expect("a sound state can be read"), model.execute(&get));
    }
    verify(machine.store()).expect("every record has its place");
}

fn open(store: MemStore) -> Machine<MemStore> {
    Machine::open(store, LIMITS, ConfState::default()).expect("a sound state can be opened")
}

/// What a member has that was sent a snapshot of this store.
fn restored(store: &MemStore) -> MemStore {
    const GROUP: GroupId = GroupId(1);
    let mut writer = SnapshotWriter::new(store.view(), GROUP).expect("the state is not empty");
    let (mut reader, mut pairs) = (SnapshotReader::new(GROUP), Vec::new());
    while let Some(block) = writer.next_block().expect("a store in memory does not fail") {
        if let Part::Pairs(some) = reader.push(block).expect("a snapshot just made is sound") {
            pairs.extend(some);
        }
    }
    let header = reader.finish().expect("a snapshot has an end");
    assert_eq!(&header, writer.header());
    let restored = MemStore::from_pairs(pairs).expect("a snapshot holds an applied record");
    assert_eq!(state_hash(&restored).ok(), state_hash(store).ok());
    restored
}
