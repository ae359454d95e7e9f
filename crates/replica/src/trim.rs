//! When the log is trimmed, and how far: only what the state holds durably, and not what followers are likely to need.

use std::collections::BTreeMap;

use pontoon_kv::{Index, NodeId, Term};

use crate::log::LogWindow;

/// A follower's view is pinned at most this often.
const BUILD_PATIENCE_TICKS: u64 = 40;

/// The trim policy.
///
/// When the log outgrows `bytes_max`, the state is flushed; once it is durable, the log is cut back to half of `bytes_max`:
/// members that lag by less than that catch up from the log rather than from a snapshot.
pub(crate) struct Trim {
    bytes_max: Option<u64>,
    durable: Index,
    /// The applied index for which a flush was asked.
    flushing: Option<Index>,
    built_at: BTreeMap<NodeId, u64>,
}

impl Trim {
    pub(crate) fn new(bytes_max: Option<u64>, durable: Index) -> Trim {
        Trim { bytes_max, durable, flushing: None, built_at: BTreeMap::new() }
    }

    pub(crate) fn on_durable(&mut self, index: Index) {
        self.durable = self.durable.max(index);
        self.flushing = self.flushing.filter(|asked| *asked > self.durable);
    }

    /// Where to trim now, if anywhere.
    pub(crate) fn position(&self, log: &LogWindow, applied: Index) -> Option<(Index, Term)> {
        let bytes_max = self.bytes_max.filter(|max| log.bytes() > *max)?;
        log.trim_point(self.durable.min(applied), bytes_max / 2)
    }

    /// Whether to ask for a flush now; remembers that it was asked.
    pub(crate) fn wants_flush(&mut self, log: &LogWindow, applied: Index) -> bool {
        let outgrown = self.bytes_max.is_some_and(|max| log.bytes() > max);
        let wanted = outgrown && self.flushing.is_none() && applied > self.durable;
        if wanted {
            self.flushing = Some(applied);
        }
        wanted
    }

    /// Whether a view may be pinned for this follower now; remembers that it was.
    pub(crate) fn may_build(&mut self, to: NodeId, now: u64) -> bool {
        let may = self.built_at.get(&to).is_none_or(|at| now >= at + BUILD_PATIENCE_TICKS);
        if may {
            self.built_at.insert(to, now);
        }
        may
    }
}
