//! How much is committed and not applied yet: the log thread waits when it is too much, so that a follower whose state store
//! falls behind slows its acknowledgements rather than fill its memory.

use std::sync::{Condvar, Mutex};

/// Bytes of entries on their way to the state.
#[derive(Default)]
pub(crate) struct Backlog {
    bytes: Mutex<u64>,
    less: Condvar,
}

/// Beyond this the log thread waits.
const BACKLOG_BYTES_MAX: u64 = 128 << 20;

impl Backlog {
    pub(crate) fn add(&self, bytes: u64) {
        *self.bytes.lock().expect("no panic holds this lock") += bytes;
    }

    pub(crate) fn done(&self, bytes: u64) {
        *self.bytes.lock().expect("no panic holds this lock") -= bytes;
        self.less.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut bytes = self.bytes.lock().expect("no panic holds this lock");
        while *bytes > BACKLOG_BYTES_MAX {
            bytes = self.less.wait(bytes).expect("no panic holds this lock");
        }
    }
}
