//! When the next request may start.

use std::time::{Duration, Instant};

/// Where a connection has several requests in this time, they share a write: as of a client whose timers are of a millisecond.
const STEP: Duration = Duration::from_millis(1);

/// A request that was due before the end may start so long after it: the loop is not always on time.
const LATE_MAX: Duration = Duration::from_millis(20);

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

    /// No request is due from here on.
    pub fn end(&self) -> Instant {
        self.end
    }

    /// When the request should start that is the `sent`th (from 0) of this connection, if that is not later than now.
    pub fn start_of(&self, connection: usize, sent: u64, now: Instant) -> Option<Instant> {
        let start = match &self.schedule {
            None => now,
            Some(schedule) => self.due(schedule, connection as u64 + sent * schedule.connections),
        };
        (start <= now && start < self.end && now < self.end + LATE_MAX).then_some(start)
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

    /// At a fixed rate: when to send the `turn`th request (from 0) of all and what is due with it, once `now` is done with. Requests
    /// count from when they are due, whenever that is. None after the end.
    pub fn next_send(&self, turn: u64, now: Instant) -> Option<Instant> {
        let schedule = self.schedule.as_ref()?;
        let due = self.due(schedule, turn);
        let shared = schedule.interval * (schedule.connections as f64) < STEP.as_secs_f64();
        let send = if shared { due.max(now + STEP) } else { due };
        (due < self.end).then_some(send)
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
        assert_eq!(pace.next_send(4, after(399)), Some(after(400)));
        assert_eq!(pace.next_send(10, after(999)), None);
        assert_eq!([0, 1, 2].map(|connection| pace.owed(connection)), [4, 3, 3]);
        assert_eq!(pace.start_of(0, 4, after(5000)), None, "no request starts after the end");
    }

    #[test]
    fn requests_of_a_connection_within_a_millisecond_share_a_write() {
        let pace = Pace::rate(Duration::from_secs(1), 8_000, 4);
        let after = |us| pace.start + Duration::from_micros(us);
        assert_eq!(pace.next_send(1, after(100)), Some(after(1_100)));
        assert_eq!(pace.turns(after(1_100)), 9, "two or three of each connection");
        assert_eq!(pace.start_of(1, 0, after(1_100)), Some(after(125)), "measured from when it was due");
        assert_eq!(pace.next_send(7_999, after(999_500)), Some(after(1_000_500)), "due before the end");
        assert_eq!(pace.start_of(3, 1_999, after(1_000_500)), Some(after(999_875)), "and not lost");
        assert_eq!(pace.next_send(8_000, after(999_900)), None);
    }

    #[test]
    fn a_closed_loop_starts_at_once_until_the_end() {
        let pace = Pace::closed(Duration::from_secs(1));
        assert_eq!(pace.start_of(5, 1000, pace.start), Some(pace.start));
        assert_eq!(pace.start_of(5, 1000, pace.end()), None);
        assert_eq!((pace.turns(pace.end()), pace.next_send(0, pace.start), pace.owed(0)), (0, None, 0));
    }
}
