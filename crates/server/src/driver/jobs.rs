//! Jobs that are done in order: by a thread that waits for them, or, if there are none, by whoever has one.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard},
};

/// The jobs of one thread. Some are at hand at a time: nobody else does any then.
pub(crate) struct Jobs<T> {
    waiting: Mutex<Waiting<T>>,
    more: Condvar,
}

struct Waiting<T> {
    jobs: VecDeque<T>,
    at_hand: bool,
    closed: bool,
}

impl<T> Default for Jobs<T> {
    fn default() -> Jobs<T> {
        Jobs {
            waiting: Mutex::new(Waiting { jobs: VecDeque::new(), at_hand: false, closed: false }),
            more: Condvar::new(),
        }
    }
}

impl<T> Jobs<T> {
    /// Adds a job for the thread. It is dropped once the jobs are closed.
    pub(crate) fn push(&self, job: T) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        waiting.jobs.push_back(job);
        let wanted = !waiting.at_hand;
        drop(waiting);
        if wanted {
            self.more.notify_one();
        }
    }

    /// Whether the caller may do a job that it has by itself, after all jobs there were: none waits and none is at hand. If so, one is
    /// until [`Jobs::done`].
    pub(crate) fn claim(&self) -> bool {
        let mut waiting = self.lock();
        let free = !waiting.at_hand && !waiting.closed && waiting.jobs.is_empty();
        waiting.at_hand |= free;
        free
    }

    /// Waits until no jobs are at hand, and for some; these are at hand then. None once the jobs are closed.
    pub(crate) fn next(&self, jobs_max: usize) -> Option<Vec<T>> {
        let unready =
            |waiting: &mut Waiting<T>| !waiting.closed && (waiting.at_hand || waiting.jobs.is_empty());
        let mut waiting = self.more.wait_while(self.lock(), unready).expect("no panic holds this lock");
        if waiting.closed {
            return None;
        }
        waiting.at_hand = true;
        let count = waiting.jobs.len().min(jobs_max);
        Some(waiting.jobs.drain(..count).collect())
    }

    /// What was at hand is done.
    pub(crate) fn done(&self) {
        let mut waiting = self.lock();
        waiting.at_hand = false;
        let wanted = !waiting.jobs.is_empty();
        drop(waiting);
        if wanted {
            self.more.notify_one();
        }
    }

    /// No further job is done.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.jobs.clear();
        drop(waiting);
        self.more.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().expect("no panic holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn jobs_are_done_in_order_and_one_after_the_other_whoever_does_them() {
        const JOBS: usize = 50_000;
        let jobs = Jobs::default();
        let done = Mutex::new(Vec::new());
        let perform = |job| done.try_lock().expect("nobody else is at it").push(job);
        thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(some) = jobs.next(10) {
                    some.into_iter().for_each(perform);
                    let all = done.try_lock().expect("nobody else is at it").len() == JOBS;
                    if all { jobs.close() } else { jobs.done() }
                }
            });
            let mut by_hand = 0;
            for job in 0..JOBS {
                if job + 1 < JOBS && jobs.claim() {
                    perform(job);
                    jobs.done();
                    by_hand += 1;
                } else {
                    jobs.push(job);
                }
            }
            assert!(by_hand > 0, "the first at the latest");
        });
        assert_eq!(done.into_inner().expect("no panic"), (0..JOBS).collect::<Vec<_>>());
    }

    #[test]
    fn once_closed_nothing_is_done() {
        let jobs = Jobs::default();
        jobs.push(1);
        jobs.close();
        jobs.push(2);
        assert_eq!(jobs.next(10), None);
        assert!(!jobs.claim());
    }
}
