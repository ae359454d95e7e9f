//! The two streams that a person or a script reads. (Logs go through `tracing`.)

use std::{
    fmt::Display,
    io::{self, Write},
};

use crate::failure::Failure;

/// A line on stdout. Nobody listening any more is no reason to stop what is being told of.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The one sentence on stderr that goes with a failure.
pub fn complain(sentence: impl Display) {
    let _ = writeln!(io::stderr().lock(), "pontoon: {sentence}");
}

/// A line on stderr about what goes on.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Bytes on stdout that were asked for: if they cannot be written, the command failed.
pub fn deliver(parts: &[&[u8]]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = parts.iter().try_for_each(|part| stdout.write_all(part)).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::new(format_args!("cannot write to standard output: {error}")))
}
