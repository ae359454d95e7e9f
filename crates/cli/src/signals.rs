//! SIGINT and SIGTERM as messages.

use std::{process, thread};

use crossbeam_channel::{Receiver, bounded};
use nix::sys::signal::{SigSet, Signal};

use crate::failure::Failure;

/// The exit code of a process that was interrupted (128 + SIGINT).
const INTERRUPTED: i32 = 130;

/// From now on the first SIGINT or SIGTERM is a message, and the second ends the process at once with exit code 130.
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
        next();
        process::exit(INTERRUPTED);
    };
    thread::Builder::new()
        .name("pontoon-signals".to_string())
        .spawn(wait)
        .map_err(|error| Failure::new(format_args!("cannot start a thread: {error}")))?;
    Ok(received)
}
