//! The fuzz targets on a stable toolchain: valid bytes, changed at random, on every run of the tests.
//!
//! Each parser has a function that takes any bytes and panics if one of its promises does not hold (`pontoon_wire::fuzz`,
//! `pontoon_kv::fuzz`, `pontoon_storage::log::fuzz`). `fuzz/` hands it to libFuzzer, which searches deep; [`Target::run`] hands it
//! the checked-in corpus and a few seconds of changes to it, which keeps it honest. Both read `fuzz/corpus/<target>`.
//!
//! While a check runs, the memory that it holds is counted: a length field must not cost more than the bytes that came.

mod change;
mod corpus;
mod memory;
mod random;
mod target;

pub use change::change;
pub use random::Random;
pub use target::Target;
