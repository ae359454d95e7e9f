//! How a command ends when it does not end well: one sentence and an exit code.

use std::{fmt, process::ExitCode};

use crate::output;

/// Bad usage, or something that surely was not done.
pub const FAILED: u8 = 1;
/// `get`: there is no such key.
pub const NOT_FOUND: u8 = 2;
/// A write that may or may not have happened.
pub const UNKNOWN: u8 = 3;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The process's exit code.
    code: u8,
    /// One sentence for a person, on stderr; none: the exit code says it all.
    sentence: Option<String>,
}

impl Failure {
    /// A sure failure, exit code 1.
    pub fn new(sentence: impl fmt::Display) -> Failure {
        Failure::with_code(FAILED, sentence)
    }

    /// A failure with an exit code of its own.
    pub fn with_code(code: u8, sentence: impl fmt::Display) -> Failure {
        Failure { code, sentence: Some(sentence.to_string()) }
    }

    /// Nothing to say but the exit code.
    pub fn silent(code: u8) -> Failure {
        Failure { code, sentence: None }
    }

    /// Tells the person and yields the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(sentence) = self.sentence {
            output::complain(sentence);
        }
        ExitCode::from(self.code)
    }
}
