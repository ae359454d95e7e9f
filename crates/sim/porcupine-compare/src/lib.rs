//! Pontoon's linearizability checker, alone: the source is the simulator's, without the rest of that crate.
//!
//! `cargo test --manifest-path crates/sim/porcupine-compare/Cargo.toml` holds it against `porcupine-rs`.

#[path = "../../src/linearizability/mod.rs"]
pub mod linearizability;
