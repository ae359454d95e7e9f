//! What the servers did, and when: from their figures, asked for all the time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::systems::figures;

/// How often a server is asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Something that a server did.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Instant,
    pub what: String,
}

/// Watches servers until it is asked for what it saw.
pub struct Timeline {
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<Vec<Event>>>,
}

impl Timeline {
    /// Watches the servers at these addresses.
    pub fn start(servers: Vec<String>) -> Timeline {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = |(address, number): (String, usize)| {
            let stop = stop.clone();
            thread::spawn(move || watch(&address, number, &stop))
        };
        let watchers = servers.into_iter().zip(1..).map(watch).collect();
        Timeline { stop, watchers }
    }

    /// What happened, in order.
    pub fn events(self) -> Vec<Event> {
        self.stop.store(true, Ordering::Relaxed);
        let mut events: Vec<_> = self
            .watchers
            .into_iter()
            .flat_map(|watcher| watcher.join().expect("it does not panic"))
            .collect();
        events.sort_by_key(|event| event.at);
        events
    }
}

fn watch(address: &str, number: usize, stop: &AtomicBool) -> Vec<Event> {
    let mut events = Vec::new();
    let mut before = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let now = figures(address).unwrap_or_default();
        for what in changes(&before, &now) {
            events.push(Event { at: asked, what: format!("server {number} {what}") });
        }
        let took = asked.elapsed();
        if took > INTERVAL {
            events.push(Event {
                at: asked,
                what: format!("server {number} answered INFO after {} ms", took.as_millis()),
            });
        }
        before = now;
        thread::sleep(INTERVAL);
    }
    events
}

/// What is told of two successive `INFO`s.
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let both = |name: &str| Some((before.get(name)?, now.get(name)?)).filter(|(before, now)| before != now);
    let mib = |text: &str| text.parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    let mut told = Vec::new();
    if let Some((before, now)) = both("raft_term") {
        told.push(format!("went from term {before} to {now}"));
    }
    if let Some((_, role)) = both("raft_role") {
        told.push(format!("became {role}"));
    }
    if both("raft_trimmed_index").is_some() {
        told.push("trimmed its log".to_string());
    }
    if let Some((before, now)) = both("raft_state_bytes") {
        told.push(format!("flushed or compacted its state ({:.0} to {:.0} MiB)", mib(before), mib(now)));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_by_name() {
        let info = |term: &str, trimmed: &str| {
            [("raft_term", term), ("raft_trimmed_index", trimmed), ("raft_role", "leader")]
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .into()
        };
        assert_eq!(changes(&info("1", "5"), &info("1", "5")), Vec::<String>::new());
        assert_eq!(changes(&info("1", "5"), &info("2", "9")), ["went from term 1 to 2", "trimmed its log"]);
        assert_eq!(changes(&BTreeMap::new(), &info("1", "5")), Vec::<String>::new());
    }
}
