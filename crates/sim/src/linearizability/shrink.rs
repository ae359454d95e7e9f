//! From a history without an explanation to the few operations that have none.
//!
//! No operation is simply dropped: without a write, each read of it would look like a fault. It is *set aside* instead
//! ([`Level::SetAside`]): a read is forgotten, a write may have happened at any time or never. That only ever makes
//! more orders possible, so what is left is a violation whatever became of the operations set aside. The search for
//! few is the delta debugging of Zeller and Hildebrandt (2002), with a bound on its effort.

use super::{
    Clue, Decision, NEIGHBOURS, STEPS_NEIGHBOURS, decide,
    history::{End, Operation},
    neighbours_in_conflict,
    problem::Level,
};

const CHECKS_MAX: u32 = 400;
/// A check that needs many more steps than the first one did is not worth it.
const STEPS_FACTOR: u64 = 2;
const STEPS_MIN: u64 = 5_000;
const STEPS_MAX: u64 = 100_000;

/// How much of each operation the conflict needs.
pub(super) struct Shrunk {
    pub(super) levels: Vec<Level>,
    pub(super) clue: Clue,
}

/// Sets operations aside as long as the rest is still a violation.
pub(super) fn shrink(operations: &[&Operation], mut clue: Clue) -> Shrunk {
    if clue.culprits.is_empty()
        && operations.len() > NEIGHBOURS
        && let Some(local) = neighbours_in_conflict(operations, STEPS_NEIGHBOURS)
    {
        clue = local;
    }
    let steps_max = clue.steps.saturating_mul(STEPS_FACTOR).clamp(STEPS_MIN, STEPS_MAX);
    let levels = vec![Level::Whole; operations.len()];
    let mut shrinker =
        Shrinker { operations, best: Shrunk { levels, clue }, checks_left: CHECKS_MAX, steps_max };
    shrinker.keep_culprits();
    shrinker.silence();
    shrinker.cut_off();
    shrinker.keep_latest();
    shrinker.set_aside_chunks();
    shrinker.best
}

struct Shrinker<'a> {
    operations: &'a [&'a Operation],
    /// The fewest so far: always a violation.
    best: Shrunk,
    checks_left: u32,
    steps_max: u64,
}

impl Shrinker<'_> {
    /// Takes `levels` if they are a violation too.
    fn attempt(&mut self, levels: Vec<Level>) -> bool {
        if self.checks_left == 0 {
            return false;
        }
        self.checks_left -= 1;
        let Decision::Illegal(clue) = decide(self.operations, &levels, self.steps_max) else { return false };
        self.best = Shrunk { levels, clue };
        true
    }

    /// If it is known who contradict one another, tries those alone.
    fn keep_culprits(&mut self) {
        let culprits = self.best.clue.culprits.clone();
        for level in [Level::Silent, Level::Whole] {
            let mut levels = vec![Level::SetAside; self.operations.len()];
            for &culprit in &culprits {
                levels[culprit] = level;
            }
            if culprits.is_empty() || self.attempt(levels) {
                return;
            }
        }
    }

    /// Tries without what writes told. That makes all further checks quick, as then no result depends on writes of
    /// unknown outcome that no read shows.
    fn silence(&mut self) {
        let silent = |level: &Level| if *level == Level::Whole { Level::Silent } else { *level };
        let levels = self.best.levels.iter().map(silent).collect();
        self.attempt(levels);
    }

    /// Finds the first return such that what happened until then is a violation, and forgets what came after it.
    fn cut_off(&mut self) {
        let mut ends: Vec<u64> = self.counting_by_return().into_iter().map(|(at, _)| at).collect();
        ends.dedup();
        // A violation until one return is one until each later return.
        while ends.len() > 1 {
            let middle = (ends.len() - 1) / 2;
            let end = ends[middle];
            let level = |(operation, level): (&&Operation, &Level)| match operation.end {
                End::Returned { at, .. } if level.counts() && at <= end => *level,
                _ if *level == Level::SetAside => Level::SetAside,
                _ => Level::Open,
            };
            let levels = self.operations.iter().zip(&self.best.levels).map(level).collect();
            if self.attempt(levels) {
                ends.truncate(middle + 1);
            } else {
                ends.drain(..=middle);
            }
        }
    }

    /// Tries the last 4, 16, 64, ... that returned, as violations are mostly local.
    fn keep_latest(&mut self) {
        let counting = self.counting_by_return();
        let mut count = 4;
        while count < counting.len() {
            for open_level in [Level::SetAside, Level::Open] {
                let mut levels = self.best.levels.clone();
                for level in levels.iter_mut().filter(|level| **level == Level::Open) {
                    *level = open_level;
                }
                for &(_, number) in &counting[..counting.len() - count] {
                    levels[number] = Level::SetAside;
                }
                if self.attempt(levels) {
                    return;
                }
            }
            count *= 4;
        }
    }

    /// Sets aside chunks, of half of what is left at first and of one operation in the end.
    fn set_aside_chunks(&mut self) {
        let mut chunk_len = self.remaining().len().div_ceil(2).max(1);
        loop {
            let mut changed = false;
            for chunk in self.remaining().chunks(chunk_len) {
                let mut levels = self.best.levels.clone();
                for &number in chunk {
                    levels[number] = Level::SetAside;
                }
                changed |= self.attempt(levels);
            }
            if self.checks_left == 0 || (chunk_len == 1 && !changed) {
                return;
            }
            chunk_len = chunk_len.div_ceil(2);
        }
    }

    /// The operations that must take effect, after the times of their returns.
    fn counting_by_return(&self) -> Vec<(u64, usize)> {
        let mut counting: Vec<(u64, usize)> = Vec::new();
        for (number, operation) in self.operations.iter().enumerate() {
            if let End::Returned { at, .. } = operation.end
                && self.best.levels[number].counts()
            {
                counting.push((at, number));
            }
        }
        counting.sort_unstable();
        counting
    }

    fn remaining(&self) -> Vec<usize> {
        let levels = self.best.levels.iter().enumerate();
        levels.filter(|(_, level)| **level != Level::SetAside).map(|(number, _)| number).collect()
    }
}
