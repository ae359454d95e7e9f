//! How much is committed and not applied yet: writing the log waits when it is too much, so that a follower whose state store
//! falls behind slows its acknowledgements rather than fill its memory.

use std::sync::{Condvar, Mutex};

/// Bytes of entries on their way to the state.
#[derive(Default)]
pub(crate) struct Backlog {
    bytes: Mutex<u64>,
    less: Condvar,
}

/// Beyond this it is too much.
const BACKLOG_BYTES_MAX: u64 = 128 << 20;

impl Backlog {
    pub(crate) fn add(&self, bytes: u64) {
        *self.bytes.lock().expect("no panic holds this lock") += bytes;
    }

    pub(crate) fn done(&self, bytes: u64) {
        let mut left = self.bytes.lock().expect("no panic holds this lock");
        let was_too_much = *left > BACKLOG_BYTES_MAX;
        *left -= bytes;
        if was_too_much && *left <= BACKLOG_BYTES_MAX {
            self.less.notify_all();
        }
    }

    pub(crate) fn is_too_much(&self) -> bool {
        *self.bytes.lock().expect("no panic holds this lock") > BACKLOG_BYTES_MAX
    }

    pub(crate) fn wait(&self) {
        let mut bytes = self.bytes.lock().expect("no panic holds this lock");
        while *bytes > BACKLOG_BYTES_MAX {
            bytes = self.less.wait(bytes).expect("no panic holds this lock");
        }
    }
}
