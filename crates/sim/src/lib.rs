//! Floor 4: what proves Pontoon.
//!
//! - [`linearizability`]: decides whether a history of client operations could have come from one copy of the data.

pub mod linearizability;
