//! Test-only: starts the real binary and other servers, and makes sure that they end.
//!
//! Every child runs in a process group of its own. A group is killed when its owner is dropped and
//! when this process is interrupted, so a failed or cancelled run leaves nothing behind. Nothing
//! here ends a process that it did not start.

mod group;
mod node;

pub use group::{Group, interrupted, kill_groups_on_interrupt};
pub use node::{Launch, Node};
