//! Whom a leader tells at once that entries are committed.
//!
//! The next append or heartbeat tells everybody; a message to each member for each commit, and the answers to them, took 8 % of a lone
//! client's Puts. (raft-rs's `skip_bcast_commit`, as TiKV has it.) Who waits for a commit must not wait for that long: who passed a proposal
//! on, and who asked for a read index.

use std::collections::{BTreeMap, BTreeSet};

use pontoon_kv::{Index, NodeId};

use crate::{Message, MessageKind};

/// What members were told of the commit index, and what they wait for. (What is lost on its way comes with a later heartbeat.)
#[derive(Default)]
pub(crate) struct News {
    /// Up to where each was told.
    told: BTreeMap<NodeId, Index>,
    /// Indexes that are not committed yet, each with one that waits for it.
    wanted: BTreeSet<(Index, NodeId)>,
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
        self.wanted.insert((index, member));
    }

    /// Those whom nothing that was sent tells that what they wait for is committed, as it is. Each is named once.
    pub(crate) fn due(&mut self, commit: Index) -> BTreeSet<NodeId> {
        let mut due = BTreeSet::new();
        while self.wanted.first().is_some_and(|(index, _)| *index <= commit) {
            let (index, member) = self.wanted.pop_first().expect("there is a first");
            if self.told.get(&member).is_none_or(|told| *told < index) {
                due.insert(member);
            }
        }
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

    fn due(news: &mut News, commit: u64) -> Vec<NodeId> {
        news.due(Index(commit)).into_iter().collect()
    }

    #[test]
    fn who_waits_is_told_once_when_it_is_committed() {
        let mut news = News::default();
        news.want(MEMBER, Index(7));
        assert_eq!(due(&mut news, 6), []);
        assert_eq!(due(&mut news, 7), [MEMBER]);
        assert_eq!(due(&mut news, 8), []);
    }

    #[test]
    fn who_waits_for_more_is_told_of_each() {
        let mut news = News::default();
        news.want(MEMBER, Index(7));
        news.want(MEMBER, Index(8));
        news.want(MEMBER, Index(9));
        assert_eq!(due(&mut news, 8), [MEMBER]);
        assert_eq!(due(&mut news, 9), [MEMBER]);
    }

    #[test]
    fn who_is_told_in_any_case_needs_no_message_of_its_own() {
        let mut news = News::default();
        news.want(MEMBER, Index(7));
        news.sent(&message(MsgAppend, 7, 3, 7));
        assert_eq!(due(&mut news, 7), []);
        news.want(MEMBER, Index(6));
        assert_eq!(due(&mut news, 7), [], "it was told before it wanted to know");
        news.sent(&message(MsgHeartbeat, 0, 0, 9));
        news.want(MEMBER, Index(9));
        assert_eq!(due(&mut news, 9), []);
    }

    #[test]
    fn a_commit_beyond_the_entries_that_a_member_has_tells_it_of_those_only() {
        let mut news = News::default();
        news.sent(&message(MsgAppend, 3, 2, 9));
        news.want(MEMBER, Index(6));
        assert_eq!(due(&mut news, 9), [MEMBER]);
    }
}
