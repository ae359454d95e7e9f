//! When the log is trimmed, and how far: only what the state holds durably, and not what followers are likely to need.

use std::collections::BTreeMap;

use pontoon_kv::{Index, NodeId, Term};

use crate::log::LogWindow;

/// A follower's view is pinned at most this often.
const BUILD_PATIENCE_TICKS: u64 = 40;

/// The trim policy.
///
/// When the log outgrows `bytes_max`, the state is flushed; once it is durable, the log is cut back to half of `bytes_max`:
/// members that lag by less than that catch up from the log rather than from a snapshot. A leader leaves what a follower that
/// answers still needs, up to a quarter more than `bytes_max`: a snapshot costs more, and takes the outcomes of what the follower
/// passed on with it.
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

    /// Whether the log has outgrown its limit.
    pub(crate) fn outgrown(&self, log: &LogWindow) -> bool {
        self.bytes_max.is_some_and(|max| log.bytes() > max)
    }

    /// Where to trim now, if anywhere. `needed`: all after it is needed by others that answer.
    pub(crate) fn position(&self, log: &LogWindow, applied: Index, needed: Index) -> Option<(Index, Term)> {
        self.target(log, applied.min(self.durable), needed)
    }

    /// Whether to ask for a flush now, without which the log cannot be trimmed; remembers that it was asked.
    pub(crate) fn wants_flush(&mut self, log: &LogWindow, applied: Index, needed: Index) -> bool {
        let wanted = self.flushing.is_none()
            && self.target(log, applied, needed).is_some_and(|(index, _)| index > self.durable);
        if wanted {
            self.flushing = Some(applied);
        }
        wanted
    }

    fn target(&self, log: &LogWindow, limit: Index, needed: Index) -> Option<(Index, Term)> {
        let bytes_max = self.bytes_max.filter(|max| log.bytes() > *max)?;
        let patient = log.bytes() <= bytes_max + bytes_max / 4;
        log.trim_point(if patient { limit.min(needed) } else { limit }, bytes_max / 2)
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

#[cfg(test)]
mod tests {
    use pontoon_kv::Applied;
    use raft::eraftpb;

    use super::*;
    use crate::{HardState, Restored};

    const BYTES_MAX: u64 = 10_000;
    const NOBODY: Index = Index(u64::MAX);

    /// So many entries of 100 bytes each.
    fn log_of(entries: u64) -> LogWindow {
        let restored = Restored {
            hard_state: HardState::default(),
            applied: Applied::default(),
            trimmed: (Index(0), Term(0)),
            entries: Vec::new(),
        };
        let mut log = LogWindow::new(restored, 100);
        let data = vec![0; 68];
        let entry =
            |index| eraftpb::Entry { index, term: 1, data: data.clone().into(), ..Default::default() };
        log.append((1..=entries).map(entry).collect());
        log
    }

    fn all_durable(log: &LogWindow) -> Trim {
        Trim::new(Some(BYTES_MAX), log.last())
    }

    #[test]
    fn a_log_that_outgrew_its_limit_is_cut_to_half_of_it() {
        let log = log_of(101);
        assert_eq!(all_durable(&log).position(&log, Index(101), NOBODY), Some((Index(51), Term(1))));
        let log = log_of(100);
        assert_eq!(all_durable(&log).position(&log, Index(100), NOBODY), None);
    }

    #[test]
    fn what_a_follower_needs_stays_until_the_log_is_a_quarter_over_its_limit() {
        let log = log_of(125);
        assert_eq!(all_durable(&log).position(&log, Index(125), Index(20)), Some((Index(20), Term(1))));
        assert_eq!(all_durable(&log).position(&log, Index(125), Index(0)), None);
        let log = log_of(126);
        assert_eq!(all_durable(&log).position(&log, Index(126), Index(20)), Some((Index(76), Term(1))));
    }

    #[test]
    fn a_flush_is_asked_for_once_and_only_if_the_log_can_be_cut_after_it() {
        let log = log_of(110);
        let mut trim = Trim::new(Some(BYTES_MAX), Index(20));
        assert!(!trim.wants_flush(&log, Index(110), Index(20)), "a follower needs what is not durable");
        assert!(trim.wants_flush(&log, Index(110), NOBODY));
        assert!(!trim.wants_flush(&log, Index(110), NOBODY), "it is under way");
        trim.on_durable(Index(110));
        assert!(!trim.wants_flush(&log, Index(110), NOBODY), "all is durable");
        assert_eq!(trim.position(&log, Index(110), NOBODY), Some((Index(60), Term(1))));
    }
}
