//! The servers' figures, asked for all the time by a thread each.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};

use super::plan::Plan;
use crate::info::{Info, Probe};

/// How often each server is asked.
const INTERVAL: Duration = Duration::from_millis(200);
/// A server that takes longer counts as unreachable.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A server and its figures; none: it does not answer.
pub type Observation = (u64, Option<Info>);

/// Starts asking. The threads end when the receiver is gone.
pub fn start(plan: &Plan) -> io::Result<Receiver<Observation>> {
    let (sender, observations) = bounded(64);
    for node in plan.nodes() {
        let mut probe = Probe::new(plan.address(node), plan.password().map(str::to_string));
        let sender = sender.clone();
        let watch = move || {
            loop {
                let asked = Instant::now();
                // At this port answers whoever has it; only the server that we have started is of interest.
                let info = probe.info(TIMEOUT).ok().filter(|info| info.node_id == node);
                if sender.send((node, info)).is_err() {
                    return;
                }
                thread::sleep(INTERVAL.saturating_sub(asked.elapsed()));
            }
        };
        thread::Builder::new().name(format!("pontoon-watch-{node}")).spawn(watch)?;
    }
    Ok(observations)
}
