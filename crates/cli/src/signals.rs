//! SIGINT and SIGTERM as messages.

use std::{
    process, thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use nix::sys::signal::{SigSet, Signal};

use crate::failure::Failure;

/// The exit code of a process that was interrupted (128 + SIGINT).
const INTERRUPTED: i32 = 130;
/// A signal this soon after the first is the same one: `timeout` signals its child, and then the child's process group.
const ECHO_MAX: Duration = Duration::from_millis(500);

/// From now on the first SIGINT or SIGTERM is a message, and a second one ends the process at once with exit code 130.
///
/// Call it before any other thread is started: threads inherit that these signals are blocked, so that only the thread that waits
/// for them here gets them. Child processes inherit it too; a `pontoon serve` calls this function itself.
pub fn listen() -> Result<Receiver<Signal>, Failure> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.thread_block().map_err(|error| Failure::new(format_args!("cannot block signals: {error}")))?;
    let (sender, received) = bounded(1);
    let wait = move || {
        let next = || set.wait().expect("sigwait refuses only invalid signal numbers");
        // Nobody may be left to hear of it; then the process is ending anyway.
        let _ = sender.send(next());
        let first = Instant::now();
        loop {
            next();
            if first.elapsed() > ECHO_MAX {
                break;
            }
        }
        exit_now()
    };
    thread::Builder::new()
        .name("pontoon-signals".to_string())
        .spawn(wait)
        .map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    Ok(received)
}

#[allow(clippy::disallowed_methods, reason = "the person asked twice: now, not when the clean end is done")]
fn exit_now() -> ! {
    process::exit(INTERRUPTED)
}
