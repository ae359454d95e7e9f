//! What a violation comes down to.

use std::fmt;

use bytes::Bytes;

use super::{
    Clue, Decision, decide,
    history::{End, Observation, Operation},
    knowledge::ContradictionKind,
    problem::Level,
    shrink::{Shrunk, shrink},
    timeline,
};

/// A few operations on one key that no order explains.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// The key.
    pub key: Bytes,
    /// What is wrong with them.
    pub reason: Reason,
    /// They themselves, by the time of their calls.
    pub operations: Vec<Operation>,
    /// How many other operations on the key there are. The conflict stands even if each of their writes happened at any
    /// time, or never.
    pub set_aside: usize,
}

/// Why operations cannot be explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The result is of a kind that the action never gives.
    ForeignResult,
    /// The value shown is none that the writes can produce.
    NeverWritten,
    /// The value shows what was reported as surely not executed.
    NotExecuted,
    /// Values disagree about the order of the writes that they show.
    Disagreement,
    /// An append told a length that the values shown refute.
    WrongLength,
    /// No order of the operations agrees with their times and results.
    NoOrder,
}

impl Conflict {
    /// Reduces a violation among the operations on one key.
    pub(super) fn find(operations: &[&Operation], clue: Clue) -> Conflict {
        let Shrunk { levels, clue } = shrink(operations, clue);
        let mut reason = clue.reason;
        let mut shown: Vec<bool> = levels.iter().map(|level| *level != Level::SetAside).collect();
        if let Some(number) = executed_after_all(operations, &levels, clue.steps) {
            reason = Reason::NotExecuted;
            shown[number] = true;
        }
        let pick = |(operation, shown): (&&Operation, &bool)| shown.then(|| (*operation).clone());
        let mut chosen: Vec<Operation> = operations.iter().zip(&shown).filter_map(pick).collect();
        chosen.sort_by_key(|operation| operation.call);
        let set_aside = operations.len() - chosen.len();
        Conflict { key: operations[0].key.clone(), reason, operations: chosen, set_aside }
    }

    /// Draws the conflict as text: one row per operation with a bar from its call to its return.
    ///
    /// The columns are the order of the calls and returns, not the times between them, which stand at the end of each row.
    pub fn timeline(&self) -> String {
        timeline::draw(self)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.timeline())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ForeignResult => "a result of a kind that the operation never gives",
            Reason::NeverWritten => "a value that the writes cannot produce",
            Reason::NotExecuted => "a value shows what was reported as surely not executed",
            Reason::Disagreement => "the values shown disagree about the order of the writes",
            Reason::WrongLength => "an append told a length that the values shown refute",
            Reason::NoOrder => "no order of the operations agrees with their times and results",
        })
    }
}

impl From<ContradictionKind> for Reason {
    fn from(kind: ContradictionKind) -> Reason {
        match kind {
            ContradictionKind::ForeignResult => Reason::ForeignResult,
            ContradictionKind::NeverWritten => Reason::NeverWritten,
            ContradictionKind::Disagreement => Reason::Disagreement,
            ContradictionKind::WrongLength => Reason::WrongLength,
        }
    }
}

/// The operation that was reported as not executed and would explain the conflict if it had been: its bytes stand in a
/// value of the conflict.
fn executed_after_all(operations: &[&Operation], levels: &[Level], steps: u64) -> Option<usize> {
    let shown = operations.iter().zip(levels).filter_map(|(operation, level)| match &operation.end {
        End::Returned { result: Observation::Value(Some(value)), .. } if level.counts() => Some(value),
        _ => None,
    });
    let values: Vec<&Bytes> = shown.collect();
    let is_shown = |bytes: &Bytes| {
        !bytes.is_empty()
            && values.iter().any(|value| value.windows(bytes.len()).any(|window| window == bytes))
    };
    let steps_max = steps.saturating_mul(2).saturating_add(10_000);
    (0..operations.len()).find(|&number| {
        let operation = operations[number];
        if operation.end != End::NotExecuted || !operation.action.written().is_some_and(is_shown) {
            return false;
        }
        let executed = Operation { end: End::Unknown, ..operation.clone() };
        let mut assumed = operations.to_vec();
        assumed[number] = &executed;
        matches!(decide(&assumed, levels, steps_max), Decision::Legal)
    })
}
