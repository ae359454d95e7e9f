//! Bugs planted on purpose: see [`pontoon_kv::mutants`].

use bytes::Bytes;
use pontoon_kv::{
    CallId, Index,
    mutants::{Mutant, planted},
};

use super::Replica;

impl Replica {
    /// The name of a read round.
    pub(super) fn round_name(&self, id: CallId) -> CallId {
        if planted(Mutant::RoundsShareAName) { CallId { nonce: 0, ..id } } else { id }
    }

    /// Confirms reads at once where a leader must first commit in its term. True: it did.
    pub(super) fn reads_too_early(&mut self) -> bool {
        let early = self.leads() && !self.raft.raft.commit_to_current_term();
        if !planted(Mutant::ReadBeforeOwnTerm) || !early || !self.reads.wants_round() {
            return false;
        }
        self.reads.round_asked(Bytes::new(), self.now);
        self.reads.round_confirmed(&[], Index(self.raft.raft.raft_log.committed));
        true
    }

    /// Commits whatever a majority has, of whatever term.
    pub(super) fn commit_older_terms(&mut self) {
        if planted(Mutant::CountsOlderTerms) && self.leads() {
            let (held, _) = self.raft.raft.mut_prs().maximal_committed_index();
            if held > self.raft.raft.raft_log.committed {
                self.raft.raft.raft_log.commit_to(held);
            }
        }
    }
}
