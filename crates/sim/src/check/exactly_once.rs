//! Exactly once, and in each client's order: the classic suite's append check (`checkClntAppends`), on the tokens of a final
//! value. It needs no search, so it holds for histories of any size; tokens are unique and end with `;`.

use std::collections::BTreeMap;

use super::Violation;
use crate::linearizability::{Action, End, Operation};

/// Holds the final value of a key against what was written to it: no token twice, none that was never written or surely not
/// executed, and none before another that had returned before it was called. If the key was only appended to, every
/// acknowledged token is there.
///
/// # Errors
///
/// Which token is wrong.
pub fn check_exactly_once(operations: &[&Operation], value: &[u8]) -> Result<(), Violation> {
    let wrong = |what: String| Err(Violation::new("exactly once, in order", what));
    let written: BTreeMap<&[u8], &Operation> = operations
        .iter()
        .filter_map(|operation| operation.action.written().map(|token| (token.as_ref(), *operation)))
        .collect();
    let tokens: Vec<&[u8]> = value.split_inclusive(|byte| *byte == b';').collect();
    let mut seen = BTreeMap::new();
    let mut earliest_return_after = u64::MAX;
    for (at, token) in tokens.iter().enumerate().rev() {
        let shown = String::from_utf8_lossy(token);
        let Some(operation) = written.get(token) else {
            return wrong(format!("{shown:?} was never written"));
        };
        if seen.insert(*token, at).is_some() {
            return wrong(format!("{shown:?} is there twice"));
        }
        match operation.end {
            End::NotExecuted => return wrong(format!("{shown:?} was surely not executed, and is there")),
            End::Returned { at, .. } => earliest_return_after = earliest_return_after.min(at),
            End::Unknown => {}
        }
        if operation.call > earliest_return_after {
            return wrong(format!("{shown:?} comes before one that had returned before it was called"));
        }
    }
    let only_appended =
        operations.iter().all(|operation| matches!(operation.action, Action::Append(_) | Action::Get));
    let lost = written.iter().find(|(token, operation)| {
        matches!(operation.end, End::Returned { .. }) && !seen.contains_key(*token)
    });
    match lost {
        Some((token, _)) if only_appended => {
            wrong(format!("{:?} is missing", String::from_utf8_lossy(token)))
        }
        _ => Ok(()),
    }
}
