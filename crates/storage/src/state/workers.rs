//! The two threads of a generation: one flushes memtables, one compacts tables.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::generation::Generation;

/// How often versions of the tree that nobody needs are looked for, while there are any.
const FORGET_INTERVAL: Duration = Duration::from_secs(1);

/// The threads of a generation.
pub(super) struct Workers {
    /// They hold it themselves, until they end.
    generation: Weak<Generation>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them.
    pub(super) fn start(generation: &Arc<Generation>) -> std::io::Result<Workers> {
        let mut workers = Workers { generation: Arc::downgrade(generation), threads: Vec::new() };
        for (name, work) in
            [("state-flush", flush as fn(&Generation) -> lsm_tree::Result<()>), ("state-compact", compact)]
        {
            let generation = generation.clone();
            let run = move || match catch_unwind(AssertUnwindSafe(|| work(&generation))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => generation.fail(&error.to_string()),
                Err(panic) => generation.fail(panic_text(panic.as_ref())),
            };
            workers.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        }
        Ok(workers)
    }

    /// Asks them to end, without waiting.
    pub(super) fn stop(&self) {
        if let Some(generation) = self.generation.upgrade() {
            generation.signal(|signals| signals.stop = true);
        }
    }

    /// Whether they have.
    pub(super) fn have_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            thread.join().expect("panics are caught within");
        }
    }
}

fn flush(generation: &Generation) -> lsm_tree::Result<()> {
    loop {
        let announce = generation.wait_for_signal(None, |signals| {
            let work = signals.stop || std::mem::take(&mut signals.flush);
            work.then(|| (!signals.stop).then(|| std::mem::take(&mut signals.announce)))
        });
        let Some(Some(announce)) = announce else { return Ok(()) };
        let mut told = false;
        while !generation.is_stopping() && generation.flush_oldest()? {
            generation.signal(|signals| signals.compact = true);
            told = true;
        }
        if announce && !told {
            generation.announce_durable();
        }
    }
}

fn compact(generation: &Generation) -> lsm_tree::Result<()> {
    loop {
        let timeout = generation.has_old_versions().then_some(FORGET_INTERVAL);
        let signal = generation.wait_for_signal(timeout, |signals| {
            let work = signals.stop || std::mem::take(&mut signals.compact);
            work.then_some(signals.stop)
        });
        match signal {
            Some(true) => return Ok(()),
            Some(false) => generation.compact()?,
            None => generation.forget_old_versions()?,
        }
        generation.bury();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the tree panicked")
}
