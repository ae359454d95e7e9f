//! What is applied is durable on a majority: an acknowledged write survives the loss of power everywhere at once
//! (`docs/testing.md`; the Raft paper's persistent state, figure 2).

use pontoon_kv::{Entry, Index};

use super::Violation;
use crate::world::Disk;

#[derive(Debug, Default)]
pub(super) struct DurableMajority {
    /// Up to here it was seen to be so.
    checked: Index,
}

impl DurableMajority {
    pub(super) fn on_apply(&mut self, entry: &Entry, disks: &[&Disk]) -> Result<(), Violation> {
        if entry.index <= self.checked {
            return Ok(());
        }
        self.checked = entry.index;
        let holds = |disk: &&&Disk| {
            let log = &disk.log;
            disk.state.index() >= entry.index
                || log.trimmed.0 >= entry.index
                || log.term_at(entry.index) == Some(entry.term)
        };
        let holding = disks.iter().filter(holds).count();
        if holding * 2 > disks.len() {
            return Ok(());
        }
        let what = format!(
            "entry {}@{} is applied and durable on {holding} of {}",
            entry.index,
            entry.term,
            disks.len()
        );
        Err(Violation::new("applied is durable on a majority", what))
    }
}
