//! Deliverable, heavy: the running node.
//!
//! Everything the pure crates are not allowed to do happens here: the environment and files are
//! read, sockets opened, threads started, clocks asked. The rule of the house: `wharf-server` adds
//! no meaning of its own to a request; it moves bytes between sockets and the broker and keeps
//! both within their limits.

pub mod config;
mod pages;
mod problem;

pub use config::Config;
pub use pages::page;
pub use problem::Problem;
