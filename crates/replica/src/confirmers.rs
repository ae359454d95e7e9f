//! Whom a leader asks whether it still leads (ReadIndex; Raft thesis, 6.4).
//!
//! Any majority's answers confirm it. To ask one follower rather than two spares a message, its answer and two changes of threads, which on a
//! machine that all share is a quarter of a lone Get. So a lone read asks those alone who confirmed the last round a moment ago.

use std::collections::BTreeSet;

use bytes::Bytes;
use pontoon_kv::NodeId;
use raft::eraftpb;

#[derive(Default)]
pub(crate) struct Confirmers {
    /// The round that was asked last, until it is confirmed.
    round: Option<Bytes>,
    /// Who has answered it.
    answered: BTreeSet<NodeId>,
    /// Whose answers confirmed a round in this tick; with the leader they are a majority.
    quick: BTreeSet<NodeId>,
    /// Questions of the last round that did not leave.
    kept_back: Vec<eraftpb::Message>,
}

impl Confirmers {
    /// A round is asked for, by these messages. If it is a lone one, those to others than quick members are kept back.
    pub(crate) fn asked(&mut self, round: Bytes, lone: bool, messages: &mut Vec<eraftpb::Message>) {
        self.answered.clear();
        self.kept_back.clear();
        if lone && !self.quick.is_empty() {
            let needless = |message: &mut eraftpb::Message| {
                message.context == round && !self.quick.contains(&NodeId(message.to))
            };
            self.kept_back.extend(messages.extract_if(.., needless));
        }
        self.round = Some(round);
    }

    /// A member has answered a round.
    pub(crate) fn answered(&mut self, from: NodeId, round: &[u8]) {
        if self.round.as_deref() == Some(round) {
            self.answered.insert(from);
        }
    }

    /// A majority has.
    pub(crate) fn confirmed(&mut self, round: &[u8]) {
        if self.round.take_if(|last| last == round).is_some() {
            self.quick = std::mem::take(&mut self.answered);
            self.kept_back.clear();
        }
    }

    /// Nobody is taken for quick any more: returns what was kept back, for it to be sent.
    pub(crate) fn doubt(&mut self) -> Vec<eraftpb::Message> {
        self.quick.clear();
        std::mem::take(&mut self.kept_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_what_is_no_open_round_are_not_kept() {
        let mut confirmers = Confirmers::default();
        confirmers.answered(NodeId(2), b""); // to a heartbeat that asks nothing
        confirmers.asked("round".into(), true, &mut Vec::new());
        confirmers.answered(NodeId(2), b"");
        confirmers.answered(NodeId(2), b"another");
        assert_eq!(confirmers.answered, [].into());
        confirmers.answered(NodeId(3), b"round");
        confirmers.confirmed(b"round");
        confirmers.answered(NodeId(2), b"round");
        assert_eq!((confirmers.answered, confirmers.quick), ([].into(), [NodeId(3)].into()));
    }
}
