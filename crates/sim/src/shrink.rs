//! A failing scenario made smaller: fewer kinds of faults, fewer clients, less time, as long as it still fails.

use crate::{scenario::Scenario, time::SECOND};

/// Runs that shrinking may take.
const RUNS_MAX: u32 = 60;

/// The smallest scenario found that still fails. It need not fail for the same reason.
pub fn shrink(failing: &Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut best = failing.clone();
    let mut runs = 0;
    loop {
        let smaller = smaller(&best).into_iter().find(|scenario| {
            runs += 1;
            runs <= RUNS_MAX && fails(scenario)
        });
        match smaller {
            Some(scenario) => best = scenario,
            None => return best,
        }
    }
}

/// One step smaller each, the greatest steps first.
fn smaller(scenario: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let kinds = &scenario.faults.kinds;
    for left_out in 0..kinds.len() {
        let mut next = scenario.clone();
        next.faults.kinds.remove(left_out);
        all.push(next);
    }
    let (sessions, plain) = scenario.clients;
    for clients in
        [(sessions / 2, plain / 2), (sessions.saturating_sub(1), plain), (sessions, plain.saturating_sub(1))]
    {
        if clients != scenario.clients && clients.0 + clients.1 > 0 {
            all.push(Scenario { clients, ..scenario.clone() });
        }
    }
    if scenario.faults_for_us > SECOND {
        all.push(Scenario { faults_for_us: scenario.faults_for_us / 2, ..scenario.clone() });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::FaultKind;

    #[test]
    fn what_the_failure_does_not_need_is_left_out() {
        let mut scenario = Scenario::from_seed(1);
        scenario.faults.kinds = FaultKind::ALL.to_vec();
        scenario.clients = (5, 3);
        scenario.faults_for_us = 10 * SECOND;
        let needs = |scenario: &Scenario| {
            scenario.faults.kinds.contains(&FaultKind::Pause) && scenario.clients.0 >= 2
        };
        let shrunk = shrink(&scenario, needs);
        assert_eq!(shrunk.faults.kinds, [FaultKind::Pause]);
        assert_eq!(shrunk.clients, (2, 0));
        assert!(shrunk.faults_for_us <= SECOND + SECOND / 2);
    }

    #[test]
    fn what_never_fails_smaller_stays_as_it_is() {
        let scenario = Scenario::from_seed(1);
        let shrunk = shrink(&scenario, |_| false);
        assert_eq!(shrunk.clients, scenario.clients);
        assert_eq!(shrunk.faults.kinds, scenario.faults.kinds);
    }
}
