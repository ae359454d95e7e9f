//! The servers under test, as processes of their own.

mod etcd;
mod pontoon;
mod process;
mod redis;

pub use etcd::{Etcd, FLAGS as ETCD_FLAGS};
pub use pontoon::{Pontoon, figures};
pub use process::{Process, command, free_port};
pub use redis::{FLAGS as REDIS_FLAGS, Redis};

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// A server that is not ready by then never will be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until there is something, for a bounded time.
pub fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = poll() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited in vain for {what}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
