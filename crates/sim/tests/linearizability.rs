//! The linearizability checker: what it accepts, what it finds, how it shows it, and how fast it is.

#![allow(clippy::print_stdout, reason = "the time that each history took is the point of these tests")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use pontoon_sim::linearizability::{
    Action, Conflict, End, Observation, Operation, Reason, Verdict, check, check_within,
    generator::{Fault, Shape, ambiguous, generate, plant},
};

fn operation(client: u64, call: u64, action: Action, end: End) -> Operation {
    Operation { client, key: "k".into(), call, action, end }
}

fn returned(at: u64, result: Observation) -> End {
    End::Returned { at, result }
}

fn put(client: u64, call: u64, at: u64, value: &'static str) -> Operation {
    operation(client, call, Action::Put(value.into()), returned(at, Observation::Done))
}

fn append(client: u64, call: u64, at: u64, token: &'static str) -> Operation {
    operation(client, call, Action::Append(token.into()), returned(at, Observation::Done))
}

fn append_to_length(client: u64, call: u64, at: u64, token: &'static str, length: u64) -> Operation {
    operation(client, call, Action::Append(token.into()), returned(at, Observation::Length(length)))
}

fn delete(client: u64, call: u64, at: u64, removed: bool) -> Operation {
    operation(client, call, Action::Delete, returned(at, Observation::Removed(removed)))
}

fn get(client: u64, call: u64, at: u64, value: Option<&'static str>) -> Operation {
    operation(client, call, Action::Get, returned(at, Observation::Value(value.map(Bytes::from))))
}

fn with_end(operation: Operation, end: End) -> Operation {
    Operation { end, ..operation }
}

fn is_legal(history: &[Operation]) -> bool {
    match check(history) {
        Verdict::Linearizable => true,
        Verdict::Violation(_) => false,
        Verdict::Undecided { steps } => panic!("undecided after {steps} steps"),
    }
}

fn conflict(history: &[Operation]) -> Conflict {
    match check(history) {
        Verdict::Violation(conflict) => conflict,
        other => panic!("not a violation but {other:?}"),
    }
}

#[test]
fn operations_in_sequence_are_explained() {
    assert!(is_legal(&[]));
    assert!(is_legal(&[
        get(1, 0, 1, None),
        put(1, 2, 3, "p"),
        append_to_length(1, 4, 5, "<1>", 4),
        get(1, 6, 7, Some("p<1>")),
        delete(1, 8, 9, true),
        delete(1, 10, 11, false),
        append_to_length(1, 12, 13, "<2>", 3),
        get(1, 14, 15, Some("<2>")),
    ]));
}

#[test]
fn concurrent_operations_take_effect_in_either_order_but_in_one() {
    let appends = [append(1, 0, 10, "<1>"), append(2, 0, 10, "<2>")];
    let both =
        |first, second| [appends.to_vec(), vec![get(3, 11, 12, first), get(4, 11, 12, second)]].concat();
    assert!(is_legal(&both(Some("<1><2>"), Some("<1><2>"))));
    assert!(is_legal(&both(Some("<2><1>"), Some("<2><1>"))));
    assert_eq!(conflict(&both(Some("<2><1>"), Some("<1><2>"))).reason, Reason::Disagreement);
}

#[test]
fn a_read_that_misses_what_had_returned_is_a_violation() {
    assert!(!is_legal(&[put(1, 0, 1, "new"), get(2, 2, 3, None)]));
    assert!(is_legal(&[put(1, 0, 2, "new"), get(2, 1, 3, None)]));
    assert!(is_legal(&[put(1, 0, 2, "new"), get(2, 2, 3, None)]), "equal times count as concurrent");
    assert!(!is_legal(&[append(1, 0, 1, "<1>"), append(1, 2, 3, "<2>"), get(2, 4, 5, Some("<1>"))]));
}

#[test]
fn a_read_of_what_is_written_later_is_a_violation() {
    let conflict = conflict(&[get(1, 0, 1, Some("<1>")), append(2, 2, 3, "<1>")]);
    assert_eq!(conflict.operations.len(), 2);
}

#[test]
fn an_unknown_operation_may_take_effect_late_or_never_but_not_before_its_call() {
    let unknown = with_end(append(1, 5, 0, "<u>"), End::Unknown);
    assert!(is_legal(&[unknown.clone(), get(2, 90, 91, None)]));
    assert!(is_legal(&[unknown.clone(), get(2, 80, 81, None), get(2, 90, 91, Some("<u>"))]));
    assert!(!is_legal(&[unknown.clone(), get(2, 80, 81, Some("<u>")), get(2, 90, 91, None)]));
    assert!(!is_legal(&[unknown.clone(), get(2, 1, 2, Some("<u>"))]));
    assert!(!is_legal(&[unknown, get(2, 90, 91, Some("<u><u>"))]));
    let delete = with_end(delete(1, 5, 5, true), End::Unknown);
    assert!(is_legal(&[put(2, 0, 1, "p"), delete.clone(), get(2, 6, 7, Some("p")), get(2, 8, 9, None)]));
    assert!(!is_legal(&[put(2, 0, 1, "p"), delete, get(2, 2, 3, None)]));
}

#[test]
fn an_unknown_append_that_no_read_shows_still_counts_for_lengths_and_presence() {
    let unknown = with_end(append(1, 0, 0, "<u>"), End::Unknown);
    let overwrite = put(2, 8, 9, "p");
    assert!(is_legal(&[unknown.clone(), append_to_length(2, 1, 2, "<1>", 6), overwrite.clone()]));
    assert!(!is_legal(&[append_to_length(2, 1, 2, "<1>", 6), overwrite.clone()]));
    assert!(is_legal(&[unknown.clone(), delete(2, 1, 2, true), overwrite.clone()]));
    assert!(!is_legal(&[unknown, delete(2, 1, 2, true), delete(2, 3, 4, true), overwrite]));
}

#[test]
fn what_was_surely_not_executed_must_not_be_seen() {
    let failed = with_end(append(1, 0, 0, "<f>"), End::NotExecuted);
    assert!(is_legal(&[failed.clone(), get(2, 1, 2, None)]));
    let conflict =
        conflict(&[failed.clone(), put(2, 1, 2, "p"), append(2, 3, 4, "<1>"), get(2, 5, 6, Some("p<f><1>"))]);
    assert_eq!(conflict.reason, Reason::NotExecuted);
    assert!(conflict.operations.contains(&failed));
    let failed = with_end(put(1, 0, 0, "f"), End::NotExecuted);
    assert_eq!(self::conflict(&[failed, get(2, 1, 2, Some("f"))]).reason, Reason::NotExecuted);
}

#[test]
fn what_nobody_wrote_must_not_be_seen() {
    assert_eq!(
        conflict(&[append(1, 0, 1, "<1>"), get(2, 2, 3, Some("<1><2>"))]).reason,
        Reason::NeverWritten
    );
    let lengthy = [append_to_length(1, 0, 1, "<1>", 6), append(1, 0, 1, "<2>"), get(2, 4, 5, Some("<1><2>"))];
    assert_eq!(conflict(&lengthy).reason, Reason::WrongLength);
    let foreign = operation(1, 0, Action::Get, returned(1, Observation::Length(1)));
    assert_eq!(conflict(&[foreign]).reason, Reason::ForeignResult);
}

#[test]
fn tokens_that_are_not_unique_are_judged_by_the_plain_search() {
    assert!(is_legal(&[append(1, 0, 1, "a"), append(1, 2, 3, "a"), get(2, 4, 5, Some("aa"))]));
    assert!(!is_legal(&[append(1, 0, 1, "a"), append(1, 2, 3, "a"), get(2, 4, 5, Some("a"))]));
    assert!(is_legal(&[append(1, 0, 1, "a"), append(1, 2, 3, "ab"), get(2, 4, 5, Some("aab"))]));
    assert!(!is_legal(&[append(1, 0, 1, "a"), append(1, 2, 3, "ab"), get(2, 4, 5, Some("aba"))]));
    assert!(is_legal(&[append(1, 0, 1, ""), get(2, 4, 5, Some(""))]));
    assert!(!is_legal(&[append(1, 0, 1, ""), get(2, 4, 5, None)]));
    let put_or_appended =
        [put(1, 0, 1, "a"), delete(1, 2, 3, true), append(1, 4, 5, "a"), get(2, 6, 7, Some("a"))];
    assert!(is_legal(&put_or_appended));
}

#[test]
fn keys_are_independent() {
    let other = Operation { key: "other".into(), ..get(2, 2, 3, None) };
    assert!(is_legal(&[put(1, 0, 1, "p"), other.clone()]));
    let conflict = conflict(&[put(1, 0, 1, "p"), other, get(2, 2, 3, None)]);
    assert_eq!((conflict.key.as_ref(), conflict.operations.len()), (&b"k"[..], 2));
}

#[test]
fn too_few_steps_leave_a_history_undecided() {
    let history = generate(Shape::lab(4, 200, 1), 1);
    assert!(matches!(check_within(&history, 10), Verdict::Undecided { steps: 10 }));
}

#[test]
fn a_conflict_is_drawn_with_one_bar_per_operation() {
    let unknown = with_end(append(3, 1, 0, "<2>"), End::Unknown);
    let history = [put(1, 0, 2, "new"), unknown, get(2, 4, 6, None), get(4, 5, 9, Some("new<2>"))];
    let expected = "\
key \"k\": no order of the operations agrees with their times and results
  client 1  put \"new\" -> done  ├───┤              [0, 2]
  client 2  get -> nothing             ├───┤      [4, 6]
  2 more on this key do not matter: whenever they took effect, this stands
";
    let drawn = conflict(&history).timeline();
    assert_eq!(drawn, expected);
}

/// All orders of all choices of operations, one by one: obviously right, and hopelessly slow.
fn brute_force(operations: &[Operation]) -> bool {
    fn apply(state: &Option<Vec<u8>>, operation: &Operation) -> Option<Option<Vec<u8>>> {
        let (next, told) = match &operation.action {
            Action::Get => (state.clone(), Observation::Value(state.clone().map(Bytes::from))),
            Action::Put(value) => (Some(value.to_vec()), Observation::Done),
            Action::Append(token) => {
                let value = [state.as_deref().unwrap_or_default(), token].concat();
                (Some(value.clone()), Observation::Length(value.len() as u64))
            }
            Action::Delete => (None, Observation::Removed(state.is_some())),
        };
        match &operation.end {
            End::Returned { result, .. } if *result != Observation::Done && *result != told => None,
            _ => Some(next),
        }
    }
    fn extend(left: &[Operation], state: &Option<Vec<u8>>) -> bool {
        let return_of = |operation: &Operation| match operation.end {
            End::Returned { at, .. } => at,
            _ => u64::MAX,
        };
        if left.iter().all(|operation| return_of(operation) == u64::MAX) {
            return true;
        }
        (0..left.len()).any(|chosen| {
            let is_next = left.iter().all(|other| left[chosen].call <= return_of(other));
            let Some(next) = apply(state, &left[chosen]).filter(|_| is_next) else { return false };
            let rest = [&left[..chosen], &left[chosen + 1..]].concat();
            extend(&rest, &next)
        })
    }
    let executed: Vec<Operation> =
        operations.iter().filter(|operation| operation.end != End::NotExecuted).cloned().collect();
    extend(&executed, &None)
}

#[test]
fn the_verdict_is_that_of_brute_force() {
    let mut illegal = 0;
    let count = 6000;
    for seed in 0..count {
        let history = ambiguous(seed, 1);
        let expected = brute_force(&history);
        illegal += u64::from(!expected);
        assert_eq!(is_legal(&history), expected, "seed {seed}: {history:#?}");
    }
    assert!(illegal > count / 5 && illegal < count * 4 / 5, "{illegal} of {count} are illegal");
}

#[test]
fn a_conflict_is_a_violation_whatever_the_writes_set_aside_did() {
    for seed in 0..2000 {
        let history = ambiguous(seed, 1);
        let Verdict::Violation(conflict) = check(&history) else { continue };
        let relaxed: Vec<Operation> = history
            .iter()
            .filter_map(|operation| match (conflict.operations.contains(operation), &operation.action) {
                (true, _) => Some(operation.clone()),
                (false, Action::Get) => None,
                (false, _) if operation.end == End::NotExecuted => None,
                (false, _) => Some(Operation { call: 0, end: End::Unknown, ..operation.clone() }),
            })
            .collect();
        assert!(!brute_force(&relaxed), "seed {seed}: {}", conflict.timeline());
    }
}

#[test]
fn planted_faults_are_found_and_reduced_to_a_few_operations() {
    let lab = Shape::lab(5, 400, 2);
    for shape in [lab, Shape { observant: false, unknown_percent: 8, ..lab }, Shape { clients: 20, ..lab }] {
        for (seed, fault) in (0..8).flat_map(|seed| Fault::ALL.map(|fault| (seed, fault))) {
            let mut history = generate(shape, seed);
            assert!(is_legal(&history), "seed {seed}");
            if plant(&mut history, fault, seed) {
                let conflict = conflict(&history);
                assert!(conflict.operations.len() <= 6, "{fault:?}, seed {seed}:\n{}", conflict.timeline());
            } else {
                assert_eq!(fault, Fault::SwappedOrder, "no place for {fault:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn deletes_and_unknown_outcomes_do_not_blow_up_the_search() {
    for seed in 0..20 {
        let shape = Shape { delete_percent: 5, unknown_percent: 10, ..Shape::lab(8, 2000, 1) };
        let history = generate(shape, seed);
        assert!(is_legal(&history), "seed {seed}");
    }
}

/// What a release build must keep to; a debug build is given ten times that.
fn bound(limit: Duration) -> Duration {
    if cfg!(debug_assertions) { limit * 10 } else { limit }
}

#[test]
fn ten_keys_with_100_000_operations_take_two_seconds() {
    let history = generate(Shape::lab(10, 100_000, 10), 7);
    let start = Instant::now();
    assert!(is_legal(&history));
    println!("100,000 operations, 10 keys: {:?}", start.elapsed());
    assert!(start.elapsed() < bound(Duration::from_secs(2)), "{:?}", start.elapsed());
}

#[test]
fn one_key_with_10_000_operations_of_ten_clients_takes_ten_seconds() {
    let lab = Shape::lab(10, 10_000, 1);
    for shape in
        [lab, Shape { put_percent: 0, ..lab }, Shape { delete_percent: 5, unknown_percent: 5, ..lab }]
    {
        let history = generate(shape, 8);
        let start = Instant::now();
        assert!(is_legal(&history));
        println!("10,000 operations, one key: {:?}", start.elapsed());
        assert!(start.elapsed() < bound(Duration::from_secs(10)), "{:?}", start.elapsed());
    }
}

#[test]
fn a_fault_among_10_000_operations_on_one_key_is_found_in_ten_seconds() {
    for fault in Fault::ALL {
        let mut history = generate(Shape::lab(10, 10_000, 1), 9);
        assert!(plant(&mut history, fault, 9));
        let start = Instant::now();
        let conflict = conflict(&history);
        println!("{fault:?}: {:?}\n{}", start.elapsed(), conflict.timeline());
        assert!(conflict.operations.len() <= 6);
        assert!(start.elapsed() < bound(Duration::from_secs(10)), "{:?}", start.elapsed());
    }
}
