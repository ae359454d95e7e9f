//! A thread that does jobs; a little of them, with nothing before it, is done by whoever took the core's turn.

use std::{
    fmt::Display,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Fatal, jobs::Jobs};
use crate::{
    inbox::{Event, Work},
    network::Desk,
};

/// What took more time took long.
const LONG: Duration = Duration::from_millis(1);
/// So many batches of jobs are the thread's then.
const THREAD_ONLY: u32 = 100;

/// What it takes to do jobs of one kind.
pub(crate) trait Perform: Send + 'static {
    /// What there is to be done.
    type Job: Send;
    /// Why it cannot be done; the server stops.
    type Error: Display;
    /// So many at once, at most.
    const JOBS_MAX: usize;

    /// Does these, in order, and tells the core what comes of it. False: no more are to be done.
    fn perform(&mut self, jobs: Vec<Self::Job>, tell: impl Fn(Event)) -> Result<bool, Self::Error>;
}

/// Jobs in order, and who does them.
pub(crate) struct Worker<P: Perform> {
    jobs: Jobs<P::Job>,
    performer: Mutex<P>,
    desk: Arc<Desk>,
    fatal: Fatal,
    lately: Lately,
}

/// For so many batches of jobs more nobody but the thread does any.
#[derive(Default)]
struct Lately(AtomicU32);

impl Lately {
    fn all_went_well(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// A batch took so much time.
    fn note(&self, time: Duration) {
        if time > LONG {
            self.leave_to_the_thread(THREAD_ONLY);
        } else {
            let one_less = |left: u32| Some(left.saturating_sub(1));
            let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        }
    }

    fn leave_to_the_thread(&self, batches: u32) {
        self.0.fetch_max(batches, Ordering::Relaxed);
    }
}

impl<P: Perform> Worker<P> {
    /// None are to be done yet. What comes of those that the thread does is left at this desk.
    pub(crate) fn new(performer: P, desk: Arc<Desk>, fatal: Fatal) -> Arc<Worker<P>> {
        let (jobs, performer) = (Jobs::default(), Mutex::new(performer));
        Arc::new(Worker { jobs, performer, desk, fatal, lately: Lately::default() })
    }

    /// Leaves a job to the thread.
    pub(crate) fn push(&self, job: P::Job) {
        self.jobs.push(job);
    }

    /// Leaves a job to the thread, or gives it back as work that the caller must see to: only if it wants that, no others come first, and
    /// none has lately taken long.
    pub(crate) fn leave(self: &Arc<Self>, job: P::Job, wanted: bool) -> Option<Work> {
        if !(wanted && self.lately.all_went_well() && self.jobs.claim()) {
            self.push(job);
            return None;
        }
        let worker = self.clone();
        Some(Box::new(move |inbox| worker.perform(vec![job], |event| drop(inbox.push(event)))))
    }

    /// So many batches of jobs are the thread's.
    pub(crate) fn leave_to_the_thread(&self, batches: u32) {
        self.lately.leave_to_the_thread(batches);
    }

    /// Does the jobs, on the thread.
    pub(crate) fn run(&self) {
        while let Some(jobs) = self.jobs.next(P::JOBS_MAX) {
            self.perform(jobs, |event| drop(self.desk.leave(event)));
        }
    }

    /// Does jobs that are at hand.
    fn perform(&self, jobs: Vec<P::Job>, tell: impl Fn(Event)) {
        let began = Instant::now();
        let goes_on = self.performer.lock().expect("no panic holds this lock").perform(jobs, tell);
        self.lately.note(began.elapsed());
        match goes_on {
            Ok(true) => return self.jobs.done(),
            Ok(false) => {}
            Err(error) => self.fatal.report(error),
        }
        self.jobs.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::mpsc, thread};

    use super::*;
    use crate::inbox::Inbox;

    /// Tells of each job who does it; the job is how long it takes, none is the last.
    struct Witness(mpsc::Sender<thread::ThreadId>);

    impl Perform for Witness {
        type Job = Option<Duration>;
        type Error = Infallible;
        const JOBS_MAX: usize = 1;

        fn perform(&mut self, jobs: Vec<Self::Job>, _: impl Fn(Event)) -> Result<bool, Infallible> {
            let [job] = jobs[..] else { panic!("one at once") };
            thread::sleep(job.unwrap_or_default());
            self.0.send(thread::current().id()).expect("the test looks");
            Ok(job.is_some())
        }
    }

    #[test]
    fn a_job_is_the_callers_if_that_wants_it_and_none_comes_first_or_has_lately_taken_long() {
        const QUICK: Option<Duration> = Some(Duration::ZERO);
        let (inbox, _events) = Inbox::new(1);
        let (teller, seen) = mpsc::channel();
        let (fatal, _) = crossbeam_channel::bounded(1);
        let worker = Worker::new(Witness(teller), Desk::new(inbox.clone()), Fatal(fatal));
        let done_by = || seen.recv_timeout(Duration::from_secs(20)).expect("every job is done");
        let me = thread::current().id();

        let work = worker.leave(QUICK, true).expect("none comes first");
        assert!(worker.leave(QUICK, true).is_none(), "another is at hand");
        let running = worker.clone();
        let thread = thread::spawn(move || running.run());
        work(&inbox);
        assert_eq!([done_by(), done_by()], [me, thread.thread().id()]);

        assert!(worker.leave(QUICK, false).is_none(), "it is not wanted");
        assert_eq!(done_by(), thread.thread().id());
        worker.push(Some(2 * LONG));
        assert_eq!(done_by(), thread.thread().id());
        for job in 0..THREAD_ONLY {
            assert!(worker.leave(QUICK, true).is_none(), "job {job} after a long one");
            assert_eq!(done_by(), thread.thread().id());
        }
        worker.push(None);
        thread.join().expect("no panic");
    }

    #[test]
    fn after_a_long_job_the_thread_does_the_next_hundred() {
        let lately = Lately::default();
        assert!(lately.all_went_well());
        lately.note(LONG + Duration::from_nanos(1));
        for job in 0..100 {
            assert!(!lately.all_went_well(), "job {job}");
            lately.note(LONG);
        }
        assert!(lately.all_went_well());
    }

    #[test]
    fn long_jobs_now_and_then_leave_all_to_the_thread() {
        let lately = Lately::default();
        for job in 0..1000 {
            lately.note(if job % 50 == 0 { 2 * LONG } else { LONG / 100 });
            assert!(!lately.all_went_well(), "job {job}");
        }
    }
}
