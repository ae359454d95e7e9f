//! Keeps the log readable while somebody knocks at the port all night.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// One and the same line is logged once in this time.
const PERIOD: Duration = Duration::from_secs(10);
/// Different lines in that time: their texts are partly made by whoever connects.
const LINES_MAX: usize = 16;

/// Which lines were logged lately.
#[derive(Default)]
pub(super) struct Quiet {
    said: Mutex<HashMap<String, Instant>>,
}

impl Quiet {
    /// Whether this line may be logged now.
    pub(super) fn allows(&self, line: &str) -> bool {
        let now = Instant::now();
        let mut said = self.said.lock().expect("no panic holds this lock");
        said.retain(|_, at| now.duration_since(*at) < PERIOD);
        if said.contains_key(line) || said.len() >= LINES_MAX {
            return false;
        }
        said.insert(line.to_string(), now);
        true
    }
}
