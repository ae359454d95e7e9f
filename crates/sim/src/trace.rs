//! What happened, line by line, for people and for comparing two runs.

use std::fmt::{Arguments, Write};

use crate::time::SECOND;

/// Where the lines go.
#[derive(Debug, Default)]
pub enum Trace {
    /// Nowhere: formatting them would cost more than the run.
    #[default]
    Off,
    /// Into memory.
    Kept(String),
    /// To standard output, as they come: a run that ends in a panic shows what led to it.
    Printed,
}

impl Trace {
    /// A line: the time, whom it is about, what happened.
    pub fn line(&mut self, now: u64, what: Arguments<'_>) {
        match self {
            Trace::Off => {}
            Trace::Kept(text) => {
                write!(text, "{:>4}.{:06} ", now / SECOND, now % SECOND).expect("a string takes all");
                text.write_fmt(what).expect("a string takes all");
                text.push('\n');
            }
            #[expect(clippy::print_stdout, reason = "this is what was asked for")]
            Trace::Printed => println!("{:>4}.{:06} {what}", now / SECOND, now % SECOND),
        }
    }

    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        !matches!(self, Trace::Off)
    }
}
