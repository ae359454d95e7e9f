//! Linearizability: does each operation seem to take effect at one moment between its call and its return?
//!
//! Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects" (1990). Their locality theorem
//! lets each key be checked by itself. Per key it is a search for an order (`search`) among the operations
//! (`problem`), made short by what the shown values tell beforehand (`grammar`, `knowledge`): an append of a unique
//! token, once a read shows it, has one place only. Tokens that are not unique, or that begin one another, cost that
//! knowledge for their key and nothing else: then the plain search decides.
//!
//! There is no clock in it. Too hard a history ends [`Verdict::Undecided`] after a number of steps, on every machine the
//! same, and a caller must take that for a failure: make the history easier (more keys, unique tokens) or allow more.
//!
//! ```
//! use pontoon_sim::linearizability::{Action, End, Observation, Operation, Verdict, check};
//!
//! let operation = |client, action, call, at, result| {
//!     Operation { client, key: "k".into(), call, action, end: End::Returned { at, result } }
//! };
//! let written = operation(1, Action::Put("new".into()), 0, 1, Observation::Done);
//! let stale = operation(2, Action::Get, 2, 3, Observation::Value(None));
//! let Verdict::Violation(conflict) = check(&[written, stale]) else { panic!("a stale read is no violation") };
//! println!("{}", conflict.timeline());
//! ```

mod conflict;
mod content;
pub mod generator;
mod grammar;
mod history;
mod knowledge;
mod problem;
mod search;
mod shrink;
mod timeline;
mod visited;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use conflict::{Conflict, Reason};
pub use history::{Action, End, Observation, Operation};
use problem::{Level, Problem};
use search::Outcome;

/// How many steps [`check`] spends on one key; the memory for that is below 200 MB.
pub const STEPS_MAX: u64 = 4_000_000;

/// After so many steps on one key, the question is asked in another way first.
const STEPS_FIRST: u64 = 50_000;
/// So many operations that return one after the other are looked at together, and so many steps spent on them.
const NEIGHBOURS: usize = 64;
const STEPS_NEIGHBOURS: u64 = 2_000;

/// What became of a check.
#[derive(Debug, Clone)]
#[must_use]
pub enum Verdict {
    /// There is an order that explains all results.
    Linearizable,
    /// There is none.
    Violation(Conflict),
    /// Not known: for some key so many steps were not enough. A failure.
    Undecided {
        /// Spent on that key.
        steps: u64,
    },
}

/// Decides whether the history, of any number of keys, is linearizable. Each key is absent at first.
///
/// # Panics
///
/// If an operation returns before it is called.
pub fn check(history: &[Operation]) -> Verdict {
    check_within(history, STEPS_MAX)
}

/// As [`check`], with at most `steps_max` steps (operations tried) per key. A violation of one key goes before the
/// indecision about another.
pub fn check_within(history: &[Operation], steps_max: u64) -> Verdict {
    let mut by_key: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        if let End::Returned { at, .. } = operation.end {
            assert!(operation.call <= at, "an operation returns before it is called: {operation:?}");
        }
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let mut verdict = Verdict::Linearizable;
    for operations in by_key.values() {
        match decide_key(operations, steps_max) {
            Decision::Legal => {}
            Decision::Illegal(clue) => return Verdict::Violation(Conflict::find(operations, clue)),
            Decision::Undecided { steps } => verdict = Verdict::Undecided { steps },
        }
    }
    verdict
}

/// What became of one key.
enum Decision {
    Legal,
    Illegal(Clue),
    Undecided { steps: u64 },
}

/// Where to look for the reason of a violation.
struct Clue {
    reason: Reason,
    /// Numbers of operations that contradict one another, if known; there may be fewer.
    culprits: Vec<usize>,
    /// Spent on the search.
    steps: u64,
}

/// Decides about the operations on one key. Where the search gets long, quicker questions come first: whether a few
/// neighbours contradict one another, whatever all others did; and whether there is no explanation even if nobody knew
/// what the writes told, as then few writes of unknown outcome matter.
fn decide_key(operations: &[&Operation], steps_max: u64) -> Decision {
    let first = decide(operations, &vec![Level::Whole; operations.len()], steps_max.min(STEPS_FIRST));
    if !matches!(first, Decision::Undecided { .. }) {
        return first;
    }
    if let Some(clue) = neighbours_in_conflict(operations, steps_max.min(STEPS_NEIGHBOURS)) {
        return Decision::Illegal(clue);
    }
    let silent = decide(operations, &vec![Level::Silent; operations.len()], steps_max.min(STEPS_FIRST));
    if matches!(silent, Decision::Illegal(_)) {
        return silent;
    }
    decide(operations, &vec![Level::Whole; operations.len()], steps_max)
}

/// Looks for a violation among each few operations that returned one after the other, with all others set aside.
fn neighbours_in_conflict(operations: &[&Operation], steps_max: u64) -> Option<Clue> {
    let mut by_return: Vec<(u64, usize)> = Vec::with_capacity(operations.len());
    for (number, operation) in operations.iter().enumerate() {
        if let End::Returned { at, .. } = operation.end {
            by_return.push((at, number));
        }
    }
    by_return.sort_unstable();
    (0..by_return.len()).step_by(NEIGHBOURS / 2).find_map(|start| {
        let neighbours = &by_return[start..by_return.len().min(start + NEIGHBOURS)];
        let mut levels = vec![Level::SetAside; operations.len()];
        for &(_, number) in neighbours {
            levels[number] = Level::Silent;
        }
        let Decision::Illegal(mut clue) = decide(operations, &levels, steps_max) else { return None };
        if clue.culprits.is_empty() {
            clue.culprits = neighbours.iter().map(|&(_, number)| number).collect();
        }
        Some(clue)
    })
}

/// Decides about the operations on one key, each held against the register at its level.
fn decide(operations: &[&Operation], levels: &[Level], steps_max: u64) -> Decision {
    let problem = match Problem::new(operations, levels) {
        Ok(problem) => problem,
        Err(contradiction) => {
            let reason = Reason::from(contradiction.kind);
            return Decision::Illegal(Clue { reason, culprits: contradiction.culprits, steps: 0 });
        }
    };
    let search = search::search(&problem, steps_max);
    let steps = search.steps;
    match search.outcome {
        Outcome::Legal => Decision::Legal,
        Outcome::Illegal => Decision::Illegal(Clue { reason: Reason::NoOrder, culprits: Vec::new(), steps }),
        Outcome::Undecided => Decision::Undecided { steps },
    }
}
