//! Deliverable, heavy: the running node.
//!
//! Everything the pure crates are not allowed to do happens here: the environment and files are
//! read, sockets opened, threads started, clocks asked. The rule of the house: `wharf-server` adds
//! no meaning of its own to a request; it moves bytes between sockets and the broker and keeps
//! both within their limits.

#[cfg(feature = "choreography")]
mod choreography;
mod clock;
mod commits;
pub mod config;
mod data;
#[cfg(any(
    feature = "choreography",
    feature = "registry",
    feature = "relay",
    feature = "saga"
))]
mod ending;
mod flag;
mod health;
mod http;
mod kafka;
mod metrics;
mod node;
mod open_files;
mod options;
mod pages;
mod problem;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "relay")]
mod relay;
mod roles;
mod runtime;
#[cfg(feature = "saga")]
pub mod saga;
#[cfg(feature = "simulation")]
pub mod simulation;
mod threads;
#[cfg(any(feature = "choreography", feature = "saga"))]
mod webhook;

pub use config::Config;
pub use node::{EmbeddedNode, Listeners, Node};
pub use pages::page;
pub use problem::Problem;
