//! The exactly-once client of Pontoon.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pontoon_clerk::{Clerk, ClerkOptions};
//!
//! let clerk = Clerk::connect(ClerkOptions::new(["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"]))?;
//! clerk.put("greeting", "hello").await?;
//! clerk.append("greeting", ", world").await?;
//! assert_eq!(clerk.get("greeting").await?.as_deref(), Some(&b"hello, world"[..]));
//! clerk.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Clerk`] takes any server of the cluster, and another when that one fails; it repeats what got lost, and a write takes
//! effect once however often it was repeated: each carries its session and its number in it, and the servers remember what
//! they answered. A call ends at its deadline at the latest, with one of three outcomes:
//!
//! - a result: it was executed, once;
//! - [`ClerkError::NotExecuted`] or [`ClerkError::Rejected`]: it was surely not executed, or changed nothing;
//! - [`ClerkError::Unknown`]: it may have been executed, or may yet be.
//!
//! Everything that is decided is decided by [`machine::Machine`], which knows neither sockets nor clocks; the rest of this
//! crate performs it with tokio.

mod clerk;
mod connection;
mod driver;
mod error;
pub mod machine;
mod operation;
mod options;

pub use clerk::Clerk;
pub use error::ClerkError;
pub use operation::{Operation, OperationReply};
pub use options::{ClerkOptions, OptionsError};
