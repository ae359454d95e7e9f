//! State machine safety: no two servers apply different entries at the same index (Raft paper, figure 3); nor does one
//! server that applies an index again after a crash.

use std::collections::BTreeMap;

use pontoon_kv::{Entry, Index};

use super::Violation;

#[derive(Debug, Default)]
pub(super) struct StateMachineSafety {
    applied: BTreeMap<Index, Entry>,
}

impl StateMachineSafety {
    pub(super) fn on_apply(&mut self, entry: &Entry) -> Result<(), Violation> {
        let first = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
        if first == entry {
            return Ok(());
        }
        let what =
            format!("entry {} is applied as of term {} and of term {}", entry.index, first.term, entry.term);
        Err(Violation::new("state machine safety", what))
    }
}
