//! The memory rows.

use pontoon_sim::{lab::MemoryRow, world::Traced};

fn passes(row: MemoryRow) {
    if let Err(violation) = row.run(1, Traced::No) {
        panic!("{}: {violation}", row.name());
    }
}

#[test]
fn large_values_and_many_appends() {
    let few = |row: &MemoryRow| !matches!(row, MemoryRow::PutManyClients | MemoryRow::GetManyClients);
    MemoryRow::ALL.into_iter().filter(few).for_each(passes);
}

#[test]
fn many_clients_put() {
    passes(MemoryRow::PutManyClients);
}

#[test]
fn many_clients_get() {
    passes(MemoryRow::GetManyClients);
}
