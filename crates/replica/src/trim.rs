//! When the log is trimmed, and how far: only what the state holds durably, and not what followers are likely to need.

use std::collections::BTreeMap;

use pontoon_kv::{Index, NodeId, Term};

use crate::log::LogWindow;

/// A follower's view is pinned at most this often.
const BUILD_PATIENCE_TICKS: u64 = 40;

/// A follower answers if it has said something in so many ticks: two elections, at the default.
const SILENT_TICKS_MAX: u64 = 32;

/// What a follower needs that answers stays up to so many times the log's limit.
const ANSWERING_LIMITS: u64 = 3;

/// The trim policy.
///
/// When what is applied and not durable takes more than a part of `bytes_max`, the state is flushed. (Members have the same log; their
/// parts are four, from half to seven eighths, so that they do not flush at the same moment.) When the log outgrows `bytes_max`, it is cut
/// back to half of it, or as far as the state is durable: members that lag by less than that catch up from the log rather than from
/// a snapshot. A leader leaves what a follower needs up to the limit, and up to three times the limit if the follower
/// answers: a snapshot costs more, and takes the outcomes of what the follower passed on with it. Above all, what is appended while a snapshot
/// is on its way must still be there when it has arrived, or the next has to follow, and so on for ever. The log takes up to a third more
/// than that, so four times its limit at most: it is cut in steps of a quarter then, see [`Trim::position`].
pub(crate) struct Trim {
    bytes_max: Option<u64>,
    /// What is not durable in the state may take so much of the log.
    unflushed_bytes_max: Option<u64>,
    durable: Index,
    /// The applied index for which a flush was asked.
    flushing: Option<Index>,
    built_at: BTreeMap<NodeId, u64>,
    heard_at: BTreeMap<NodeId, u64>,
}

/// Up to where followers have the log that can have the rest from their leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needed {
    /// The slowest of those that answer, or are being sent a snapshot: then up to where that goes.
    pub(crate) answering: Option<Index>,
    /// The slowest of the others, among them those that this leader has not heard yet.
    pub(crate) silent: Option<Index>,
}

impl Trim {
    pub(crate) fn new(node: NodeId, bytes_max: Option<u64>, durable: Index) -> Trim {
        let unflushed_bytes_max = bytes_max.map(|max| max / 8 * (7 - node.0 % 4));
        Trim {
            bytes_max,
            unflushed_bytes_max,
            durable,
            flushing: None,
            built_at: BTreeMap::new(),
            heard_at: BTreeMap::new(),
        }
    }

    pub(crate) fn on_durable(&mut self, index: Index) {
        self.durable = self.durable.max(index);
        self.flushing = self.flushing.filter(|asked| *asked > self.durable);
    }

    /// The log's limit, in bytes, if the log has outgrown it.
    pub(crate) fn outgrown(&self, log: &LogWindow) -> Option<u64> {
        self.bytes_max.filter(|max| log.bytes() > *max)
    }

    /// Where to trim now, if anywhere. What followers need is left in steps of a quarter of the log: raft-engine would rewrite what is left
    /// (and does after nine purges) if that reached into the oldest fifth of its files (`FORCE_COMPACT_RATIO` in its purge.rs).
    pub(crate) fn position(&self, log: &LogWindow, applied: Index, needed: Needed) -> Option<(Index, Term)> {
        let bytes_max = self.outgrown(log)?;
        let usual = log.trim_point(applied.min(self.durable), bytes_max / 2)?;
        let within = |needed: Option<Index>, bytes| needed.filter(|index| log.bytes_after(*index) <= bytes);
        let spared =
            [within(needed.answering, ANSWERING_LIMITS * bytes_max), within(needed.silent, bytes_max)];
        match spared.into_iter().flatten().min().filter(|index| *index < usual.0) {
            None => Some(usual),
            Some(spared) => {
                let position = log.trim_point(spared, 0);
                position.filter(|(index, _)| log.bytes_after(*index) <= log.bytes() / 4 * 3)
            }
        }
    }

    /// A member has said something.
    pub(crate) fn heard(&mut self, from: NodeId, now: u64) {
        self.heard_at.insert(from, now);
    }

    /// Whether this member answers.
    pub(crate) fn answers(&self, member: NodeId, now: u64) -> bool {
        self.heard_at.get(&member).is_some_and(|at| now <= at + SILENT_TICKS_MAX)
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
        log.append((1..=entries).map(entry).collect());
        log
    }

    fn entry(index: u64) -> eraftpb::Entry {
        eraftpb::Entry { index, term: 1, data: vec![0; 68].into(), ..Default::default() }
    }

    const NOTHING: Needed = Needed { answering: None, silent: None };

    fn answering(index: u64) -> Needed {
        Needed { answering: Some(Index(index)), ..NOTHING }
    }

    fn silent(index: u64) -> Needed {
        Needed { silent: Some(Index(index)), ..NOTHING }
    }

    /// Where a log of so many entries is cut that are all applied and durable.
    fn cut(entries: u64, needed: Needed) -> Option<u64> {
        let log = log_of(entries);
        let trim = Trim::new(NodeId(1), Some(BYTES_MAX), log.last());
        let position = trim.position(&log, log.last(), needed);
        position.map(|(index, _)| index.0)
    }

    #[test]
    fn a_log_that_outgrew_its_limit_is_cut_to_half_of_it() {
        assert_eq!(cut(100, NOTHING), None);
        assert_eq!(cut(101, NOTHING), Some(51));
        assert_eq!(cut(101, silent(51)), Some(51));
        assert_eq!(cut(101, answering(60)), Some(51));
    }

    #[test]
    fn what_a_silent_follower_needs_stays_within_the_limit() {
        assert_eq!(cut(120, silent(20)), None, "a sixth is not enough to cut");
        assert_eq!(cut(120, silent(30)), Some(30));
        assert_eq!(cut(120, silent(19)), Some(70));
    }

    #[test]
    fn what_an_answering_follower_needs_stays_within_three_times_the_limit() {
        assert_eq!(cut(120, answering(0)), None);
        assert_eq!(cut(300, answering(0)), None);
        assert_eq!(cut(300, answering(74)), None, "less than a quarter is not enough to cut");
        assert_eq!(cut(300, answering(75)), Some(75));
        assert_eq!(cut(301, answering(0)), Some(251));
        assert_eq!(cut(320, answering(20)), None);
        assert_eq!(cut(600, answering(300)), Some(300));
    }

    #[test]
    fn the_log_of_a_leader_with_slow_followers_takes_four_times_its_limit_at_most() {
        for lag in [0, 40, 90, 110, 250, 299, 301, 1000] {
            for needed in [silent, answering] {
                let mut log = log_of(0);
                let mut most = 0;
                for last in 1..2000_u64 {
                    log.append(vec![entry(last)]);
                    let trim = Trim::new(NodeId(1), Some(BYTES_MAX), log.last());
                    let has = last.saturating_sub(lag).max(log.trimmed().0);
                    if let Some(position) = trim.position(&log, log.last(), needed(has)) {
                        log.trim(position);
                    }
                    most = most.max(log.bytes());
                }
                assert!(most <= 4 * BYTES_MAX, "{lag} entries behind: {most} bytes");
            }
        }
    }

    #[test]
    fn the_slowest_follower_whose_part_may_stay_decides() {
        let needed = |answering, silent| Needed { answering: Some(answering), silent: Some(silent) };
        assert_eq!(cut(200, needed(Index(140), Index(120))), Some(120));
        assert_eq!(cut(200, needed(Index(120), Index(140))), Some(120));
        assert_eq!(cut(200, needed(Index(140), Index(99))), Some(140));
        assert_eq!(cut(600, needed(Index(299), Index(540))), Some(540));
    }

    #[test]
    fn a_member_answers_for_two_elections_after_it_was_heard() {
        let mut trim = Trim::new(NodeId(1), Some(BYTES_MAX), Index(0));
        assert!(!trim.answers(NodeId(2), 0));
        trim.heard(NodeId(2), 50);
        assert!(trim.answers(NodeId(2), 82) && !trim.answers(NodeId(2), 83) && !trim.answers(NodeId(3), 50));
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
            (at, trim.position(&log, log.last(), NOTHING).map(|(index, _)| index))
        };
        let cut = Some(Index(51));
        assert_eq!([1, 2, 3, 4].map(asked), [(76, cut), (63, cut), (51, cut), (88, cut)]);
    }

    #[test]
    fn a_log_is_cut_no_further_than_the_state_is_durable() {
        let log = log_of(120);
        let trim = Trim::new(NodeId(1), Some(BYTES_MAX), Index(50));
        assert_eq!(trim.position(&log, log.last(), NOTHING), Some((Index(50), Term(1))));
    }
}
