//! The cluster clock: one for all replicas (the same after the same entry), it never goes back, across leaders and restarts, and
//! never goes faster than the fastest server's clock, so that no session expires early (`docs/testing.md`; Raft thesis, 6.3, on
//! expiring sessions by agreement).

use std::collections::BTreeMap;

use pontoon_kv::{ClusterTime, Index};

use super::Violation;

#[derive(Debug, Default)]
pub(super) struct ClusterClock {
    /// As first seen after each batch that was applied.
    seen: BTreeMap<Index, ClusterTime>,
}

impl ClusterClock {
    pub(super) fn on_applied(
        &mut self,
        index: Index,
        clock: ClusterTime,
        limit_ms: u64,
    ) -> Result<(), Violation> {
        let wrong = |what: String| Err(Violation::new("the cluster clock", what));
        let known = *self.seen.entry(index).or_insert(clock);
        if known != clock {
            return wrong(format!("after entry {index} it is {known} to one replica, {clock} to another"));
        }
        if let Some((before, earlier)) = self.seen.range(..index).next_back()
            && *earlier > clock
        {
            return wrong(format!(
                "it goes back from {earlier} at entry {before} to {clock} at entry {index}"
            ));
        }
        if let Some((after, later)) = self.seen.range(Index(index.0 + 1)..).next()
            && *later < clock
        {
            return wrong(format!("it goes back from {clock} at entry {index} to {later} at entry {after}"));
        }
        if clock.0 > limit_ms {
            return wrong(format!("it says {clock} ms, and no server's clock is beyond {limit_ms}"));
        }
        Ok(())
    }
}
