//! Whom a leader asks whether it still leads (ReadIndex; Raft thesis, 6.4).
//!
//! Any majority's answers confirm it. To ask one follower rather than two spares a message, its answer and two changes of threads, which on a
//! machine that all share is a third of a lone Get. So a lone read asks those alone who confirmed a round a moment ago.

use bytes::Bytes;
use pontoon_kv::NodeId;
use raft::eraftpb;

#[derive(Default)]
pub(crate) struct Confirmers {
    /// The round that was asked last.
    round: Bytes,
    /// Who has answered it.
    answered: Vec<NodeId>,
    /// Whose answers confirmed a round in this tick: the quickest, and surely alive.
    quick: Vec<NodeId>,
    /// The questions to the others that did not leave.
    spared: Vec<eraftpb::Message>,
}

impl Confirmers {
    /// A round is asked for, by these messages. A lone one keeps back what quick members need no help with.
    pub(crate) fn asked(&mut self, round: Bytes, lone: bool, messages: &mut Vec<eraftpb::Message>) {
        self.answered.clear();
        self.spared.clear();
        if lone && !self.quick.is_empty() {
            let spared = |message: &mut eraftpb::Message| {
                message.context == round && !self.quick.contains(&NodeId(message.to))
            };
            self.spared.extend(messages.extract_if(.., spared));
        }
        self.round = round;
    }

    /// A member has answered a round.
    pub(crate) fn answered(&mut self, from: NodeId, round: &[u8]) {
        if round == self.round {
            self.answered.push(from);
        }
    }

    /// A majority has.
    pub(crate) fn confirmed(&mut self, round: &[u8]) {
        if round == self.round {
            self.quick = std::mem::take(&mut self.answered);
            self.spared.clear();
        }
    }

    /// A tick: nobody is taken for quick any more, and a round that is not confirmed asks the others, too.
    pub(crate) fn tick(&mut self) -> Vec<eraftpb::Message> {
        self.quick.clear();
        std::mem::take(&mut self.spared)
    }

    /// This member leads no more.
    pub(crate) fn clear(&mut self) {
        *self = Confirmers::default();
    }
}
