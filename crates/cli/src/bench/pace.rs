//! When the next request may start.

use std::time::{Duration, Instant};

/// A closed loop, or a fixed rate; until the end.
#[derive(Debug)]
pub struct Pace {
    start: Instant,
    end: Instant,
    schedule: Option<Schedule>,
}

/// Request number `n` of all is due `n` intervals after the start, on connection `n % connections`.
#[derive(Debug)]
struct Schedule {
    interval: f64,
    connections: u64,
}

impl Pace {
    /// A request starts as soon as there is room for it.
    pub fn closed(length: Duration) -> Pace {
        let start = Instant::now();
        Pace { start, end: start + length, schedule: None }
    }

    /// This many requests start each second over all connections together.
    pub fn rate(length: Duration, per_second: u64, connections: usize) -> Pace {
        let schedule = Schedule { interval: 1.0 / per_second as f64, connections: connections as u64 };
        Pace { schedule: Some(schedule), ..Pace::closed(length) }
    }

    /// No request starts from here on.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// When the request should start that is the `sent`th (from 0) of this connection, if that is not later than now.
    pub fn start_of(&self, connection: usize, sent: u64, now: Instant) -> Option<Instant> {
        let start = match &self.schedule {
            None => now,
            Some(schedule) => self.due(schedule, connection as u64 + sent * schedule.connections),
        };
        (start <= now && now < self.end).then_some(start)
    }

    /// How many requests of this connection should have started by the end.
    pub fn owed(&self, connection: usize) -> u64 {
        let Some(schedule) = &self.schedule else { return 0 };
        let all = ((self.end - self.start).as_secs_f64() / schedule.interval).round() as u64;
        (all + schedule.connections - 1).saturating_sub(connection as u64) / schedule.connections
    }

    /// At a fixed rate: how many requests of all connections should have started by now.
    pub fn turns(&self, now: Instant) -> u64 {
        let Some(schedule) = &self.schedule else { return 0 };
        let mut turns = ((now - self.start).as_secs_f64() / schedule.interval) as u64;
        // What is due by `start_of` must be due here, whichever way a division is rounded.
        while self.due(schedule, turns) <= now {
            turns += 1;
        }
        while turns > 0 && self.due(schedule, turns - 1) > now {
            turns -= 1;
        }
        turns
    }

    /// At a fixed rate: when the `turn`th request (from 0) of all is due. None after the end.
    pub fn turn(&self, turn: u64) -> Option<Instant> {
        let due = self.due(self.schedule.as_ref()?, turn);
        (due < self.end).then_some(due)
    }

    fn due(&self, schedule: &Schedule, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 * schedule.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_rate_gives_each_connection_its_turns() {
        let pace = Pace::rate(Duration::from_secs(1), 10, 3);
        let after = |ms| pace.start + Duration::from_millis(ms);
        assert_eq!(pace.start_of(0, 0, after(0)), Some(after(0)));
        assert_eq!(pace.start_of(1, 0, after(50)), None, "due at 100 ms");
        assert_eq!(
            pace.start_of(1, 1, after(900)),
            Some(after(400)),
            "late, and measured from when it was due"
        );
        assert_eq!([0, 99, 100, 450].map(|ms| pace.turns(after(ms))), [1, 1, 2, 5]);
        assert_eq!(pace.turn(4), Some(after(400)));
        assert_eq!(pace.turn(10), None);
        assert_eq!([0, 1, 2].map(|connection| pace.owed(connection)), [4, 3, 3]);
        assert_eq!(pace.start_of(0, 4, after(5000)), None, "no request starts after the end");
    }

    #[test]
    fn a_closed_loop_starts_at_once_until_the_end() {
        let pace = Pace::closed(Duration::from_secs(1));
        assert_eq!(pace.start_of(5, 1000, pace.start), Some(pace.start));
        assert_eq!(pace.start_of(5, 1000, pace.end()), None);
        assert_eq!((pace.turns(pace.end()), pace.turn(0), pace.owed(0)), (0, None, 0));
    }
}
