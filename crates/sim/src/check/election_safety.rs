//! Election safety: at most one leader per term (Raft paper, figure 3).

use std::collections::BTreeMap;

use pontoon_kv::{NodeId, Term};

use super::Violation;

#[derive(Debug, Default)]
pub(super) struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl ElectionSafety {
    pub(super) fn terms(&self) -> u64 {
        self.leaders.len() as u64
    }

    pub(super) fn on_leader(&mut self, term: Term, node: NodeId) -> Result<(), Violation> {
        let first = *self.leaders.entry(term).or_insert(node);
        if first == node {
            return Ok(());
        }
        Err(Violation::new("election safety", format!("n{first} and n{node} both lead in term {term}")))
    }
}
