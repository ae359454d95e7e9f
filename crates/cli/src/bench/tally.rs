//! What came of it: latencies, errors, seconds, pauses.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies are counted in microseconds with three digits, up to this.
const LATENCY_US_MAX: u64 = 600_000_000;
/// The longest pauses that are told.
const PAUSES_MAX: usize = 5;

/// One second of the run; the last one includes the wait for the requests in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Requests that succeeded.
    pub operations: u64,
    /// Requests that did not.
    pub errors: u64,
    /// Their median latency.
    pub p50_us: u64,
    /// Their 99th percentile.
    pub p99_us: u64,
    /// The longest latency.
    pub max_us: u64,
}

/// A time in which no connection had a reply.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pause {
    /// When it began, from the start.
    pub at_seconds: f64,
    /// How long it was.
    pub ms: f64,
}

/// Of one phase.
#[derive(Debug)]
pub struct Tally {
    start: Instant,
    end: Instant,
    second: Histogram<u64>,
    second_errors: u64,
    all: Histogram<u64>,
    seconds: Vec<Second>,
    errors: BTreeMap<String, u64>,
    missing: u64,
    unsent: u64,
    connections_lost: u64,
    heard: Instant,
    pauses: Vec<Pause>,
}

impl Tally {
    /// Nothing has happened yet.
    pub fn new(start: Instant) -> Tally {
        let histogram =
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds of a histogram are valid");
        Tally {
            start,
            end: start,
            second: histogram.clone(),
            second_errors: 0,
            all: histogram,
            seconds: Vec::new(),
            errors: BTreeMap::new(),
            missing: 0,
            unsent: 0,
            connections_lost: 0,
            heard: start,
            pauses: Vec::new(),
        }
    }

    /// A result came.
    pub fn success(&mut self, start: Instant, now: Instant) {
        self.second.saturating_record(now.saturating_duration_since(start).as_micros() as u64);
    }

    /// A get found no such key, which is a result, too.
    pub fn missing(&mut self, start: Instant, now: Instant) {
        self.missing += 1;
        self.success(start, now);
    }

    /// An error came; its first word is its kind.
    pub fn error(&mut self, line: &[u8]) {
        let kind = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        self.count_errors(String::from_utf8_lossy(kind).into_owned(), 1);
    }

    /// A connection ended with so many requests that nobody will answer.
    pub fn lost(&mut self, unanswered: usize, why: &io::Error) {
        self.connections_lost += 1;
        self.count_errors(format!("connection lost ({why})"), unanswered as u64);
    }

    /// So many requests should have started, and did not.
    pub fn unsent(&mut self, count: u64) {
        self.unsent += count;
    }

    /// Replies came.
    pub fn heard(&mut self, now: Instant) {
        let pause = Pause {
            at_seconds: (self.heard - self.start).as_secs_f64(),
            ms: (now - self.heard).as_secs_f64() * 1e3,
        };
        self.heard = now;
        if self.pauses.len() < PAUSES_MAX || self.pauses.last().is_some_and(|least| pause.ms > least.ms) {
            self.pauses.truncate(PAUSES_MAX - 1);
            let at = self.pauses.partition_point(|longer| longer.ms >= pause.ms);
            self.pauses.insert(at, pause);
        }
    }

    /// Closes the seconds that have passed, but for the one that goes on to the end.
    pub fn tick(&mut self, now: Instant, end: Instant, on_second: &mut impl FnMut(usize, &Second)) {
        loop {
            let next = self.start + Duration::from_secs(self.seconds.len() as u64 + 1);
            if now < next || next + Duration::from_millis(1) >= end {
                return;
            }
            self.close_second(on_second);
        }
    }

    /// The phase is over.
    pub fn finish(&mut self, now: Instant, on_second: &mut impl FnMut(usize, &Second)) {
        self.close_second(on_second);
        self.end = now;
        // A pause that never ended is one, too.
        self.heard(now);
    }

    /// Requests that succeeded.
    pub fn operations(&self) -> u64 {
        self.all.len()
    }

    /// From the first request to the last reply.
    pub fn elapsed(&self) -> Duration {
        self.end - self.start
    }

    /// Latencies in microseconds.
    pub fn latencies(&self) -> &Histogram<u64> {
        &self.all
    }

    /// Second by second.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// The longest pauses, longest first.
    pub fn pauses(&self) -> &[Pause] {
        &self.pauses
    }

    /// Errors by kind.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// How many errors.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The errors by kind, for a person.
    pub fn errors_text(&self) -> String {
        match self.errors.is_empty() {
            true => "none".to_string(),
            false => self
                .errors
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// Gets that found no such key.
    pub fn missing_total(&self) -> u64 {
        self.missing
    }

    /// Requests that a fixed rate owes.
    pub fn unsent_total(&self) -> u64 {
        self.unsent
    }

    /// Connections that ended before the run did.
    pub fn connections_lost(&self) -> u64 {
        self.connections_lost
    }

    fn count_errors(&mut self, kind: String, count: u64) {
        self.second_errors += count;
        *self.errors.entry(kind).or_default() += count;
    }

    fn close_second(&mut self, on_second: &mut impl FnMut(usize, &Second)) {
        let second = Second {
            operations: self.second.len(),
            errors: std::mem::take(&mut self.second_errors),
            p50_us: self.second.value_at_quantile(0.5),
            p99_us: self.second.value_at_quantile(0.99),
            max_us: self.second.max(),
        };
        self.all.add(&self.second).expect("both have the same bounds");
        self.second.reset();
        self.seconds.push(second);
        on_second(self.seconds.len(), &self.seconds[self.seconds.len() - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_add_up_and_the_last_one_goes_on_to_the_end() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut tally = Tally::new(start);
        let mut told = Vec::new();
        let mut on_second = |number: usize, second: &Second| told.push((number, second.operations));
        tally.success(after(100), after(110));
        tally.error(b"BUSY too many");
        tally.tick(after(2500), after(3000), &mut on_second);
        tally.missing(after(2900), after(2901));
        tally.tick(after(3000), after(3000), &mut on_second);
        tally.success(after(2950), after(3200));
        tally.finish(after(3200), &mut on_second);
        assert_eq!(told, [(1, 1), (2, 0), (3, 2)]);
        assert_eq!(tally.seconds().iter().map(|second| second.operations).sum::<u64>(), tally.operations());
        assert_eq!((tally.seconds()[0].errors, tally.errors()["BUSY"]), (1, 1));
        assert_eq!(tally.elapsed(), Duration::from_millis(3200));
        assert_eq!(tally.latencies().max() / 1000, 250);
        assert_eq!(tally.missing_total(), 1);
    }

    #[test]
    fn the_longest_pauses_are_kept_in_order() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let mut at = 0;
        for gap in [5, 40, 1, 30, 2, 50, 3, 20] {
            at += gap;
            tally.heard(start + Duration::from_millis(at));
        }
        tally.finish(start + Duration::from_millis(at + 60), &mut |_, _| {});
        let gaps: Vec<u64> = tally.pauses().iter().map(|pause| pause.ms.round() as u64).collect();
        assert_eq!(gaps, [60, 50, 40, 30, 20]);
        assert_eq!((tally.pauses()[1].at_seconds * 1e3).round() as u64, 78);
    }
}
