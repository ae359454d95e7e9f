//! On every disk the log begins where the durable state ends, or before: else entries are lost to a restart (`storage` refuses
//! such a folder: `RestoredLog::check_continues`; Raft paper, section 7: the log is discarded up to what the snapshot on stable
//! storage covers).

use super::Violation;
use crate::world::Disk;

pub(super) fn on_disk(disk: &Disk) -> Result<(), Violation> {
    let (trimmed, state) = (disk.log.trimmed.0, disk.state.index());
    if trimmed <= state {
        return Ok(());
    }
    let what = format!("the log begins after entry {trimmed}, and the state ends at entry {state}");
    Err(Violation::new("the log continues the state", what))
}
