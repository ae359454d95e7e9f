//! All outcomes, and the tables of their medians.

use std::collections::BTreeMap;

use super::{
    contender::{ETCD, FOLLOWER, LEADER, PONTOON, REDIS, SESSIONS},
    shape::Shape,
};
use crate::{
    document::{count, ms, table},
    load::{Op, Outcome},
};

/// By operation, shape and contender.
#[derive(Debug, Default)]
pub struct Results(BTreeMap<(Op, Shape, &'static str), Vec<Outcome>>);

/// A ratio that a target asks of.
const FOLLOWER_MIN: f64 = 0.7;
const SESSIONS_MIN: f64 = 0.8;
const P99_OF_ETCD_MAX: f64 = 0.5;

impl Results {
    /// One more.
    pub fn add(&mut self, op: Op, shape: Shape, contender: &'static str, outcome: Outcome) {
        self.0.entry((op, shape, contender)).or_default().push(outcome);
    }

    /// The tables, as Markdown.
    pub fn text(&self) -> String {
        let mut text = self.systems();
        text.push_str(
            "\nThrough one server only, and with sessions (exactly once); requests per second:\n\n",
        );
        text.push_str(&self.ways());
        let errors: u64 = self.0.values().flatten().map(|outcome| outcome.errors).sum();
        text.push_str(&format!("\nRequests that failed, in all rounds: {errors}.\n"));
        text
    }

    fn systems(&self) -> String {
        let header = [
            "",
            "shape",
            "Pontoon /s",
            "etcd /s",
            "Redis /s",
            "to etcd",
            "target",
            "to Redis",
            "target",
            "Pontoon p99 ms",
            "etcd p99 ms",
            "Redis p99 ms",
            "p99 to etcd",
            "target",
        ];
        let rows: Vec<_> = self.cells().into_iter().map(|(op, shape)| self.system_row(op, shape)).collect();
        table(&header, &rows)
    }

    fn system_row(&self, op: Op, shape: Shape) -> Vec<String> {
        let [pontoon, etcd, redis] = [PONTOON, ETCD, REDIS].map(|name| self.throughput(op, shape, name));
        let [pontoon_p99, etcd_p99, redis_p99] = [PONTOON, ETCD, REDIS].map(|name| self.p99(op, shape, name));
        let target = shape.target(op);
        vec![
            op.name().to_string(),
            shape.to_string(),
            count(pontoon),
            count(etcd),
            count(redis),
            ratio(pontoon, etcd),
            at_least(target.map(|target| target.etcd), pontoon, etcd),
            ratio(pontoon, redis),
            at_least(target.map(|target| target.redis), pontoon, redis),
            ms(pontoon_p99),
            ms(etcd_p99),
            ms(redis_p99),
            ratio(pontoon_p99, etcd_p99),
            at_most(P99_OF_ETCD_MAX, pontoon_p99, etcd_p99),
        ]
    }

    fn ways(&self) -> String {
        let header =
            ["", "shape", "leader", "follower", "to leader", "target", "sessions", "to without", "target"];
        let row = |(op, shape)| {
            let [all, leader, follower, sessions] =
                [PONTOON, LEADER, FOLLOWER, SESSIONS].map(|name| self.throughput(op, shape, name));
            vec![
                op.name().to_string(),
                shape.to_string(),
                count(leader),
                count(follower),
                ratio(follower, leader),
                at_least(Some(FOLLOWER_MIN), follower, leader),
                count(sessions),
                ratio(sessions, all),
                at_least(Some(SESSIONS_MIN), sessions, all),
            ]
        };
        table(&header, &self.cells().into_iter().map(row).collect::<Vec<_>>())
    }

    fn cells(&self) -> Vec<(Op, Shape)> {
        let mut cells: Vec<_> = self.0.keys().map(|(op, shape, _)| (*op, *shape)).collect();
        cells.dedup();
        let place = |shape| Shape::ALL.iter().position(|other| *other == shape);
        cells.sort_by_key(|(op, shape)| (*op, place(*shape), *shape));
        cells
    }

    fn throughput(&self, op: Op, shape: Shape, contender: &'static str) -> Option<f64> {
        median(self.0.get(&(op, shape, contender))?.iter().map(|outcome| outcome.per_second))
    }

    /// In milliseconds.
    fn p99(&self, op: Op, shape: Shape, contender: &'static str) -> Option<f64> {
        median(self.0.get(&(op, shape, contender))?.iter().map(|outcome| outcome.p99_us as f64 / 1e3))
    }
}

fn ratio(a: Option<f64>, b: Option<f64>) -> String {
    a.zip(b).map_or(String::new(), |(a, b)| format!("{:.2}", a / b))
}

fn at_least(target: Option<f64>, a: Option<f64>, b: Option<f64>) -> String {
    let Some(target) = target else { return String::new() };
    verdict(&target.to_string(), a.zip(b).map(|(a, b)| a / b >= target))
}

fn at_most(target: f64, a: Option<f64>, b: Option<f64>) -> String {
    verdict(&target.to_string(), a.zip(b).map(|(a, b)| a / b <= target))
}

fn verdict(target: &str, met: Option<bool>) -> String {
    match met {
        None => String::new(),
        Some(true) => format!("{target} met"),
        Some(false) => format!("{target} **missed**"),
    }
}

/// The middle one, or the mean of the two middle ones.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn a_row_says_which_targets_are_met() {
        let mut results = Results::default();
        let outcome = |per_second, p99_us| Outcome { per_second, p50_us: 1, p99_us, max_us: 1, errors: 0 };
        results.add(Op::Put, Shape::ALL[0], PONTOON, outcome(3000.0, 500));
        results.add(Op::Put, Shape::ALL[0], ETCD, outcome(1000.0, 2000));
        results.add(Op::Put, Shape::ALL[0], REDIS, outcome(6000.0, 100));
        let row = results.system_row(Op::Put, Shape::ALL[0]).join("|");
        assert_eq!(
            row,
            "put|1 x 1|3,000|1,000|6,000|3.00|3 met|0.50|0.6 **missed**|0.500|2.000|0.100|0.25|0.5 met"
        );
    }
}
