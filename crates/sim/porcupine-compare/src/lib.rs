//! Pontoon's linearizability checker, alone: the source is the simulator's, without the rest of that crate.
//!
//! `cargo test --manifest-path crates/sim/porcupine-compare/Cargo.toml` holds it against `porcupine-rs`.

#[path = "../../src/linearizability/mod.rs"]
#[allow(rustdoc::broken_intra_doc_links, reason = "links of the simulator's crate")]
pub mod linearizability;
