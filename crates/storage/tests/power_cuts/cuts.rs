//! Cuts the power after each step, and looks at what the recovery makes of it.

use std::{
    collections::HashSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use pontoon_replica::{HardState, Persist};
use tempfile::TempDir;

use crate::{
    common::{
        Random, contents,
        server::{Server, entry_at},
    },
    disk::{Disk, Image, Luck, Step, restore},
    history::{Expected, FILE_BYTES, History},
    recorder::record,
};

/// Of so many recoveries one is recorded, and cut off by a second power cut after each of its steps.
const RECORDED: usize = 60;
/// Of so many recoveries one goes on working, is closed and opened once more.
const CONTINUED: usize = 8;

/// What was tried, and what failed.
#[derive(Default)]
pub struct Cuts {
    steps: usize,
    images: usize,
    recorded: usize,
    /// What went wrong, and with what.
    pub failures: Vec<(String, Image)>,
    seen: HashSet<u64>,
}

/// With so many failures nothing more is tried.
const FAILURES_MAX: usize = 10;

impl Cuts {
    /// Cuts the power after each of the steps; `again`: and now and then a second time, during the recovery.
    pub fn enumerate(
        &mut self,
        context: &str,
        mut disk: Disk,
        steps: &[Step],
        history: &History,
        mut expected: Expected,
        again: bool,
    ) {
        for (number, step) in std::iter::once(None).chain(steps.iter().map(Some)).enumerate() {
            if self.failures.len() >= FAILURES_MAX {
                return;
            }
            if let Some(step) = step {
                disk.step(step);
                expected.step(step, history);
            }
            let plain = [Luck::Nothing, Luck::Everything, Luck::Names, Luck::Contents];
            let random = Luck::Random(Random::new(self.steps as u64 + 1));
            for mut luck in plain.into_iter().chain([random]) {
                let image = disk.image(&mut luck);
                if self.is_new(&image, &expected) {
                    let context = format!(
                        "{context}, step {number} ({}), {luck:?}",
                        step.map_or("start".to_owned(), Step::to_string)
                    );
                    self.recover(&context, &image, history, &expected, again);
                }
            }
            self.steps += 1;
        }
    }

    fn is_new(&mut self, image: &Image, expected: &Expected) -> bool {
        let mut hasher = DefaultHasher::new();
        (image, expected).hash(&mut hasher);
        self.seen.insert(hasher.finish())
    }

    fn recover(&mut self, context: &str, image: &Image, history: &History, expected: &Expected, again: bool) {
        self.images += 1;
        let folder = fast_folder();
        restore(image, folder.path());
        let data = folder.path().join("data");
        let continued = self.images.is_multiple_of(CONTINUED);
        let outcome = if again && self.images.is_multiple_of(RECORDED) {
            self.recorded += 1;
            let (before, steps, outcome) = record(folder.path(), || recover(&data, history, expected, false));
            self.enumerate(
                &format!("{context}, recovered"),
                before,
                &steps,
                history,
                expected.clone(),
                false,
            );
            outcome
        } else {
            recover(&data, history, expected, continued)
        };
        if let Err(reason) = outcome {
            self.failures.push((format!("{context}: {reason}"), image.clone()));
        }
    }

    /// Shows the failures and keeps what they began with.
    pub fn assert_no_failure(&self) {
        let show = |(reason, image): &(String, Image)| {
            let folder = fast_folder().keep();
            restore(image, &folder);
            format!("{reason}; see {}\n", folder.display())
        };
        assert!(self.failures.is_empty(), "{}", self.failures.iter().map(show).collect::<String>());
    }
}

impl fmt::Display for Cuts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps, {} images, {} recorded recoveries", self.steps, self.images, self.recorded)
    }
}

/// Starts the server, and goes on if asked to.
fn recover(data: &Path, history: &History, expected: &Expected, go_on: bool) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| try_recover(data, history, expected, go_on)))
        .unwrap_or_else(|_panic| Err("it panicked".to_owned()))
}

fn try_recover(data: &Path, history: &History, expected: &Expected, go_on: bool) -> Result<(), String> {
    let mut server = Server::open(data, FILE_BYTES)?;
    let state = contents(&server.store);
    history.check(expected, &server.restored, server.store.applied(), &state)?;
    server.fit();
    if !go_on {
        return Ok(());
    }
    let last = server.replay();
    let next = entry_at(last.0.max(server.restored.last().0.0) + 1);
    let hard_state = Some(HardState { term: next.term, ..server.restored.hard_state });
    server.write(Persist { sync: true, hard_state, entries: vec![next.clone()], ..Persist::default() });
    let state = contents(&server.store);
    drop(server);
    let mut server = Server::open(data, FILE_BYTES).map_err(|error| format!("opened once more: {error}"))?;
    if server.restored.entries.last() != Some(&next) {
        return Err(format!("entry {} is not there any more", next.index));
    }
    server.restored.entries.pop();
    if server.replay() != last || contents(&server.store) != state {
        return Err(format!("the state of {last} has changed"));
    }
    Ok(())
}

/// In memory, if that can be had: what is tested is not this machine's disk.
pub fn fast_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}
