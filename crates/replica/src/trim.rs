//! When the log is trimmed, and how far: only what the state holds durably, and not what followers are likely to need.

use std::collections::BTreeMap;

use pontoon_kv::{Index, NodeId, Term};

use crate::log::LogWindow;

/// A follower's view is pinned at most this often.
const BUILD_PATIENCE_TICKS: u64 = 40;

/// The trim policy.
///
/// When what is applied and not durable takes more than a part of `bytes_max`, the state is flushed. (Members have the same log; their
/// parts are four, from half to seven eighths, so that they do not flush at the same moment.) When the log outgrows `bytes_max`, it is cut
/// back to half of it, or as far as the state is durable: members that lag by less than that catch up from the log rather than from
/// a snapshot. A leader whose followers need more waits
/// until the log is a quarter over its limit, and then leaves what they need if the rest is within the limit: a snapshot costs more,
/// and takes the outcomes of what the follower passed on with it.
pub(crate) struct Trim {
    bytes_max: Option<u64>,
    /// What is not durable in the state may take so much of the log.
    unflushed_bytes_max: Option<u64>,
    durable: Index,
    /// The applied index for which a flush was asked.
    flushing: Option<Index>,
    built_at: BTreeMap<NodeId, u64>,
}

impl Trim {
    pub(crate) fn new(node: NodeId, bytes_max: Option<u64>, durable: Index) -> Trim {
        let unflushed_bytes_max = bytes_max.map(|max| max / 8 * (7 - node.0 % 4));
        Trim { bytes_max, unflushed_bytes_max, durable, flushing: None, built_at: BTreeMap::new() }
    }

    pub(crate) fn on_durable(&mut self, index: Index) {
        self.durable = self.durable.max(index);
        self.flushing = self.flushing.filter(|asked| *asked > self.durable);
    }

    /// The log's limit, in bytes, if the log has outgrown it.
    pub(crate) fn outgrown(&self, log: &LogWindow) -> Option<u64> {
        self.bytes_max.filter(|max| log.bytes() > *max)
    }

    /// Where to trim now, if anywhere. `needed`: some follower has the log up to there, and needs the rest.
    pub(crate) fn position(
        &self,
        log: &LogWindow,
        applied: Index,
        needed: Option<Index>,
    ) -> Option<(Index, Term)> {
        let bytes_max = self.outgrown(log)?;
        let usual = log.trim_point(applied.min(self.durable), bytes_max / 2)?;
        let Some(needed) = needed.filter(|needed| *needed < usual.0) else { return Some(usual) };
        if log.bytes() <= bytes_max + bytes_max / 4 {
            return None;
        }
        let sparing = log.trim_point(needed, 0);
        sparing.filter(|(index, _)| log.bytes_after(*index) <= bytes_max).or(Some(usual))
    }

    /// Whether to ask for a flush now; remembers that it was asked.
    pub(crate) fn wants_flush(&mut self, log: &LogWindow, applied: Index) -> bool {
        let outgrown = |max| {
            let unflushed = log.bytes_after(self.durable).saturating_sub(log.bytes_after(applied));
            log.bytes() > max && unflushed > max
        };
        let wanted = self.flushing.is_none() && self.unflushed_bytes_max.is_some_and(outgrown);
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

#[cfg(test)]
mod tests {
    use pontoon_kv::Applied;
    use raft::eraftpb;

    use super::*;
    use crate::{HardState, Restored};

    const BYTES_MAX: u64 = 10_000;

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

    /// Where a log of so many entries is cut that are all applied and durable.
    fn cut(entries: u64, needed: Option<Index>) -> Option<Index> {
        let log = log_of(entries);
        let trim = Trim::new(NodeId(1), Some(BYTES_MAX), log.last());
        let position = trim.position(&log, log.last(), needed);
        position.map(|(index, _)| index)
    }

    #[test]
    fn a_log_that_outgrew_its_limit_is_cut_to_half_of_it() {
        assert_eq!(cut(100, None), None);
        assert_eq!(cut(101, None), Some(Index(51)));
        assert_eq!(cut(101, Some(Index(51))), Some(Index(51)));
    }

    #[test]
    fn what_a_follower_needs_stays_until_the_log_is_a_quarter_over_its_limit_and_then_if_it_is_within_the_limit()
     {
        assert_eq!(cut(125, Some(Index(20))), None);
        assert_eq!(cut(126, Some(Index(26))), Some(Index(26)));
        assert_eq!(cut(126, Some(Index(25))), Some(Index(76)));
        assert_eq!(cut(126, Some(Index(0))), Some(Index(76)));
    }

    #[test]
    fn a_flush_is_asked_for_once_when_what_is_not_durable_takes_a_part_of_the_limit() {
        let mut trim = Trim::new(NodeId(3), Some(BYTES_MAX), Index(20));
        assert!(!trim.wants_flush(&log_of(70), Index(70)), "half of the limit is not durable");
        assert!(trim.wants_flush(&log_of(71), Index(71)));
        assert!(!trim.wants_flush(&log_of(71), Index(71)), "it is under way");
        trim.on_durable(Index(71));
        assert!(!trim.wants_flush(&log_of(121), Index(121)));
        assert!(trim.wants_flush(&log_of(122), Index(122)));
    }

    #[test]
    fn no_flush_is_asked_for_what_is_not_applied() {
        let mut trim = Trim::new(NodeId(3), Some(BYTES_MAX), Index(20));
        let log = log_of(500);
        assert!((20..=70).all(|applied| !trim.wants_flush(&log, Index(applied))));
        assert!(trim.wants_flush(&log, Index(71)));
    }

    #[test]
    fn members_ask_for_a_flush_at_different_moments_and_so_early_that_the_log_can_be_cut() {
        let asked = |node| {
            let mut trim = Trim::new(NodeId(node), Some(BYTES_MAX), Index(0));
            let at = (1..).find(|last| trim.wants_flush(&log_of(*last), Index(*last))).expect("some time");
            trim.on_durable(Index(at));
            let log = log_of(101);
            (at, trim.position(&log, log.last(), None).map(|(index, _)| index))
        };
        let cut = Some(Index(51));
        assert_eq!([1, 2, 3, 4].map(asked), [(76, cut), (63, cut), (51, cut), (88, cut)]);
    }

    #[test]
    fn a_log_is_cut_no_further_than_the_state_is_durable() {
        let log = log_of(120);
        let trim = Trim::new(NodeId(1), Some(BYTES_MAX), Index(50));
        assert_eq!(trim.position(&log, log.last(), None), Some((Index(50), Term(1))));
    }
}
