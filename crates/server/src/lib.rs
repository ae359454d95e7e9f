//! One Pontoon server: threads, sockets and files around the deterministic core.

mod buffer;
pub mod client;
mod driver;
pub mod gateway;
pub mod inbox;
pub mod network;
pub mod peer;
mod recovery;
mod room;
pub mod server;
pub mod settings;
pub mod status;

pub use gateway::Gateway;
pub use server::{Server, StartError};
pub use settings::{ClusterSettings, Settings};
pub use status::Status;
