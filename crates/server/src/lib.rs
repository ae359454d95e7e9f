//! One Pontoon server: threads, sockets and files around the deterministic core.

pub mod gateway;
pub mod settings;
pub mod status;

pub use gateway::Gateway;
pub use settings::{ClusterSettings, Settings};
pub use status::Status;
