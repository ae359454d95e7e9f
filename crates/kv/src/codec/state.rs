//! `Applied` and `ConfState`.
//!
//! Applied (version 1): index: varint, term: varint, clock: varint, conf state.
//!
//! ConfState (version 1): voters, learners, voters_outgoing, learners_next: each a list of varint; auto_leave: byte (0 or 1).

use super::{DecodeError, Decoder, Encoding, put_list, put_varint};
use crate::{Applied, ClusterTime, ConfState, Index, NodeId, Term};

impl Encoding for Applied {
    const NAME: &'static str = "applied record";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.index.0);
        put_varint(out, self.term.0);
        put_varint(out, self.clock.0);
        self.conf_state.write(out);
    }

    fn read(from: &mut Decoder) -> Result<Applied, DecodeError> {
        Ok(Applied {
            index: Index(from.varint()?),
            term: Term(from.varint()?),
            clock: ClusterTime(from.varint()?),
            conf_state: ConfState::read(from)?,
        })
    }
}

impl Encoding for ConfState {
    const NAME: &'static str = "membership";
    const VERSION: u8 = 1;

    fn write(&self, out: &mut Vec<u8>) {
        for nodes in [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next] {
            put_list(out, nodes, |out, node| put_varint(out, node.0));
        }
        out.push(u8::from(self.auto_leave));
    }

    fn read(from: &mut Decoder) -> Result<ConfState, DecodeError> {
        fn nodes(from: &mut Decoder) -> Result<Vec<NodeId>, DecodeError> {
            from.list(1, |from| Ok(NodeId(from.varint()?)))
        }
        Ok(ConfState {
            voters: nodes(from)?,
            learners: nodes(from)?,
            voters_outgoing: nodes(from)?,
            learners_next: nodes(from)?,
            auto_leave: from.bool("auto leave")?,
        })
    }
}
