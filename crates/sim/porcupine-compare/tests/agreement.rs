//! Two checkers that share no code come to the same verdicts.

use std::collections::BTreeMap;

use pontoon_porcupine_compare::linearizability::{
    Action, End, Observation, Operation, Verdict, check,
    generator::{Fault, Shape, ambiguous, generate, plant},
};
use porcupine_rs::Model;

/// One key's value, with what an operation did and observed (`None`: it never returned).
#[derive(Clone)]
struct Register;

impl Model for Register {
    type State = Option<Vec<u8>>;
    type Op = (Action, Option<Observation>);
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, (action, observed): &Self::Op) -> (bool, Self::State) {
        let mut next = state.clone();
        let told = match action {
            Action::Get => Observation::Value(state.clone().map(Into::into)),
            Action::Put(value) => {
                next = Some(value.to_vec());
                Observation::Done
            }
            Action::Append(token) => {
                let value = next.get_or_insert_default();
                value.extend_from_slice(token);
                Observation::Length(value.len() as u64)
            }
            Action::Delete => Observation::Removed(next.take().is_some()),
        };
        let fits =
            observed.as_ref().is_none_or(|observed| *observed == Observation::Done || *observed == told);
        (fits, next)
    }
}

/// The other checker's verdict. It must place every operation: one that never returned may come after all others, which
/// is as good as never; one that was not executed is left out.
fn porcupine_accepts(history: &[Operation]) -> bool {
    let mut by_key: BTreeMap<_, Vec<porcupine_rs::Operation<Register>>> = BTreeMap::new();
    for operation in history {
        let (return_time, observed) = match &operation.end {
            End::NotExecuted => continue,
            End::Unknown => (i64::MAX, None),
            End::Returned { at, result } => (*at as i64, Some(result.clone())),
        };
        by_key.entry(operation.key.clone()).or_default().push(porcupine_rs::Operation {
            client_id: Some(operation.client as u32),
            call_time: operation.call as i64,
            return_time,
            op: (operation.action.clone(), observed),
            metadata: None,
        });
    }
    by_key.values().all(|operations| porcupine_rs::check_operations(operations))
}

fn ours_accepts(history: &[Operation]) -> bool {
    match check(history) {
        Verdict::Linearizable => true,
        Verdict::Violation(_) => false,
        Verdict::Undecided { steps } => panic!("undecided after {steps} steps"),
    }
}

#[test]
fn verdicts_on_3000_small_histories_are_equal() {
    const COUNT: u64 = 3000;
    let mut legal = 0;
    for seed in 0..COUNT {
        let mut history = ambiguous(1_000_000 + seed, 1 + (seed % 2) as usize);
        if seed % 3 == 0 {
            // A coarse clock: many calls and returns at the same time.
            for operation in &mut history {
                operation.call /= 4;
                if let End::Returned { at, .. } = &mut operation.end {
                    *at /= 4;
                }
            }
        }
        let expected = porcupine_accepts(&history);
        legal += u64::from(expected);
        assert_eq!(ours_accepts(&history), expected, "seed {seed}: {history:#?}");
    }
    println!("{legal} of {COUNT} are legal");
    assert!((COUNT / 3..=COUNT * 2 / 3).contains(&legal), "{legal} of {COUNT} are legal");
}

#[test]
fn verdicts_on_histories_with_planted_faults_are_equal() {
    let mut planted = 0;
    for seed in 0..200 {
        let mut history = generate(Shape { put_percent: 15, ..Shape::lab(3, 40, 1) }, seed);
        assert!(porcupine_accepts(&history) && ours_accepts(&history), "seed {seed}");
        if plant(&mut history, Fault::ALL[seed as usize % 4], seed) {
            planted += 1;
            assert!(!porcupine_accepts(&history) && !ours_accepts(&history), "seed {seed}: {history:#?}");
        }
    }
    assert!(planted > 100, "only {planted} histories had a place for a fault");
}
