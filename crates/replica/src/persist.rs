//! What waits for the disk: persists in their order, and the messages that may only be sent behind them.

use std::collections::VecDeque;

use crate::{
    io::Persist,
    message::{HardState, Message},
};

/// A ready of raft-rs whose writes are on their way to the disk.
struct Held {
    /// The persist that it waits for.
    persist: u64,
    /// raft-rs's number; acknowledging it acknowledges all before.
    ready: u64,
    messages: Vec<Message>,
    changes_term: bool,
}

/// The queue.
///
/// - Persists are numbered from 1 and leave in order; every ready is behind the synced persist that was last when it came. (One
///   that is not synced, a trim, may be written any time later: nothing may wait for it.)
/// - While a snapshot is being installed nothing leaves: the log must not start after a state that is not there yet.
#[derive(Default)]
pub(crate) struct Persists {
    last: u64,
    last_synced: u64,
    held: VecDeque<Held>,
    /// A hard state of which only the commit index is new: it goes with the next persist.
    hard_state: Option<HardState>,
    /// While a snapshot is being installed: the persists to leave after it.
    installing: Option<Vec<Persist>>,
}

/// What an acknowledged persist sets free.
#[derive(Default)]
pub(crate) struct Released {
    /// raft-rs's number to acknowledge; 0: none.
    pub(crate) ready: u64,
    pub(crate) messages: Vec<Message>,
}

impl Persists {
    /// Whether a change of term or vote is not durable yet.
    pub(crate) fn term_in_flight(&self) -> bool {
        self.held.iter().any(|held| held.changes_term)
    }

    pub(crate) fn installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Persists wait from now on until [`Persists::installed`].
    pub(crate) fn install(&mut self) {
        assert!(self.installing.is_none(), "a snapshot arrived while another is being installed");
        self.installing = Some(Vec::new());
    }

    /// The snapshot is the state: what waited may leave.
    pub(crate) fn installed(&mut self) -> Vec<Persist> {
        self.installing.take().expect("a snapshot is installed once")
    }

    /// Numbers a persist; it comes back if it may leave now.
    pub(crate) fn push(&mut self, mut persist: Persist) -> Option<Persist> {
        self.last += 1;
        persist.number = self.last;
        if persist.sync {
            self.last_synced = self.last;
        }
        let pending = self.hard_state.take();
        persist.hard_state = persist.hard_state.or(pending);
        match &mut self.installing {
            Some(waiting) => {
                waiting.push(persist);
                None
            }
            None => Some(persist),
        }
    }

    /// A hard state that need not be durable for its own sake.
    pub(crate) fn note_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = Some(hard_state);
    }

    /// A ready waits behind the last synced persist. It comes back if there is nothing to wait for.
    pub(crate) fn hold(
        &mut self,
        ready: u64,
        messages: Vec<Message>,
        own: bool,
        changes_term: bool,
    ) -> Option<Released> {
        if !own && self.held.is_empty() {
            return Some(Released { ready, messages });
        }
        self.held.push_back(Held { persist: self.last_synced, ready, messages, changes_term });
        None
    }

    /// Everything up to this number is durable.
    pub(crate) fn persisted(&mut self, number: u64) -> Released {
        assert!(number <= self.last, "the disk acknowledges persist {number}, the last was {}", self.last);
        let mut released = Released::default();
        while self.held.front().is_some_and(|held| held.persist <= number) {
            let held = self.held.pop_front().expect("there is a front");
            released.ready = held.ready;
            released.messages.extend(held.messages);
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced() -> Persist {
        Persist { sync: true, ..Persist::default() }
    }

    /// Found by the simulator: a follower whose acknowledgement waited behind a trim never acknowledged again.
    #[test]
    fn nothing_waits_for_a_persist_that_is_not_synced() {
        let mut persists = Persists::default();
        persists.push(synced());
        assert!(persists.hold(1, Vec::new(), true, false).is_none());
        persists.push(Persist::default());
        assert!(persists.hold(2, Vec::new(), false, false).is_none(), "it waits behind the first");
        assert_eq!(
            persists.persisted(1).ready,
            2,
            "and not behind the second, which may be written any time later"
        );
    }

    #[test]
    fn readies_are_released_in_order_and_only_when_all_before_them_are_durable() {
        let mut persists = Persists::default();
        for ready in 1..=3 {
            persists.push(synced());
            assert!(persists.hold(ready, Vec::new(), true, false).is_none());
        }
        assert_eq!(persists.persisted(0).ready, 0);
        assert_eq!(persists.persisted(2).ready, 2);
        assert_eq!(persists.persisted(3).ready, 3);
        assert_eq!(persists.hold(4, Vec::new(), false, false).map(|released| released.ready), Some(4));
    }

    #[test]
    fn while_a_snapshot_is_installed_no_persist_leaves_and_then_all_do_in_order() {
        let mut persists = Persists::default();
        persists.install();
        assert!(persists.push(synced()).is_none() && persists.push(synced()).is_none());
        let numbers: Vec<u64> = persists.installed().iter().map(|persist| persist.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert!(persists.push(synced()).is_some());
    }
}
