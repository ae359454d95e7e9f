//! What a server says it has, it has on its disk: votes, terms and entries are durable before they are spoken of (Raft
//! paper, figure 2: "updated on stable storage before responding to RPCs").

use pontoon_replica::{Message, MessageKind};

use super::Violation;
use crate::world::Disk;

pub(super) fn on_send(message: &Message, disk: &Disk) -> Result<(), Violation> {
    let hard_state = disk.log.hard_state;
    let kept = match message.kind {
        MessageKind::RequestVoteResponse if !message.reject => {
            hard_state.term > message.term
                || (hard_state.term == message.term && hard_state.vote == message.to)
        }
        // Once the disk is in a later term, its leader may have replaced what was acknowledged in the earlier one.
        MessageKind::AppendResponse if !message.reject => {
            hard_state.term > message.term
                || (hard_state.term == message.term
                    && disk.log.last().max(disk.state.index()) >= message.index)
        }
        MessageKind::RequestVote => hard_state.term >= message.term,
        _ => true,
    };
    if kept {
        return Ok(());
    }
    let Message { kind, from, to, term, index, .. } = message;
    let what = format!(
        "n{from} sends {kind:?} to n{to} (term {term}, index {index}); its disk has term {}, vote {}, last {}",
        hard_state.term,
        hard_state.vote,
        disk.log.last(),
    );
    Err(Violation::new("promises are durable", what))
}
