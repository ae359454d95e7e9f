//! Log matching: if two logs contain an entry with the same index and term, they are identical up to it (Raft paper,
//! figure 3). By induction: the same index and term means the same contents and the same term of the entry before.

use std::collections::BTreeMap;

use pontoon_kv::{Entry, Index, Term};

use super::Violation;
use crate::world::Synced;

#[derive(Debug, Default)]
pub(super) struct LogMatching {
    /// For each position: the entry first seen there, and the term before it.
    entries: BTreeMap<(Index, Term), (Entry, Option<Term>)>,
}

impl LogMatching {
    pub(super) fn on_durable(&mut self, synced: &Synced) -> Result<(), Violation> {
        let mut before = synced.before;
        for entry in &synced.persist.entries {
            let first =
                self.entries.entry((entry.index, entry.term)).or_insert_with(|| (entry.clone(), before));
            if (&first.0, first.1) != (entry, before) {
                let (index, term) = (entry.index, entry.term);
                return Err(Violation::new(
                    "log matching",
                    format!("two logs differ at {index}@{term} or before"),
                ));
            }
            before = Some(entry.term);
        }
        Ok(())
    }
}
