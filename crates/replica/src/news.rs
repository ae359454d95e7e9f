//! Whom a leader tells at once that entries are committed.
//!
//! The next append or heartbeat tells everybody; a message to each member for each commit, and the answers to them, took 8 % of a lone
//! client's Puts. (raft-rs's `skip_bcast_commit`, as TiKV has it.) Who waits for a commit must not wait for that long: who passed a proposal
//! on, and who asked for a read index.

use std::collections::BTreeMap;

use pontoon_kv::{Index, NodeId};

use crate::{Message, MessageKind};

/// What members know of the commit index, and what they want to know.
#[derive(Default)]
pub(crate) struct News {
    /// Up to where each was told so.
    told: BTreeMap<NodeId, Index>,
    /// What each waits for.
    wanted: BTreeMap<NodeId, Index>,
}

impl News {
    /// This message leaves.
    pub(crate) fn sent(&mut self, message: &Message) {
        let has_up_to = match message.kind {
            MessageKind::Append => Index(message.index.0 + message.entries.len() as u64),
            MessageKind::Heartbeat => message.commit,
            _ => return,
        };
        let told = self.told.entry(message.to).or_default();
        *told = message.commit.min(has_up_to).max(*told);
    }

    /// This member waits until this index is committed.
    pub(crate) fn want(&mut self, member: NodeId, index: Index) {
        if self.told.get(&member).is_none_or(|told| *told < index) {
            let wanted = self.wanted.entry(member).or_default();
            *wanted = index.max(*wanted);
        }
    }

    /// Those whom nothing that was sent tells that what they wait for is committed, as it is. Each is named once.
    pub(crate) fn due(&mut self, commit: Index) -> Vec<NodeId> {
        let News { told, wanted } = self;
        let mut due = Vec::new();
        wanted.retain(|member, index| {
            if *index <= commit && told.get(member).is_none_or(|told| told < index) {
                due.push(*member);
            }
            *index > commit
        });
        due
    }

    /// This member leads no more.
    pub(crate) fn clear(&mut self) {
        self.told.clear();
        self.wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use eraftpb::MessageType::{MsgAppend, MsgHeartbeat};
    use raft::eraftpb;

    use super::*;
    use crate::convert;

    const MEMBER: NodeId = NodeId(2);

    /// To [`MEMBER`], after entry `index`.
    fn message(msg_type: eraftpb::MessageType, index: u64, entries: usize, commit: u64) -> Message {
        let entries = vec![eraftpb::Entry::default(); entries].into();
        let raft = eraftpb::Message { msg_type, to: MEMBER.0, index, entries, commit, ..Default::default() };
        convert::message_from_raft(raft)
    }

    #[test]
    fn who_waits_is_told_once_when_it_is_committed() {
        let mut news = News::default();
        news.want(MEMBER, Index(7));
        assert_eq!(news.due(Index(6)), []);
        assert_eq!(news.due(Index(7)), [MEMBER]);
        assert_eq!(news.due(Index(8)), []);
    }

    #[test]
    fn who_is_told_in_any_case_needs_no_message_of_its_own() {
        let mut news = News::default();
        news.want(MEMBER, Index(7));
        news.sent(&message(MsgAppend, 7, 3, 7));
        assert_eq!(news.due(Index(7)), []);
        news.want(MEMBER, Index(6));
        assert_eq!(news.due(Index(7)), [], "it was told before it wanted to know");
        news.sent(&message(MsgHeartbeat, 0, 0, 9));
        news.want(MEMBER, Index(9));
        assert_eq!(news.due(Index(9)), []);
    }

    #[test]
    fn a_commit_beyond_the_entries_that_a_member_has_tells_it_of_those_only() {
        let mut news = News::default();
        news.sent(&message(MsgAppend, 3, 2, 9));
        news.want(MEMBER, Index(6));
        assert_eq!(news.due(Index(9)), [MEMBER]);
    }
}
