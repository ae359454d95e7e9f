//! Leader completeness: an entry that is committed in a term is in the logs of the leaders of all later terms (Raft paper,
//! figure 3).

use std::collections::BTreeMap;

use pontoon_kv::{Entry, Index, NodeId, Term};

use super::Violation;
use crate::world::LogImage;

#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness {
    /// For each committed entry its term, and the lowest term in which it is known to be committed.
    committed: BTreeMap<Index, (Term, Term)>,
}

impl LeaderCompleteness {
    pub(super) fn on_commit(&mut self, entry: &Entry, known_in: Term) {
        let known = self.committed.entry(entry.index).or_insert((entry.term, known_in));
        known.1 = known.1.min(known_in);
    }

    pub(super) fn on_leader(&self, term: Term, node: NodeId, log: &LogImage) -> Result<(), Violation> {
        for (index, (entry_term, known_in)) in self.committed.range(log.trimmed.0..) {
            if *known_in < term && log.term_at(*index) != Some(*entry_term) {
                let what =
                    format!("n{node} leads in term {term} without the committed entry {index}@{entry_term}");
                return Err(Violation::new("leader completeness", what));
            }
        }
        Ok(())
    }
}
