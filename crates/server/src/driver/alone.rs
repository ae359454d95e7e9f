//! Whether a network thread that writes the log by itself keeps anybody waiting.

use std::time::{Duration, Instant};

/// What comes so soon after a write had waited for it, or would have if it had come a little sooner. A lone client, which waits for one
/// write before it wants the next, takes longer.
const SOON: Duration = Duration::from_micros(50);

/// The latest write that a network thread did by itself.
#[derive(Debug, Default)]
pub(crate) enum Alone {
    /// None, or much has come since.
    #[default]
    No,
    /// It is at this one.
    Writing(u64),
    /// It ended then, and nothing has come since.
    Since(Instant),
}

impl Alone {
    /// The thread writes this.
    pub(crate) fn writes(&mut self, number: u64) {
        *self = Alone::Writing(number);
    }

    /// All up to this is written.
    pub(crate) fn written(&mut self, number: u64, now: Instant) {
        if matches!(self, Alone::Writing(own) if *own <= number) {
            *self = Alone::Since(now);
        }
    }

    /// Something has come. True: so soon that it had better not been this thread that wrote.
    pub(crate) fn ends(&mut self, now: Instant) -> bool {
        match std::mem::take(self) {
            Alone::No => false,
            Alone::Writing(_) => true,
            Alone::Since(written) => now.duration_since(written) < SOON,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_during_a_write_or_soon_after_it_was_kept_waiting() {
        let now = Instant::now();
        let mut alone = Alone::default();
        alone.writes(7);
        alone.written(6, now);
        assert!(alone.ends(now), "it is being written");
        alone.writes(8);
        alone.written(9, now);
        assert!(alone.ends(now + SOON / 2));
    }

    #[test]
    fn what_comes_later_or_second_was_not() {
        let now = Instant::now();
        let mut alone = Alone::default();
        assert!(!alone.ends(now), "nothing was written");
        alone.writes(7);
        alone.written(7, now);
        assert!(!alone.ends(now + SOON));
        assert!(!alone.ends(now), "it was looked at once");
    }
}
